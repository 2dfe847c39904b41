"""A requirement: one promise with an id for ever, the sentence a user reads, and where it applies."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tunlab.check.verdict import Verdict
from tunlab.errors import Bug
from tunlab.lab.topology import MODES

IPIP_MODES = ("ipip", "ipip-crosssubnet")
VXLAN_MODES = ("vxlan", "vxlan-crosssubnet")
LEVELS = ("core", "extended")
MANIFEST = "manifest.txt"  # of a folder of suites: the ids that it must declare, one a line
ID_PATTERN = r"[A-Z][A-Z0-9]*-[0-9]{2,3}"
_ID = re.compile(ID_PATTERN)
_SCENE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_ATTRIBUTE = "tunlab_requirement"

Where = Callable[[Any, Any], bool]  # of a Topology and a Mode
Test = TypeVar("Test", bound=Callable[..., None])


@dataclass(frozen=True)
class Requirement:
    """One promise; `where(topology, mode)` narrows it beyond its modes, `needs` are abilities the system must offer.

    `labs` are the only ones it is asked of, where it names any. Those of one `scene` share a lab of their own, for
    they do something to it; without a scene they look at what was observed once for all. `visits` are modes that the
    lab is to be switched to, so that its box can carry them.
    """

    id: str
    title: str
    level: str
    modes: tuple[str, ...]
    needs: tuple[str, ...]
    source: str
    declared_at: str
    where: Where | None = None
    scene: str = ""
    labs: tuple[str, ...] = ()
    visits: tuple[str, ...] = ()

    def applies(self, topology: Any, mode: str) -> bool:
        """Whether this lab in this mode must keep it."""
        if mode not in self.modes or (self.labs and topology.name not in self.labs):
            return False
        return self.where is None or bool(self.where(topology, mode))


class Unchecked(Bug):
    """A test declared expectations and ended without looking whether they hold."""


class Pending:
    """The expectations a test has declared; each must be checked before the test ends."""

    def __init__(self) -> None:
        self._waiting: dict[int, str] = {}
        self._questions: dict[Hashable, str] = {}
        self._count = 0

    def expect(self, what: str) -> Callable[[], None]:
        """Declare one; call what comes back when (however) it was evaluated."""
        self._count += 1
        number = self._count
        self._waiting[number] = what

        def checked() -> None:
            self._waiting.pop(number, None)

        return checked

    def ask(self, question: Hashable, what: str) -> None:
        """Declare one that `judged` takes off again."""
        self._questions[question] = what

    def judged(self, questions: Iterable[Hashable]) -> None:
        """These were evaluated, or nobody expects that of them any more."""
        for question in questions:
            self._questions.pop(question, None)

    def unchecked(self) -> tuple[str, ...]:
        """What was declared and never evaluated, in order."""
        return (*self._waiting.values(), *self._questions.values())

    def settle(self) -> None:
        """End of the test. Raises Unchecked if anything is left."""
        if left := self.unchecked():
            raise Unchecked(f"declared but never checked: {'; '.join(left)}", hint="call check on every expectation")


class Cell(Protocol):
    """One lab in one mode with a system in it, ready to be judged; what the pytest face needs of it."""

    expectations: Pending  # fresh for every test; set by the plugin
    is_spent: bool  # whether no other test may use it any more

    def about(self) -> Mapping[str, str]:
        """`system_version`, `box`, `kernel`; anything else is a tool's name and version."""

    def begin(self, requirement: Requirement) -> None:
        """Before a test: what it will want as evidence of the state before."""

    def end(self, requirement: Requirement, verdict: Verdict) -> Sequence[str]:
        """After a test: its evidence, as paths below the run's folder. Raises if the evidence cannot be trusted."""

    def close(self) -> None:
        """Take it down."""


_registry: dict[str, Requirement] = {}


def missing_ids(suites: Path) -> list[str]:
    """What a folder's manifest lists and nobody has declared: a suite that is gone must not pass for a green one.

    A folder without a manifest promises nothing.
    """
    try:
        listed = (suites / MANIFEST).read_text(encoding="utf-8").split()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(set(listed) - set(registry()))


def registry() -> Mapping[str, Requirement]:
    """Every requirement declared by the modules imported so far, by id."""
    return dict(_registry)


def visited(scene: str) -> frozenset[str]:
    """The modes that requirements of this scene switch their lab to, of those declared so far."""
    return frozenset(visit for one in _registry.values() if scene and one.scene == scene for visit in one.visits)


def requirement_of(function: object) -> Requirement | None:
    """The requirement that a test function was decorated with."""
    found = getattr(function, _ATTRIBUTE, None)
    return found if isinstance(found, Requirement) else None


def requirement(
    id: str,
    *,
    level: str = "core",
    modes: Sequence[str] = MODES,
    needs: Sequence[str] = (),
    where: Where | None = None,
    source: str = "",
    scene: str = "",
    labs: Sequence[str] = (),
    visits: Sequence[str] = (),
) -> Callable[[Test], Test]:
    """Declare a test function the proof of a promise; its docstring's first sentence is the title. Raises Bug."""

    def declare(function: Test) -> Test:
        at = f"{function.__module__}.{function.__qualname__}"
        file = Path(function.__code__.co_filename).resolve() if hasattr(function, "__code__") else at
        declared = Requirement(
            id=id,
            title=_title(function.__doc__),
            level=level,
            modes=tuple(modes),
            needs=tuple(needs),
            source=source,
            declared_at=f"{file}::{function.__qualname__}",
            where=where,
            scene=scene,
            labs=tuple(labs),
            visits=tuple(visits),
        )
        mistakes = list(_mistakes(declared))
        earlier = _registry.get(id)
        if earlier is not None and earlier.declared_at != declared.declared_at:
            mistakes.append(f"the id is taken by {earlier.declared_at}")
        if mistakes:
            raise Bug(f"{at}: requirement {id}: {'; '.join(mistakes)}")
        _registry[id] = declared
        setattr(function, _ATTRIBUTE, declared)
        return function

    return declare


def _mistakes(declared: Requirement) -> Sequence[str]:
    found = []
    if not _ID.fullmatch(declared.id):
        found.append("an id reads like IPIP-03")
    if declared.level not in LEVELS:
        found.append(f"level {declared.level!r} is none of {', '.join(LEVELS)}")
    if not declared.modes or set(declared.modes) - set(MODES):
        found.append(f"modes {declared.modes!r} are not some of {', '.join(MODES)}")
    if set(declared.visits) - set(MODES) or (declared.visits and not declared.scene):
        found.append(f"visits {declared.visits!r} are not some of {', '.join(MODES)}, or there is no scene")
    if declared.scene and not _SCENE.fullmatch(declared.scene):
        found.append(f"scene {declared.scene!r} is no word of small letters and dashes")
    if not declared.title:
        found.append("no docstring, so no title")
    return found


def _title(docstring: str | None) -> str:
    """The first sentence, on one line, without its full stop. A dot inside 169.254.1.1 ends no sentence."""
    text = " ".join((docstring or "").split())
    return re.split(r"(?<=[^.\s])\.(?:\s+(?=[A-Z(])|$)", text, maxsplit=1)[0]
