"""What every cell is built on: one lab in one mode with a system in it, and what a report wants to know of it."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tunlab.box.box import Completed
from tunlab.box.machine import machine
from tunlab.box.tools import versions
from tunlab.check.requirement import Pending, Requirement
from tunlab.check.selection import Options
from tunlab.errors import LabError, SystemFault, WorldError
from tunlab.lab.topology import Mode, Topology
from tunlab.live.lab import LiveLab
from tunlab.node.tables import Tables
from tunlab.systems.catalogue import find_system
from tunlab.systems.recipe import ABILITIES, System


class Stage(ABC):
    """A lab in a box, the commands that were run in it, and where evidence goes."""

    def __init__(self, live: LiveLab, mode: Mode, out: Path, why_box: str = "") -> None:
        self._live = live
        self.mode = mode
        self.expectations = Pending()
        self.is_spent = False
        self._out = out
        self._why_box = why_box
        self._transcript: list[Completed] = []
        self._before: Mapping[str, Tables] = {}
        live.box.transcript = self._transcript.append

    @property
    def topology(self) -> Topology:
        """The lab."""
        return self._live.topology

    @property
    def name(self) -> str:
        """Lab and mode, as reports write them."""
        return f"{self.topology.name}-{self.mode}"

    def lacks(self, ability: str) -> str:
        """Why the system does not offer this ability; "" when it does."""
        recipe = self._live.installation.recipe
        return lack_of(recipe.name, recipe.abilities, ability)

    def about(self) -> Mapping[str, str]:
        """For the head of the results."""
        return {
            "system_version": self._live.installation.version,
            "box": self._live.box.kind,
            "kernel": self._live.box.kernel,
            **{tool: version for tool, version in versions().items() if version},
        }

    def write_failure(
        self, requirement: Requirement, before: Mapping[str, Tables], more: Mapping[str, str]
    ) -> list[str]:
        """The tables before and now, the commands, the logs and `more` files; the folder, below the run's."""
        folder = self._out / "failures" / f"{requirement.id}-{self.name}"
        folder.mkdir(parents=True, exist_ok=True)
        for when, tables in (("before", before), ("after", self._tables_now())):
            for place, one in tables.items():
                (folder / f"{place}.{when}.json").write_text(one.raw)
        for name, text in {"commands.txt": self._commands(), **more}.items():
            (folder / name).write_text(text)
        self._copy_logs(folder)
        return [str(folder.relative_to(self._out))]

    def write_logs(self) -> None:
        """What the system's programs said, where the lab could not be opened with it."""
        with suppress(LabError):  # no system was chosen yet
            self._copy_logs(self._out / "failures" / f"opening-{self.name}")

    def _copy_logs(self, folder: Path) -> None:
        for name, log in self._live.installation.logs().items():
            if log.exists():
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(log, folder / f"{name.replace('/', '-')}.log")

    @abstractmethod
    def close(self) -> None:
        """End the lab."""

    def write_commands(self) -> None:
        """Every command that ran in the box, for whoever wants to do it by hand."""
        path = self._out / "commands" / f"{self.name}.txt"
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:  # a scene may have been set up more than once
            file.write(f"# box: {self._live.box.kind} ({self._why_box})\n{self._commands()}")

    def _commands(self) -> str:
        """Every command that ran in the box so far, with its exit code and duration."""
        return "".join(f"{done}  # {done.rc}, {done.seconds:.3f} s\n" for done in self._transcript)

    def _tables_now(self) -> Mapping[str, Tables]:
        try:
            return self._live.tables(self._live.node_names())
        except (WorldError, SystemFault):
            return {}  # the box is gone; its logs and the tables before still tell something


def system_of(options: Options) -> System:
    """The driver of what is judged, with the parts that stand in for its own. Raises LabError."""
    return find_system(options.system, {part: Path(path) for part, path in options.with_.items()})


def lack_of(name: str, abilities: Collection[str], ability: str) -> str:
    """Why a system with these abilities does not offer that one; "" when it does."""
    if ability in abilities:
        return ""
    return f"{name} does not offer {ability}: {ABILITIES.get(ability, 'nobody knows that ability')}"


@contextmanager
def closed_on_error(cell: Stage) -> Iterator[None]:
    """Close the cell when it cannot be opened whole; the logs are kept."""
    try:
        yield
    except BaseException:
        try:
            cell.write_logs()
        finally:
            cell.close()
        raise


def choose_box(box: str, modes: Iterable[str]) -> tuple[str, str]:
    """The kind of box that carries all these modes here, and why it is that one. Raises WorldError."""
    if box != "auto":
        for mode in modes:
            if not (verdict := machine().can(box, mode)).ok:
                why = f"--box {box}: not with mode {mode}: {verdict.why}"
                raise WorldError(why, hint="--box auto, or ./lab doctor")
        return box, "as asked"
    found = [(mode, *machine().choose(mode)) for mode in modes]
    for mode, _, verdict in found:
        if not verdict.ok:
            raise WorldError(f"no box here can carry {mode}: {verdict.why}", hint="./lab doctor")
    _, kind, verdict = max(found, key=lambda one: one[1] == "uml")
    return kind, verdict.why
