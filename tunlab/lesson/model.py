"""A lesson as values: steps of prose, commands and questions, each with the line of the file it stands on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["word", "number", "address", "network", "mac", "set", "choice"]
KINDS: tuple[Kind, ...] = ("word", "number", "address", "network", "mac", "set", "choice")
NO_SYSTEM = "none"


@dataclass(frozen=True, slots=True)
class Prose:
    """What is explained, in Markdown."""

    text: str


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """What goes on in another terminal while the command runs."""

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed where, and what must then be seen: regular expressions, and those that must not be.

    One that `changes` the lab is repeated when a later step is jumped to, so it must be fine to do it twice. One that
    comes `soon` is repeated until it shows what it must.
    """

    place: str
    text: str
    line: int
    changes: bool = False
    soon: bool = False
    shows: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    meanwhile: Meanwhile | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """A command whose output is a fact about the lab."""

    place: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Mistake:
    """A wrong answer that is often given (as a word, or as the lab tells it), and what is to be said to it."""

    answer: str | Lookup
    says: str


@dataclass(frozen=True, slots=True)
class Question:
    """Something to find out; what is right comes from the lab, never from the file."""

    text: str
    answer: Lookup
    line: int
    kind: Kind = "word"
    choices: tuple[str, ...] = ()
    name: str = ""
    hints: tuple[str, ...] = ()
    wrong: tuple[Mistake, ...] = ()


Item = Prose | Command | Question


@dataclass(frozen=True, slots=True)
class Step:
    """One heading and what stands under it."""

    number: int
    title: str
    line: int
    items: tuple[Item, ...]

    @property
    def brings(self) -> tuple[Command, ...]:
        """What has to be done again for a lab to be as it is after this step."""
        return tuple(item for item in self.items if isinstance(item, Command) and (item.changes or item.soon))


@dataclass(frozen=True, slots=True)
class Lesson:
    """A whole lesson. `begins` brings a lab that stands to where the first step wants it."""

    name: str
    path: Path
    title: str
    about: str
    lab: str
    mode: str
    system: str
    order: int
    intro: tuple[Prose, ...]
    begins: tuple[Command, ...]
    steps: tuple[Step, ...] = field(repr=False)
    facts: Mapping[str, Lookup] = field(repr=False)

    def brings(self, number: int) -> Iterator[Command]:
        """What brings a lab to the beginning of step `number`, whatever was done to it before."""
        yield from self.begins
        for step in self.steps[: number - 1]:
            yield from step.brings
