"""The tasks of tasks.py as values: what each is called, takes and says; the menu and the help are printed from them."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import invoke

from tunlab.command.options import CHOICES, PLACEHOLDERS
from tunlab.errors import Bug
from tunlab.paths import ROOT


@dataclass(frozen=True)
class Parameter:
    """One option or positional word of a task. `kind` is bool, int, float, str or list."""

    name: str
    attribute: str
    kind: type
    positional: bool
    required: bool
    default: object
    help: str
    task: str = ""

    @property
    def flag(self) -> str:
        return f"-{self.name}" if len(self.name) == 1 else f"--{self.name}"

    @property
    def placeholder(self) -> str:
        return PLACEHOLDERS.get(self.name, self.name.upper())

    @property
    def choices(self) -> tuple[str, ...]:
        return CHOICES.get(f"{self.task} {self.name}", CHOICES.get(self.name, ()))

    @property
    def usage(self) -> str:
        if self.positional:
            return self.placeholder if self.required else f"[{self.placeholder}]"
        return f"[{self.flag}]" if self.kind is bool else f"[{self.flag} {self.placeholder}]"


@dataclass(frozen=True)
class Entry:
    """One line of the menu and what it stands for."""

    name: str
    sentence: str
    example: str
    parameters: tuple[Parameter, ...]
    task: Any

    @property
    def positionals(self) -> tuple[Parameter, ...]:
        return tuple(each for each in self.parameters if each.positional)

    @property
    def options(self) -> tuple[Parameter, ...]:
        return tuple(each for each in self.parameters if not each.positional and not self.takes_rest(each))

    def takes_rest(self, parameter: Parameter) -> bool:
        """Whether `parameter` is fed by what stands after `--`."""
        return parameter.name == "command"

    @property
    def usage_words(self) -> list[str]:
        rest = ["-- COMMAND..."] if any(map(self.takes_rest, self.parameters)) else []
        words = [each.usage for each in (*self.positionals, *self.options)]
        return ["./lab", self.name, *words, *rest]

    @property
    def usage(self) -> str:
        return " ".join(self.usage_words)


@functools.cache
def entries() -> Mapping[str, Entry]:
    """Every task, in the order in which tasks.py defines them."""
    spec = importlib.util.spec_from_file_location("tunlab_tasks", ROOT / "tasks.py")
    if spec is None or spec.loader is None:
        raise Bug(f"{ROOT / 'tasks.py'}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [_read_task(value) for value in vars(module).values() if isinstance(value, invoke.Task)]
    return {entry.name: entry for entry in found}


def _read_task(task: Any) -> Entry:
    sentence, _, rest = (inspect.getdoc(task) or "").partition("\n\n")
    example = rest.strip().removeprefix("Example: ")
    required = {
        name
        for name, each in inspect.signature(task.body).parameters.items()
        if each.default is inspect.Parameter.empty
    }
    parameters = tuple(
        Parameter(
            name=argument.names[0],
            attribute=argument.name,
            kind=argument.kind,
            positional=argument.positional,
            required=argument.name in required and argument.kind is not list,
            default=argument.default,
            help=argument.help or "",
            task=task.name,
        )
        for argument in task.get_arguments()
    )
    return Entry(task.name, sentence.strip(), example, parameters, task)


def show_menu() -> str:
    """The menu: one line each, in the order of a lab's life."""
    width = max(map(len, entries()))
    rows = [f"  {entry.name:<{width}}  {entry.sentence}" for entry in entries().values()]
    return "\n".join(["./lab TASK: a lab and a judge for pod networks", "", *rows, "", "./lab help TASK says more"])


def show_help(entry: Entry) -> str:
    """One task: its usage, its sentence, its words with their defaults, an example."""
    words = [
        (each.placeholder if each.positional else _flagged(each), each) for each in entry.positionals + entry.options
    ]
    width = max((len(word) for word, _ in words), default=0)
    rows = [_hang(f"  {word:<{width}}  ", f"{each.help}{_default(each)}") for word, each in words]
    usage = _fold(entry.usage_words)
    body = ["", *rows] if rows else []
    return "\n".join([usage, "", entry.sentence, *body, "", f"example: {entry.example}"])


def _hang(label: str, text: str) -> str:
    return textwrap.fill(
        label + text, 80, subsequent_indent=" " * len(label), break_on_hyphens=False, break_long_words=False
    )


def _flagged(parameter: Parameter) -> str:
    return parameter.flag if parameter.kind is bool else f"{parameter.flag} {parameter.placeholder}"


def _default(parameter: Parameter) -> str:
    if parameter.kind is list:
        return " (several: repeated, or separated by commas)"
    shown = parameter.default not in (None, "", False, 0.0)
    return f" (default: {parameter.default})" if shown else ""


def _fold(words: Sequence[str]) -> str:
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 1 > 80:
            lines.append("   ")
        lines[-1] = f"{lines[-1]} {word}"
    return "\n".join(lines)
