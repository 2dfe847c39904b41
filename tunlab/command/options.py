"""The words of the command line: what every option means, and which values it takes where there is a list of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TypeVar

import invoke

from tunlab.box.machine import BOXES, MODES

# An option that means something else in one task stands a second time, as "TASK OPTION".
CHOICES = {
    "mode": MODES,
    "modes": MODES,
    "box": ("auto", *BOXES),
    "level": ("core", "extended"),
    "load": ("none", "cpu", "io"),
    "proto": ("icmp", "tcp", "udp"),
    "exercise level": ("1", "2", "3"),
    "class level": ("1", "2", "3"),
    "what": ("bash",),
}

# What stands for a value in the usage line, where the option's own name in capitals would say less.
PLACEHOLDERS = {
    "a": "FROM",
    "b": "TO",
    "k": "EXPR",
    "w": "FILE",
    "count": "N",
    "port": "N",
    "size": "BYTES",
    "svg": "FILE",
    "timeout": "SECONDS",
    "out": "DIR",
    "with": "PART=PATH",
    "from": "FILE",
    "archive": "BUNDLE",
    "runs": "N",
    "seconds": "N",
    "modes": "MODE,...",
    "step": "N",
    "baseline": "FILE",
    "shard": "I/N",
    "only": "NAME",
    "up": "LAB",
    "seed": "N",
    "students": "N",
    "exercise": "NAME",
    "results": "RUN",
    "what": "SHELL",
}

HELP = {
    "a": "a pod, node, router or the store",
    "board": "show how far each student has come: a page on loopback",
    "class down": "take the labs of all students down",
    "class json": "print the board as JSON, and no page",
    "class level": "draw from this level: 1 (easy) to 3",
    "class seed": "draw the same ones again",
    "down": "take it down",
    "exercise": "the same for everybody; drawn for each student if left out",
    "exercise level": "only this level: 1 (easy) to 3",
    "exercise list": "tell of each exercise what one sees",
    "exercise lab": "with --symptom: the standing lab, if several have an exercise",
    "symptom": "show once more what one starts from",
    "exercise name": "an exercise of labs/exercises; all are listed without one",
    "exercise random": "draw one without telling its name",
    "check lab": "the standing lab, if several have an exercise",
    "hint lab": "the standing lab, if several have an exercise",
    "solution": "the commands that mend it",
    "students": "how many labs, each in a box of its own",
    "seed": "draw the same one again",
    "all": "every standing lab of yours",
    "archive": "a bundle.tar that `./lab conform` has written",
    "b": "a pod, node, router or the store, or an address",
    "baseline": "results.json of an earlier run: only what got worse counts",
    "box": "where the lab lives: auto, namespaces (this kernel), uml (its own)",
    "bundle": "write bundle.tar for `./lab replay` even if nothing failed",
    "command": "a word of the command; better typed after --",
    "count": "how many echo requests",
    "from": "mutants of your own, instead of fixtures/mutants",
    "ipv6": "to the IPv6 address of TO",
    "json": "the same as JSON",
    "k": "only what matches this pytest expression",
    "keep": "leave the labs standing afterwards",
    "lab": "a lab of labs/ (see ./lab labs)",
    "standing lab": "a lab that stands (see ./lab status); needed if several do",
    "status lab": "a lab that stands; all where none is named",
    "level": "core, or extended: core and more",
    "load": "what keeps the machine busy meanwhile: none, cpu, io",
    "mode": f"how pod traffic crosses nodes: {', '.join(MODES)}",
    "modes": "what is compared; ipip,vxlan,none where none is named",
    "name": "a lesson of labs/lessons, or its file",
    "no_browser": "print the address and open no browser",
    "node": "the node it is attached to",
    "only": "no other mutant than this",
    "open": "then serve the report to this machine's browsers until Ctrl-C",
    "out": "where the results go, instead of captures/RUN",
    "place": "a node, router, the store or a pod",
    "pod": "one more pod; all of the lab's where none is named",
    "shard": "judge one of N parts that take equally long: 1/3",
    "resume": "go on with a series that was cut off: captures/flake/RUN; other options are unheeded",
    "reset": "take its lab down and forget how far one had come",
    "results": "a run: its name in captures/, or its folder; the latest by default",
    "run": "go through it without anybody who types",
    "runs": "how many times",
    "df": "the packet may not be cut into fragments",
    "png": "a PNG beside the SVG (needs rsvg-convert)",
    "port": "of the page; a free one if left out",
    "trace port": "where the packet goes: TO answers there (tcp and udp)",
    "proto": "icmp, tcp or udp",
    "seconds": "how long each stream runs",
    "show": "print the commands as they run",
    "size": "bytes of payload",
    "step": "begin there; the lab is brought to it",
    "svg": "draw it there",
    "system": "what is under test: refnet, or FILE.yaml that describes one",
    "tap": "one capture point: PLACE/INTERFACE",
    "timeout": "give up after so many seconds",
    "up": "bring this lab up first, in mode vxlan, unless it stands",
    "tui": "in this terminal instead of a page",
    "w": "write pcapng there",
    "what": "whose script: bash",
    "with": "another build of a part: agent=PATH,cni=PATH",
}

# Tasks whose lab is one that stands: it may bear another name than a file of labs/.
STANDING = frozenset(
    "install launch status exec shell ping watch trace capture exercise check hint down".split()  # noqa: SIM905
)

Body = TypeVar("Body", bound=Callable[..., object])


def task(
    *, name: str | None = None, positional: Sequence[str] | None = None, iterable: Sequence[str] = ()
) -> Callable[[Body], Body]:
    """invoke's decorator with a type, and with the one wording that each option has wherever it stands."""

    def decorate(body: Body) -> Body:
        words = [each.rstrip("_") for each in list(inspect.signature(body).parameters)[1:]]
        task_name = (name or body.__name__).rstrip("_")
        explained = {word: _help(task_name, word) for word in words}
        made: Body = invoke.task(name=name, positional=positional, iterable=iterable, help=explained)(body)
        return made

    return decorate


def _help(task_name: str, word: str) -> str:
    own = HELP.get(f"{task_name} {word}")
    usual = f"standing {word}" if word == "lab" and task_name in STANDING else word
    return own or HELP[usual]
