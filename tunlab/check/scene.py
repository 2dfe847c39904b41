"""A scene: a lab of its own for requirements that do something to it, one after the other.

Each test leaves the lab as it found it; a lab that a test has failed in, or that differs afterwards, is thrown away.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import testinfra.host
import yaml

from tunlab.box.box import Completed
from tunlab.box.start import fresh_run_dir, start_box
from tunlab.check.convergence import wait_converged
from tunlab.check.manifests import manifest_text
from tunlab.check.matrix import Expected, Matrix, Question, ask_rounds
from tunlab.check.requirement import Requirement, visited
from tunlab.check.selection import Options
from tunlab.check.stage import Stage, choose_box, closed_on_error, system_of
from tunlab.check.verdict import NotOffered, Verdict
from tunlab.check.witnesses import Changes, Flow, flowing, monitored
from tunlab.errors import LabError, SystemFault, TunlabError, WorldError
from tunlab.lab.topology import Mode, Pod, Topology
from tunlab.live.lab import LiveLab, Workload
from tunlab.node.tables import Tables, lasting, read_tables
from tunlab.systems.recipe import STORE_PORT, System
from tunlab.wait import NeverHappened, eventually, time_factor
from tunlab.wire.decode import Capture, decode
from tunlab.wire.expect import Seen
from tunlab.wire.tap import TapPoint, Wire

T = TypeVar("T")
_READY_WITHIN_S = 60.0
_SILENCE_S, _ANSWER_S = 1.0, 2.0
_SETTLED_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.1  # a look may start a program on every node
_ROUNDS = 3
_NEXT_SILENCE_S, _NEXT_ANSWER_S = 0.3, 0.05  # from one round to the next, where a silence is expected and where none is
_SMALL_BYTES = 56
_LAST_IDENTIFIER = 0xFFFF
_WINDOW = "scene"
# Kinds that nobody but a user writes, and how to list them all. To start calicoctl is most of what a test takes in uml.
_NOBODY_ELSES = {
    "NetworkPolicy": ("-a",),
    "NetworkSet": ("-a",),
    "GlobalNetworkPolicy": (),
    "GlobalNetworkSet": (),
}


@dataclass
class Recording:
    """What taps saw; `frames` is there once the block has ended."""

    capture: Capture | None = None

    @property
    def frames(self) -> Seen:
        """All frames of the block, of every tap. Raises WorldError before its end."""
        if self.capture is None:
            raise WorldError("capture: look at the frames: the block has not ended")
        return self.capture.window(_WINDOW)


class Scene(Stage):
    """What the tests of one scene share: the lab on its feet, and hands to do things to it."""

    def __init__(self, live: LiveLab, mode: Mode, scene: str, out: Path, why_box: str = "") -> None:
        super().__init__(live, mode, out, why_box)
        self.scene = scene
        self._facts: list[str] = []
        self._evidence: list[str] = []
        self._listening: set[str] = set()
        self._number = itertools.count(1)
        self._identifier = 1
        self._left: Mapping[str, Tables] = {}  # what the last test left, which is what the next one finds
        self._empty: set[str] = set()  # kinds of which nothing is stored

    @property
    def name(self) -> str:
        """Lab, mode and scene, as evidence is called."""
        return f"{super().name}-{self.scene}"

    # ------------------------------------------------------------------ the lab
    @property
    def live(self) -> LiveLab:
        """The lab itself."""
        return self._live

    @property
    def workloads(self) -> Mapping[str, Workload]:
        """The pods that are up now."""
        return self._live.workloads

    def host(self, place: str) -> testinfra.host.Host:
        """A node, router or pod, through testinfra."""
        return self._live.host(place)

    def tables(self, place: str) -> Tables:
        """The kernel tables of a place, read now."""
        return read_tables(self._live.host(place), place)

    def run(self, place: str, command: str | Sequence[str], *, stdin: str = "", check: bool = True) -> Completed:
        """Run shell text, or a program with its arguments. Raises CommandFailed if `check` and it fails."""
        argv = ["sh", "-eu", "-c", command] if isinstance(command, str) else list(command)
        return self._live.box.run(place, argv, stdin=stdin, check=check)

    # ------------------------------------------------------------------ manifests
    def ctl(self, *words: str, stdin: str = "", node: str = "", check: bool = True) -> Completed:
        """The system's own calicoctl on a node (the first). Raises SystemFault if `check` and it refuses."""
        recipe = self._live.installation.recipe
        if not recipe.ctl:
            raise LabError(f"{recipe.name}: has no program that applies manifests")
        if words[:1] != ("get",):
            self._empty.clear()
        at = node or self.topology.nodes[0].name
        env = recipe.shell_env.get(at, {})
        done = self._live.box.run(at, [*recipe.ctl, *words], stdin=stdin, env=env, check=False)
        if check and done.rc != 0:
            raise SystemFault(f"{at}: {done}: {(done.err or done.out).strip()}")
        return done

    @contextmanager
    def applied(self, *documents: str | Path | Mapping[str, Any]) -> Iterator[None]:
        """Apply YAML texts, files (paths from the checkout's top) or objects; afterwards all is as it was before."""
        wanted = [one for document in documents for one in read_documents(document)]
        before = [self._stored(one) for one in wanted]
        empty = set(self._empty)
        self.ctl("apply", "-f", "-", stdin=yaml.safe_dump_all(wanted, sort_keys=False))
        with _undone(partial(self._restore, wanted, before, empty)):
            yield

    def _restore(
        self, wanted: Sequence[dict[str, Any]], before: Sequence[dict[str, Any] | None], empty: set[str]
    ) -> None:
        new = [one for one, old in zip(wanted, before, strict=True) if old is None]
        old = [one for one in before if one is not None]
        if old:
            self.ctl("apply", "-f", "-", stdin=yaml.safe_dump_all(old, sort_keys=False))
        if new:
            self.ctl("delete", "-f", "-", stdin=yaml.safe_dump_all(list(reversed(new)), sort_keys=False))
        self._empty |= empty  # whatever else was applied meanwhile, it was undone before

    def _stored(self, document: Mapping[str, Any]) -> dict[str, Any] | None:
        """The object as it is stored now; None if there is none."""
        metadata, kind = document.get("metadata", {}), str(document["kind"])
        if kind in _NOBODY_ELSES and self._has_none(kind):
            return None
        place = ["-n", metadata["namespace"]] if metadata.get("namespace") else []
        done = self.ctl("get", kind, str(metadata["name"]), *place, "-o", "yaml", check=False)
        if done.rc != 0:
            return None
        found: dict[str, Any] = yaml.safe_load(done.out)
        for name in ("resourceVersion", "uid", "creationTimestamp"):
            found.get("metadata", {}).pop(name, None)
        return found

    def _has_none(self, kind: str) -> bool:
        """Whether nothing of a kind is stored, asked once: until somebody writes, it stays so."""
        if kind not in self._empty:
            done = self.ctl("get", kind, *_NOBODY_ELSES[kind], "-o", "yaml", check=False)
            if done.rc == 0 and not (yaml.safe_load(done.out) or {}).get("items"):
                self._empty.add(kind)
        return kind in self._empty

    # ------------------------------------------------------------------ pods and nodes
    @contextmanager
    def pod(
        self,
        name: str,
        node: str,
        *,
        namespace: str = "default",
        address: Any = None,
        labels: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Iterator[Workload]:
        """One more pod, gone afterwards; `config` overrides keys of the CNI configuration."""
        pod = Pod(name, node, namespace, address, tuple((labels or {}).items()))
        workload = self._live.launch(pod, config)
        with _undone(partial(self._take_away, name)):
            yield workload

    def _take_away(self, name: str) -> None:
        self._silence(name)
        if name in self._live.workloads:
            self._live.remove(name)

    def kill_agent(self, node: str, signal: str = "KILL") -> None:
        """End the system's programs on a node, and wait until they have."""
        self._live.installation.kill(node, signal)

    def start_agent(
        self, node: str, *, env: Mapping[str, str] | None = None, ready_within_s: float = _READY_WITHIN_S
    ) -> None:
        """Start them again, with more in their environment, and wait until the system is ready everywhere."""
        self._live.installation.start(node, env)
        self._live.installation.wait_ready(ready_within_s)

    def restart(self, node: str) -> None:
        """Kill the system's programs on a node and start them again."""
        self.kill_agent(node)
        self.start_agent(node)

    # ------------------------------------------------------------------ probes
    @contextmanager
    def listening(self, place: str, *, tcp: Sequence[int] = (), udp: Sequence[int] = ()) -> Iterator[None]:
        """Meanwhile a responder there says who it is, and whom it saw."""
        self._live.box.ask("probes", "listen", place=place, name=place, tcp=list(tcp), udp=list(udp))
        self._listening.add(place)
        try:
            yield
        finally:
            self._silence(place)

    def _silence(self, place: str) -> None:
        if place in self._listening:
            self._listening.discard(place)
            self._live.box.ask("probes", "unlisten", place=place)

    def answer(self, by: str | None = None, saw: str | None = None) -> Expected:
        """An answer; `by` is the target and `saw` the asker's own address unless said otherwise."""
        return Expected(("answered",), by=by, saw=saw)

    def silence(self) -> Expected:
        """No answer: nothing came back, or an ICMP error."""
        return Expected.no_answer()

    def refusal(self) -> Expected:
        """The target's kernel said that nobody listens there."""
        return Expected(("refused",))

    def question(
        self,
        source: str,
        target: str,
        protocol: str = "icmp",
        *,
        port: int = 0,
        expect: Expected | None = None,
        family: int = 4,
    ) -> Question:
        """`source` (a place) asks `target`: a pod, a node, another place of the lab, or an address.

        In a lab with both families `family=6` asks at the IPv6 address. What is expected must be looked at before the
        test ends: by `settle`, `holds`, or `ask(…)` and `check`.
        """
        address, by = self._address(target, family)
        expected = expect or self.answer()
        if expected.outcomes == ("answered",):
            own, _ = self._address(source, 6 if ":" in address else 4)
            expected = replace(expected, by=expected.by or by, saw=expected.saw or own)
        size_name = (f"port {port}" if port else "echo") + (" over IPv6" if family == 6 else "")
        timeout_s = (_ANSWER_S if expected.outcomes == ("answered",) else _SILENCE_S) * time_factor()
        asked = Question(
            source, target, address, protocol, _SMALL_BYTES, expected, size_name, port, timeout_s=timeout_s
        )
        return self._declared(asked)

    def expecting(self, question: Question, expected: Expected) -> Question:
        """The same question, of which exactly this is expected, and what was before no more."""
        self.expectations.judged([question])
        return self._declared(replace(question, expected=expected))

    def _declared(self, question: Question) -> Question:
        self.expectations.ask(question, f"{question.name}: {question.expected}")
        return question

    def ask(self, questions: Sequence[Question]) -> Matrix:
        """Ask all at once, once."""
        return self._ask_rounds(questions, 1)[0]

    def _ask_rounds(self, questions: Sequence[Question], rounds: int) -> list[Matrix]:
        """Ask all several times. A silence takes its second to hear, so the next round begins in the midst of it."""
        count = len(questions) * rounds
        if self._identifier + count > _LAST_IDENTIFIER:
            self._identifier = 1
        first, self._identifier = self._identifier, self._identifier + count
        is_quick = all(question.expected.outcomes in (("answered",), ("refused",)) for question in questions)
        apart_s = (_NEXT_ANSWER_S if is_quick else _NEXT_SILENCE_S) * time_factor()
        test = f"{self.scene}{next(self._number)}"
        asked = ask_rounds(self._live.box, questions, rounds, apart_s=apart_s, test=test, first_identifier=first)
        return [replace(matrix, on_judged=self._judged) for matrix in asked]

    def _judged(self, questions: Iterable[Question]) -> None:
        self.expectations.judged(questions)

    def settle(self, questions: Sequence[Question], *, within_s: float = _SETTLED_WITHIN_S) -> None:
        """Ask until all is as expected, three times in a row, beginning within that time. Raises AssertionError."""

        def wrong() -> tuple[str, ...]:
            matrices = self._ask_rounds(questions, _ROUNDS)
            if gaps := [gap for matrix in matrices for gap in matrix.gaps()]:
                raise WorldError("; ".join(gaps))
            return next((lines for matrix in matrices if (lines := matrix.mismatches())), ())

        try:
            self.eventually(wrong, lambda lines: not lines, within_s=within_s, what=f"{self.name}: all is as expected")
        except NeverHappened as error:
            self.ask(questions).check()
            raise AssertionError(str(error)) from error  # it is right only now, or comes and goes

    def holds(self, questions: Sequence[Question], *, times: int = 3) -> None:
        """Ask that many times more: all must be as expected each time. Raises MatrixMismatch, WorldError."""
        for matrix in self._ask_rounds(questions, times):
            matrix.check()

    def _address(self, target: str, family: int = 4) -> tuple[str, str | None]:
        """The address of a place, and who answers there; an address as it is, and anybody.

        Raises SystemFault where a pod has no IPv6 address, LabError where a host has none.
        """
        if target in self.workloads:
            pod = self.workloads[target]
            if family == 6 and pod.address6 is None:
                raise SystemFault(f"{self.name}: {target}: its CNI result lists no IPv6 address")
            return str(pod.address if family == 4 else pod.address6), target
        for host in self.topology.hosts:
            if host.name == target:
                near = host.attachments[0]
                if family == 6 and near.address6 is None:
                    raise LabError(f"{self.topology.name}: {target}: has no IPv6 address")
                return str(near.address.ip if family == 4 or near.address6 is None else near.address6.ip), target
        return target, None

    # ------------------------------------------------------------------ watching
    @contextmanager
    def capture(self, *taps: str) -> Iterator[Recording]:
        """What these taps (`node1/eth0`) see during the block, in one file that is kept as evidence."""
        vxlan_port = self._live.installation.recipe.dialect.vxlan_port
        name = f"captures/{self.name}-{next(self._number)}.pcapng"
        wire, recording = Wire(self._live.box), Recording()
        wire.open(name, [TapPoint.named(tap, STORE_PORT if tap.endswith("/eth0") else None) for tap in taps])
        try:
            with wire.window(_WINDOW):
                yield recording
        finally:
            kept = self._out / name
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(wire.finish(), kept)
            self._evidence.append(name)
        recording.capture = decode(kept, vxlan_ports=(vxlan_port,))

    @contextmanager
    def flow(self, source: str, target: str, *, every_s: float = 0.02) -> Iterator[Flow]:
        """A steady ping from before the block to its end."""
        log = f"logs/flow-{next(self._number)}.log"
        with flowing(self._live.box, source, self._address(target)[0], every_s, log) as flow:
            yield flow

    @contextmanager
    def monitor(self, place: str, *objects: str) -> Iterator[Changes]:
        """What `ip monitor` says of these objects (route, neigh, link, address) during the block."""
        log = f"logs/monitor-{next(self._number)}.log"
        with monitored(self._live.box, place, objects or ("route",), log) as changes:
            yield changes

    def eventually(
        self, look: Callable[[], T], is_right: Callable[[T], object], *, within_s: float, what: str, in_a_row: int = 1
    ) -> T:
        """Look until it is right. Raises the system's fault, which says late or never.

        A box that is slow by itself, or for what else the machine does, has as much more time.
        """
        return eventually(
            look,
            is_right,
            within_s=within_s,
            every_s=_LOOK_EVERY_S,
            what=what,
            in_a_row=in_a_row,
            slowness=self._live.box.slowness,
        )

    def fact(self, text: str) -> None:
        """A figure that was measured on the way and that users want to see."""
        self._facts.append(text)

    # ------------------------------------------------------------------ the plugin's side
    def begin(self, requirement: Requirement) -> None:
        """Note the state before a test."""
        del requirement
        self._facts, self._evidence = [], []
        self._before = self._left or self._live.tables(self._live.node_names())
        self._left = {}

    def end(self, requirement: Requirement, verdict: Verdict) -> Sequence[str]:
        """Captures and facts; of what did not pass also tables, commands and logs. Then nobody else may use the lab."""
        evidence = list(self._evidence)
        if self._facts:
            path = self._out / "facts" / f"{requirement.id}-{self.name}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(f"{fact}\n" for fact in self._facts))
            evidence.append(str(path.relative_to(self._out)))
        if verdict in (Verdict.FAILED, Verdict.BROKEN):
            self.is_spent = True
            evidence += self.write_failure(requirement, self._before, {})
        elif not self._is_as_before():
            self.is_spent = True
        return evidence

    def close(self) -> None:
        """Write down what was run, and take the lab down."""
        self.write_commands()
        self._live.box.close()

    def _is_as_before(self) -> bool:
        wanted = {place: sorted(lasting(tables)) for place, tables in self._before.items()}

        def is_wanted(seen: Mapping[str, Tables]) -> bool:
            return {place: sorted(lasting(tables)) for place, tables in seen.items()} == wanted

        try:
            left = eventually(
                lambda: self._live.tables(wanted), is_wanted, within_s=3.0, what="the lab is as before", late_s=0.0
            )
        except NeverHappened:
            return False
        if self._live.installation.dead():
            return False
        self._left = left
        return True

    # ------------------------------------------------------------------ making it
    def set_up(self, system: System) -> None:
        """Build, install, launch, and wait until the kernel tables have settled."""
        live = self._live
        live.build()
        live.install(system, self.mode, _READY_WITHIN_S)
        live.launch_all()
        wait_converged(live)


@contextmanager
def _undone(undo: Callable[[], None]) -> Iterator[None]:
    """Undo at the end. After a failure, what the undoing says would only hide it: the lab is thrown away anyway."""
    try:
        yield
    except BaseException:
        with suppress(TunlabError):
            undo()
        raise
    undo()


def read_documents(document: str | Path | Mapping[str, Any]) -> list[dict[str, Any]]:
    """The objects of a YAML text, of a file (a path from the checkout's top), or one object as it is."""
    if isinstance(document, Mapping):
        return [dict(document)]
    is_file = isinstance(document, Path) or ("\n" not in document and document.endswith((".yaml", ".yml")))
    text = manifest_text(document) if is_file else str(document)
    return [one for one in yaml.safe_load_all(text) if one is not None]


def open_scene(lab: Topology, mode: Mode, scene: str, options: Options) -> Scene:
    """Set a scene up. Raises NotOffered, SystemFault (the system's doing) or WorldError (everything else)."""
    system = system_of(options)
    if mode not in system.modes:
        raise NotOffered(f"{system.name} does not offer mode {mode}")
    kind, why = choose_box(options.box, [mode, *sorted(visited(scene))])
    box = start_box(kind, fresh_run_dir(f"conform-{lab.name}-{mode}-{scene}"))
    opened = Scene(LiveLab(lab, box), mode, scene, options.out.resolve(), why)
    with closed_on_error(opened):
        opened.set_up(system)
    return opened
