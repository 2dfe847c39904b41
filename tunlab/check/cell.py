"""A cell: one lab in one mode with a system in it, observed once, and open for as long as tests look at it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import testinfra.host

from tunlab.box.start import fresh_run_dir, start_box
from tunlab.check.convergence import wait_converged
from tunlab.check.note import HOST, LIVE, Noting, Untouchable
from tunlab.check.observe import PARTS, Observation, Watch, capture_name, look_again, look_first, observe, observe_start
from tunlab.check.requirement import Requirement
from tunlab.check.selection import Options
from tunlab.check.stage import Stage, choose_box, closed_on_error, system_of
from tunlab.check.stimuli import Crossing, Echo, Passage
from tunlab.check.verdict import NotOffered, Verdict
from tunlab.errors import WorldError
from tunlab.lab.load import find_lab
from tunlab.lab.topology import Mode, Topology
from tunlab.live.lab import LiveLab, Workload
from tunlab.live.standing import keep_standing, start
from tunlab.node.tables import Link
from tunlab.systems.recipe import System
from tunlab.wait import SystemNeverDid
from tunlab.wire.expect import Seen


class LabCell(Stage):
    """What suites judge: all that was seen is in `seen`; `live` is the lab itself, for tests that do something."""

    def __init__(
        self,
        live: LiveLab,
        mode: Mode,
        out: Path,
        why_box: str = "",
        keep: Callable[[LiveLab], None] | None = None,
    ) -> None:
        """`keep`: what has the lab stay when the cell is closed."""
        super().__init__(live, mode, out, why_box)
        self._keep = keep
        self._notes: set[str] | None = None
        self._only_looks = False
        self._seen: Observation | None = None
        self.late: str | None = None

    # ------------------------------------------------------------------ for suites
    @property
    def live(self) -> LiveLab:
        """The lab itself, for tests that do something."""
        if self._notes is not None:
            self._notes.add(LIVE)
            if self._only_looks:
                raise Untouchable(f"{self.name}: is only looked at just now")
        return self._live

    @property
    def seen(self) -> Observation:
        """What was observed once the pods were up. Raises WorldError if nothing was."""
        if self._seen is None:
            raise WorldError(f"{self.name}: nothing was observed")
        return self._seen

    @property
    def workloads(self) -> Mapping[str, Workload]:
        """The pods, as their CNI results described them."""
        return self.seen.oracle.workloads

    def host(self, place: str) -> testinfra.host.Host:
        """A node, router or pod, through testinfra."""
        if self._notes is not None:
            self._notes.add(HOST)
        return self._live.host(place)

    def crossings(self, carriage: str | None = None) -> list[Crossing]:
        """Requests and replies between pods of different nodes that are to arrive; of one carriage where named."""
        stimuli = self.seen.stimuli
        found = [stimuli.crossing(echo, reply=reply) for echo in stimuli.pairs for reply in (False, True)]
        return [
            one for one in found if not one.is_local and one.reaches and (carriage is None or one.carriage == carriage)
        ]

    def stranded(self) -> list[Crossing]:
        """The requests between pods that cannot arrive, because a router in between knows no pods."""
        found = [self.seen.stimuli.crossing(echo) for echo in self.seen.stimuli.pairs]
        return [one for one in found if not one.reaches]

    def outcome(self, echo: Echo) -> str:
        """The probe's own word for what became of an echo."""
        return str(self.seen.result(echo)["outcome"])

    def frames_of(self, passage: Passage) -> Seen:
        """The frames of one packet at one tap, whatever they are wrapped in; a link carries it once."""
        crossing = passage.crossing
        window = self.seen.capture.window(crossing.echo.window).on(passage.tap).going(passage.direction)
        return window.echo(crossing.echo.identifier).of_kind(crossing.kind)

    def link(self, node: str, device: str | None) -> Link:
        """One device of a node, as it was. Raises AssertionError when the node has no such device."""
        links = self.seen.tables[node].links
        assert device is not None and device in links, (
            f"{node}: has no device {device}; it has {', '.join(sorted(links))}"
        )
        return links[device]

    def tunnel_address(self, node: str) -> str:
        """The one address of a node's tunnel device, without its length."""
        device = str(self.seen.oracle.tunnel_device)
        found = sorted(self.seen.tables[node].addresses_on(device))
        assert len(found) == 1, f"{node}: {device}: has {found}, wanted one address"
        return found[0].partition("/")[0]

    # ------------------------------------------------------------------ the plugin's side
    def begin(self, requirement: Requirement) -> None:
        """Note the state before a test."""
        del requirement
        self._before = self.seen.tables if self._seen is not None else {}

    def end(self, requirement: Requirement, verdict: Verdict) -> Sequence[str]:
        """The evidence: always the capture; of what did not pass also tables, commands and logs."""
        evidence = [] if self._seen is None else [str(self._seen.capture.path.relative_to(self._out))]
        if verdict in (Verdict.FAILED, Verdict.BROKEN):
            evidence += self.write_failure(requirement, self._before, self._echoes())
        return evidence

    def close(self) -> None:
        """Write down what was run, and take the lab down, or let it stand where that was asked for."""
        self.write_commands()
        if self._keep is not None:
            self._keep(self._live)
        self._live.box.close()

    def _echoes(self) -> dict[str, str]:
        return {} if self._seen is None else {"echoes.json": json.dumps(dict(self._seen.results), indent=1)}

    # ------------------------------------------------------------------ making it
    def observe(self, system: System) -> None:
        """Build, install, launch and look, in that order, with the taps open before the system starts."""
        live = self._live
        live.build()
        watch = Watch(live, capture_name(self.topology.name, self.mode))
        installation = live.choose(system, self.mode)
        installation.place_files()
        installation.start_store()
        installation.run_setup()
        observe_start(live, watch, [installation.start_daemons, lambda: installation.wait_ready(40.0)])
        live.launch_all()
        try:
            wait_converged(live)
        except SystemNeverDid as error:
            self.late = str(error)  # the exact sets will say so, with all that is missing
        watch.watch_workloads()
        self._take(observe(live, watch))

    def look(self, parts: Collection[str] = PARTS) -> None:
        """Look at `parts` and the tables of a lab that stands already: what it said while it started is not known."""
        name = capture_name(self.topology.name, self.mode)
        self._take(look_first(self._live, name, parts))

    def observe_again(self, label: str, parts: Collection[str] = PARTS) -> None:
        """Look at `parts` and the tables of the same lab as it is now, with a fault in it for instance."""
        name = capture_name(self.topology.name, self.mode, f"-{label}")
        self._take(look_again(self._live, self.seen, name, parts))

    @contextmanager
    def noted(self, *, only_looks: bool = False) -> Iterator[set[str]]:
        """Meanwhile note what of this cell is looked at: parts of the observation, HOST, LIVE.

        With `only_looks`, whoever would do something to the lab gets Untouchable.
        """
        seen, notes = self._seen, set[str]()
        if seen is None:
            raise WorldError(f"{self.name}: nothing was observed")
        self._seen, self._notes = cast(Observation, Noting(seen, notes)), notes
        self._only_looks = only_looks
        try:
            yield notes
        finally:
            self._seen, self._notes, self._only_looks = seen, None, False

    def _take(self, seen: Observation) -> None:
        """Move the capture out of the box's folder, which vanishes with it."""
        is_old = self._seen is not None and seen.capture.path == self._seen.capture.path
        if is_old or not seen.capture.windows:
            self._seen = seen  # nothing was captured this time
            return
        kept = self._out / "captures" / seen.capture.path.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(seen.capture.path, kept)
        self._seen = replace(seen, capture=replace(seen.capture, path=kept))


def open_cell(lab: Topology, mode: Mode, options: Options) -> LabCell:
    """Build and observe a cell. Raises SystemFault (the system's doing) or WorldError (everything else)."""
    system = system_of(options)
    if mode not in system.modes:
        raise NotOffered(f"{system.name} does not offer mode {mode}")
    kind, why = choose_box(options.box, [mode])
    keep: Callable[[LiveLab], None] | None = None
    if options.keep:
        stands = start(replace(lab, name=f"{lab.name}-{mode}"), find_lab(lab.name).read_text(), kind)
        box, keep = stands.box(), partial(keep_standing, stands, system=options.system, replaced=options.with_)
    else:
        box = start_box(kind, fresh_run_dir(f"conform-{lab.name}-{mode}"))
    cell = LabCell(LiveLab(lab, box), mode, options.out.resolve(), why, keep)
    with closed_on_error(cell):
        cell.observe(system)
    return cell
