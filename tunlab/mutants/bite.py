"""Whether the judge bites: plants faults into a lab that is in order, and asks the suites what they see of them."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunlab.check.cell import LabCell
from tunlab.check.note import FILE, HOST, LIVE
from tunlab.check.observe import PARTS, ping_all
from tunlab.check.requirement import Pending, Requirement, requirement_of
from tunlab.check.stage import Stage
from tunlab.check.stimuli import START
from tunlab.check.verdict import NotOffered, Verdict, judge
from tunlab.errors import LabError, WorldError
from tunlab.lab.load import lab_names, load_lab
from tunlab.lab.mistakes import refuse
from tunlab.lab.topology import Mode
from tunlab.mutants.mutant import AnyMutant, Known, Mutant, fill, load_mutants
from tunlab.mutants.words import LabWords
from tunlab.node.tables import lasting
from tunlab.paths import ROOT
from tunlab.systems.catalogue import REFNET
from tunlab.wait import NeverHappened, eventually

CORPUS = ROOT / "fixtures" / "mutants"
MUTANTS = CORPUS / "core.yaml"
SUITES = ROOT / "suites"
_FORGET = ("ip", "route", "flush", "cache")
# What a place holds beside the tables: settings, all routing tables, packet filters, queues, listeners. Whether a fault
# did anything at all is told by this; what changes by itself or stays for good is left out: counters, link-local and
# multicast routes, a filter's empty table once somebody has used it, how a set is hashed, the queue of who has none.
_BESIDES = r"""
grep -s '' /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_default_ttl
grep -rs '' /proc/sys/net/ipv4/conf /proc/sys/net/ipv4/neigh /proc/sys/net/ipv6/conf /proc/sys/net/ipv6/neigh
printf 'rule\nroute show table all\n' | ip -batch -
printf 'rule\nroute show table all\n' | ip -6 -batch - | grep -v -e fe80: -e ff00:
for family in ip ip6; do
  for table in $(cat /proc/net/${family}_tables_names 2>/dev/null); do ${family}tables-legacy-save -t $table; done
done | sed -n -e '/^-/p' -e '/^:[^ ]* ACCEPT/!s/^\(:.*\) .*/\1/p'
if command -v nft >/dev/null; then nft -s list ruleset; fi
ipset save | sed -E 's/ (hashsize|initval|bucketsize) [^ ]+//g'
tc qdisc show | grep -v -e '^qdisc noop ' -e '^qdisc noqueue '
ss -ltunH
"""


@dataclass(frozen=True)
class Judged:
    """What one requirement said."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Bite:
    """What became of one mutant. `red` and `broken` are reasons by id.

    `leftover` says what its undoing left behind in a system that repairs; another one gets a new lab instead.
    """

    mutant: Mutant
    red: Mapping[str, str]
    broken: Mapping[str, str]
    asked: frozenset[str]
    is_stillborn: bool
    is_noticed_by_ping: bool
    leftover: str
    seconds: float

    @property
    def missed(self) -> tuple[str, ...]:
        """What should have turned red and did not."""
        return tuple(id for id in self.mutant.caught_by if id not in self.red)

    @property
    def beside(self) -> tuple[str, ...]:
        """What else turned red, of all that was asked."""
        return tuple(sorted(set(self.red) - set(self.mutant.caught_by)))


@dataclass(frozen=True)
class Proof:
    """A requirement together with the test that proves it."""

    requirement: Requirement
    test: Callable[[Any], None]


def load_proofs(folder: Path = SUITES) -> dict[str, Proof]:
    """Every requirement of the suites in a folder, by id. Raises whatever a suite raises when it is imported."""
    found: dict[str, Proof] = {}
    for path in sorted(folder.glob("test_*.py")):
        for value in vars(_imported(path)).values():
            declared = requirement_of(value)
            if declared is not None:
                found[declared.id] = Proof(declared, value)
    return found


def _imported(path: Path) -> Any:
    name = f"tunlab_proofs_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None, f"{path}: no Python file"
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


def load_core(proofs: Mapping[str, Proof], path: Path = MUTANTS) -> tuple[Mutant, ...]:
    """The faults of a file that are planted in a finished lab. Raises LabError."""
    return tuple(one for one in load_corpus(proofs, [path]) if isinstance(one, Mutant))


def load_corpus(proofs: Mapping[str, Proof], paths: Iterable[Path] | None = None) -> tuple[AnyMutant, ...]:
    """The mutants of these files, or of all in fixtures/mutants, checked against the labs of labs/ and these
    requirements. Raises LabError that holds all mistakes."""
    known = Known(
        {name: load_lab(name) for name in lab_names()}, {id: proof.requirement for id, proof in proofs.items()}
    )
    found: dict[str, AnyMutant] = {}
    mistakes: list[str] = []
    for path in sorted(CORPUS.rglob("*.yaml")) if paths is None else paths:
        try:
            mutants = load_mutants(path, known)
        except LabError as error:
            mistakes += error.mistakes or (str(error),)
            continue
        twice = [one.name for one in mutants if one.name in found]
        mistakes += [f"{path}: {name}: taken by another file\n  hint: rename one" for name in twice]
        found |= {one.name: one for one in mutants}
    if mistakes:
        raise refuse(mistakes)
    return tuple(found.values())


@dataclass
class Teeth:
    """A cell, the proofs that apply to it, and what each of them looks at, learned from the unharmed lab.

    `open_cell` makes the cell, and another one where a fault could not be undone. In a kernel where a process costs
    much, proofs that do something to the lab are not asked, and those that run commands only where they are expected.
    """

    open_cell: Callable[[], LabCell]
    proofs: Mapping[str, Proof]
    repaired_within_s: float = 8.0
    _cell: LabCell | None = None
    _looks_at: dict[str, frozenset[str]] = field(default_factory=dict)
    _pings: Mapping[str, str] = field(default_factory=dict)
    _known_state: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _wrong: Mapping[str, Judged] | None = None  # in the open cell without any fault; None: nobody has asked it yet

    @property
    def cell(self) -> LabCell:
        """The cell, opened when it is first asked for."""
        if self._cell is None:
            self._cell = self.open_cell()
            self._pings = ping_all(self._cell.live)
        return self._cell

    def close(self) -> None:
        """Take the lab down."""
        cell, self._cell = self._cell, None
        self._known_state, self._wrong = {}, None
        if cell is not None:
            cell.close()

    def baseline(self) -> dict[str, Judged]:
        """What each proof that applies says of the unharmed lab; what it looked at meanwhile is learned."""
        self._looks_at = {}
        verdicts = {}
        for id, proof in self.proofs.items():
            if not proof.requirement.scene and proof.requirement.applies(self.cell.topology, self.cell.mode):
                with self.cell.noted(only_looks=self._is_slow) as notes:
                    verdict = ask(self.cell, proof)
                if LIVE not in notes or not self._is_slow:
                    verdicts[id], self._looks_at[id] = verdict, frozenset(notes)
        fine = (Verdict.PASSED, Verdict.NOT_OFFERED)
        self._wrong = {id: one for id, one in verdicts.items() if one.verdict not in fine}
        return verdicts

    def bite(self, mutant: Mutant) -> Bite:
        """Plant one fault, look again as far as needed, judge, undo. Raises WorldError, also where somebody whom it
        names is red before: each cell that is opened has a baseline of its own."""
        self._expect_witnesses(mutant)
        begun, cell, live = time.monotonic(), self.cell, self.cell.live
        places = list(dict.fromkeys((*live.node_names(), *mutant.places)))
        self._known_state |= self._state([place for place in places if place not in self._known_state])
        before = {place: self._known_state[place] for place in places}
        words, repairs = LabWords(cell), self._repairs
        do, undo = ([(step.place, fill(step, words)) for step in steps] for steps in (mutant.do, mutant.undo))
        try:
            with self._still(mutant.freeze):
                try:
                    self._run(do)
                    is_changed = any(lines != before[place] for place, lines in self._state(mutant.places).items())
                    parts = self._parts(mutant)
                    cell.observe_again(mutant.name, parts)
                    pings = ping_all(live)
                    asked = self._can_see(parts) | set(mutant.caught_by)
                    verdicts = {id: ask(cell, self.proofs[id]) for id in sorted(asked)}
                finally:
                    self._run(undo)
            leftover = "; ".join((*self._forget_paths(), *self._wait_restored(places, before)))
        except BaseException:
            self.close()  # nobody knows what state it is in
            raise
        if leftover:
            self.close()
        red = {id: one.reason for id, one in verdicts.items() if one.verdict is Verdict.FAILED}
        return Bite(
            mutant=mutant,
            red=red,
            broken={id: one.reason for id, one in verdicts.items() if one.verdict is Verdict.BROKEN},
            asked=asked,
            is_stillborn=not is_changed and not red,
            is_noticed_by_ping=pings != self._pings,
            leftover=leftover if repairs else "",
            seconds=time.monotonic() - begun,
        )

    # ------------------------------------------------------------------ inner workings
    def _expect_witnesses(self, mutant: Mutant) -> None:
        """Who is red without any fault tells nothing of this one; where something is broken, nobody does.

        refnet is ours, and nothing of it may be red by itself.
        """
        if self._wrong is None:
            self.baseline()
        wrong = self._wrong or {}
        is_ours = self.cell.live.installation.recipe.name == REFNET
        torn = {
            id: one for id, one in wrong.items() if is_ours or id in mutant.caught_by or one.verdict is Verdict.BROKEN
        }
        if torn:
            said = (f"{id} is {one.verdict.words} without any fault: {one.reason}" for id, one in torn.items())
            raise WorldError(f"{self.cell.name}: {'; '.join(said)}")

    def _parts(self, mutant: Mutant) -> frozenset[str]:
        """What must be observed so that the requirements which are to catch it can see it."""
        unknown = [id for id in mutant.caught_by if FILE in self._looks_at.get(id, {FILE})]
        if unknown:
            told = "not asked of the unharmed lab, or of its start alone"
            raise WorldError(f"{mutant.name}: {', '.join(unknown)}: {told}")
        return frozenset().union(*(self._looks_at[id] for id in mutant.caught_by)) & PARTS

    def _can_see(self, parts: Collection[str]) -> frozenset[str]:
        """The proofs that look at nothing else than these parts, and cost nothing worth mentioning."""
        seen = {START, *parts} if self._is_slow else {START, HOST, *parts}
        return frozenset(
            id for id, looked in self._looks_at.items() if looked <= seen and id not in (self._wrong or {})
        )

    @property
    def _repairs(self) -> bool:
        return "repairs-on-event" in self.cell.live.installation.recipe.abilities

    @property
    def _is_slow(self) -> bool:
        return self.cell.live.box.kind == "uml"

    def _run(self, commands: Sequence[tuple[str, str]]) -> None:
        for place, text in commands:
            self.cell.live.box.run(place, ["sh", "-eu", "-c", text])

    @contextmanager
    def _still(self, freeze: bool) -> Iterator[None]:
        """Meanwhile the system's processes on the nodes are stopped, if `freeze`."""
        live = self.cell.live
        if not freeze:
            yield
            return
        live.installation.freeze(live.node_names())
        try:
            yield
        finally:
            live.installation.thaw(live.node_names())

    def _state(self, places: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """All that a fault may have changed at these places, as lines; what changes by itself is left out."""
        live = self.cell.live
        tables = live.tables(places)
        besides = live.box.gather([(place, ("sh", "-c", _BESIDES)) for place in places], check=False)
        return {done.place: tuple(sorted((*done.out.splitlines(), *lasting(tables[done.place])))) for done in besides}

    def _forget_paths(self) -> list[str]:
        """Path MTUs that pods learned stay for ten minutes and would be the next fault's; answers what cannot be
        forgotten. Like: ip route flush cache"""
        live = self.cell.live
        live.box.gather([(place, _FORGET) for place in (*live.workloads, *live.node_names())])
        caches = live.box.gather([(pod, ("ip", "-o", "route", "show", "cache")) for pod in live.workloads])
        return [f"{done.place}: learned {line}" for done in caches for line in done.out.splitlines() if " mtu " in line]

    def _wait_restored(self, places: Sequence[str], before: Mapping[str, tuple[str, ...]]) -> list[str]:
        """What differs from before; nothing, once all is repaired. The system is given time for that."""

        def left() -> list[str]:
            now = self._state(places)
            return [
                f"{place}: {sign} {line}"
                for place in places
                for sign, more, less in (("too much:", now, before), ("missing:", before, now))
                for line in sorted(set(more[place]) - set(less[place]))
            ]

        found = left()
        if found and self._repairs:
            try:
                found = eventually(
                    left, lambda lines: not lines, within_s=self.repaired_within_s, what="all is as before the fault"
                )
            except NeverHappened:
                found = left()
        return found


def ask(cell: Stage, proof: Proof) -> Judged:
    """Judge one requirement on a cell as it was last observed."""
    for ability in proof.requirement.needs:
        if why := cell.lacks(ability):
            return Judged(Verdict.NOT_OFFERED, why)
    cell.expectations = Pending()
    try:
        proof.test(cell)
        cell.expectations.settle()
    except NotOffered as error:
        return Judged(Verdict.BROKEN, f"said only during the test that it is not offered: {error}")
    except Exception as error:  # noqa: BLE001 - whose fault it is, is exactly what is asked
        return Judged(*judge(error))
    return Judged(Verdict.PASSED, "")


def by_cell(mutants: Iterable[Mutant]) -> dict[tuple[str, Mode], list[Mutant]]:
    """Mutants by the lab and mode that they want, in their order."""
    found: dict[tuple[str, Mode], list[Mutant]] = {}
    for mutant in mutants:
        found.setdefault((mutant.lab, mutant.mode), []).append(mutant)
    return found
