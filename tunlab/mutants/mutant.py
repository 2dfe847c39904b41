"""A mutant: one small deliberate fault, written as data, that the suites must notice.

Reading and filling in are pure. A file of mutants either is right as a whole, or answers with one message per mistake.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

from tunlab.check.requirement import Requirement
from tunlab.lab.mistakes import KeyPath, Mistake, meant, refuse, shown
from tunlab.lab.source import read_text
from tunlab.lab.topology import Mode, Topology
from tunlab.mutants.build import Build, Wrap, built_mistakes, kind_of, read_built
from tunlab.oracle.network import tunnel_of

WITNESSES = ("packet", "table", "probe")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_PLACEHOLDER = re.compile(r"(?<!\$)\{([^{}\s]+)\}")  # ${HOME}, {} and { cmd; } are the shell's own
_KINDS = ("node", "pod", "router")
# Which placeholders there are, and what each is asked about; None: about nothing.
PLACEHOLDERS: Mapping[str, str | None] = {
    "ip": "node",
    "gateway": "node",
    "uplink": "node",
    "mac": "node",
    "block": "node",
    "route": "node",
    "proto": "node",
    "tunnel": None,
    "tunnel_ip": "node",
    "vtep_mac": "node",
    "vni": None,
    "vxlan_port": None,
    "host_prefix": None,
    "pod_ip": "pod",
    "host_if": "pod",
    "pod_route_dev": "pod",
    "default_route": "pod",
}
_OF_NODES = ("route", "proto")  # these are about the node where the commands run, too
_OF_TUNNELS = ("tunnel", "tunnel_ip", "vtep_mac")
_FIELDS: Mapping[str, str] = {
    "name": "small letters, digits and dashes",
    "mode": "one of the lab's modes",
    "lab": "the name of a lab",
    "freeze": "true or false: hold the system's processes still, so that nothing is repaired",
    "do": "a list of steps: {node|pod|router: NAME, run: COMMANDS}",
    "undo": "the same, to take the fault away again; without it the system has to",
    "caught_by": "a list of requirement ids",
    "visible_to_ping": "true or false: whether an all-pairs ping would notice; left out, it is measured and not judged",
    "canary": f"the kind of witness that notices it: {', '.join(WITNESSES)}; left out where it is no canary",
    "why": "a sentence",
}
_OPTIONAL = ("undo", "canary", "visible_to_ping", "why")
_EXAMPLE = "fixtures/mutants/core.yaml has many"


@dataclass(frozen=True, slots=True)
class Step:
    """Shell commands at one place; `text` may hold placeholders."""

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault. `caught_by` are ids that must all turn red; `canary` is a kind of witness, or ""; `visible_to_ping` is
    None where nobody has said."""

    name: str
    lab: str
    mode: Mode
    freeze: bool
    do: tuple[Step, ...]
    undo: tuple[Step, ...]
    caught_by: tuple[str, ...]
    visible_to_ping: bool | None
    canary: str
    why: str
    kind: str = "fault"

    @property
    def places(self) -> tuple[str, ...]:
        """Where it does something, each once."""
        return tuple(dict.fromkeys(step.place for step in (*self.do, *self.undo)))


AnyMutant = Mutant | Build | Wrap


class Words(Protocol):
    """What placeholders stand for in one lab that is up."""

    def word(self, name: str, about: str, place: str) -> str:
        """The value of `{name:about}` in commands for `place`; `about` is "" where the placeholder is about nothing."""


@dataclass(frozen=True)
class Known:
    """What a file of mutants may name: labs, and requirements by id."""

    labs: Mapping[str, Topology]
    requirements: Mapping[str, Requirement]


def fill(step: Step, words: Words) -> str:
    """The commands of a step, with every placeholder replaced."""

    def value(found: re.Match[str]) -> str:
        name, _, about = found[1].partition(":")
        return words.word(name, about, step.place)

    return _PLACEHOLDER.sub(value, step.text)


def load_mutants(path: Path, known: Known) -> tuple[AnyMutant, ...]:
    """The mutants of a file, of whatever kind, in its order. Raises LabError with one text per mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = str(error.strerror).lower() if isinstance(error, OSError) else "not UTF-8 text"
        mistake = Mistake((), what, "a YAML file in UTF-8", _EXAMPLE)
        raise refuse([mistake.text(str(path))]) from error
    return parse_mutants(text, place=str(path), known=known)


def parse_mutants(text: str, *, place: str, known: Known) -> tuple[AnyMutant, ...]:
    """The mutants of a text; `place` is what messages call it. Raises LabError with one text per mistake."""
    source = read_text(text)
    mistakes = [one if one.path else replace(one, legal="a list of mutants, in YAML") for one in source.mistakes]
    if not source.mistakes or source.data is not None:
        mistakes += _Reader(known).mistakes(source.data)
    if mistakes:
        mistakes.sort(key=lambda mistake: source.line(mistake.path))
        raise refuse(dict.fromkeys(one.text(f"{place}:{source.line(one.path)}") for one in mistakes))
    entries = cast(list[dict[str, Any]], source.data)
    return tuple(_fault(entry) if kind_of(entry) == "fault" else read_built(entry) for entry in entries)


def _fault(entry: Mapping[str, Any]) -> Mutant:
    return Mutant(
        name=entry["name"],
        lab=entry["lab"],
        mode=entry["mode"],
        freeze=entry["freeze"],
        do=_steps(entry["do"]),
        undo=_steps(entry.get("undo", ())),
        caught_by=tuple(entry["caught_by"]),
        visible_to_ping=entry.get("visible_to_ping"),
        canary=entry.get("canary", ""),
        why=" ".join(entry.get("why", "").split()),
    )


def _steps(entries: Sequence[Mapping[str, str]]) -> tuple[Step, ...]:
    return tuple(Step(next(entry[kind] for kind in _KINDS if kind in entry), entry["run"]) for entry in entries)


class _Reader:
    """Finds what is wrong with a file's data."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def mistakes(self, data: object) -> Iterator[Mistake]:
        """All mistakes, in no order that matters."""
        if not isinstance(data, list) or not data:
            what = "nothing in it" if not data else f"{shown(data)} where a list should be"
            yield Mistake((), what, "a list of mutants", "begin each with `- name: …`")
            return
        first: dict[str, int] = {}
        for number, entry in enumerate(data):
            if not isinstance(entry, dict):
                yield Mistake((number,), f"{shown(entry)}: no mutant", "a mapping", "begin with `- name: …`")
                continue
            if kind_of(entry) == "fault":
                yield from self._entry((number,), entry)
            else:
                yield from built_mistakes((number,), entry, self._known.requirements, self._known.labs)
            name = entry.get("name")
            if isinstance(name, str) and first.setdefault(name, number) != number:
                yield Mistake((number, "name"), f"{name}: taken by an earlier one", "each name once", "rename one")

    def _entry(self, path: KeyPath, entry: Mapping[Any, Any]) -> Iterator[Mistake]:
        for key in entry:
            if key not in _FIELDS:
                hint = meant(str(key), _FIELDS, "delete it")
                yield Mistake((*path, str(key)), "unknown key", ", ".join(_FIELDS), hint)
        for key, legal in _FIELDS.items():
            if key not in entry:
                if key not in _OPTIONAL:
                    yield Mistake((*path, key), "missing", legal, f"add `{key}:`")
            elif not _FITS[key](entry[key]):
                yield Mistake(
                    (*path, key), f"{shown(entry[key])}: does not fit", legal, "see fixtures/mutants/core.yaml"
                )
        lab = yield from self._lab(path, entry.get("lab"))
        mode = yield from self._mode(path, lab, entry.get("mode"))
        yield from self._ids((*path, "caught_by"), entry.get("caught_by"), lab, mode)
        for key in ("do", "undo"):
            steps = entry.get(key)
            for number, step in enumerate(steps if isinstance(steps, list) else ()):
                yield from self._step((*path, key, number), step, lab, mode)

    def _lab(self, path: KeyPath, name: object) -> Generator[Mistake, None, Topology | None]:
        lab = self._known.labs.get(name) if isinstance(name, str) else None
        if isinstance(name, str) and lab is None:
            labs = self._known.labs
            yield Mistake((*path, "lab"), f"{shown(name)}: no such lab", ", ".join(labs), meant(name, labs, "name one"))
        return lab

    def _mode(self, path: KeyPath, lab: Topology | None, name: object) -> Generator[Mistake, None, Mode | None]:
        if lab is None or not isinstance(name, str):
            return None
        for mode in lab.modes:
            if mode == name:
                return mode
        hint = meant(name, lab.modes, "take another lab, or another mode")
        yield Mistake((*path, "mode"), f"{shown(name)}: no mode of {lab.name}", ", ".join(lab.modes), hint)
        return None

    def _ids(self, path: KeyPath, ids: object, lab: Topology | None, mode: Mode | None) -> Iterator[Mistake]:
        for number, name in enumerate(ids if isinstance(ids, list) else ()):
            declared = self._known.requirements.get(name) if isinstance(name, str) else None
            if declared is None:
                hint = meant(str(name), self._known.requirements, "see suites/ for those there are")
                yield Mistake((*path, number), f"{shown(name)}: no such requirement", "an id such as IPIP-03", hint)
            elif lab is not None and mode is not None and not declared.applies(lab, mode):
                what = f"{name}: is not asked of {lab.name} in mode {mode}"
                modes = f"a requirement that applies there; this one to {', '.join(declared.modes)}"
                yield Mistake((*path, number), what, modes, "take another id, lab or mode")

    def _step(self, path: KeyPath, step: object, lab: Topology | None, mode: Mode | None) -> Iterator[Mistake]:
        legal = "{node|pod|router: NAME, run: COMMANDS}"
        kinds = [kind for kind in _KINDS if isinstance(step, dict) and kind in step]
        if not isinstance(step, dict) or len(kinds) != 1 or set(step) != {*kinds, "run"}:
            what = f"{', '.join(map(str, step))}: no step" if isinstance(step, dict) else f"{shown(step)}: no step"
            yield Mistake(path, what, legal, "one place and one text for the shell")
            return
        place, text = step[kinds[0]], step["run"]
        if not isinstance(text, str) or not text.strip():
            yield Mistake((*path, "run"), f"{shown(text)}: nothing to run", "text for the shell", "put it in quotes")
            return
        if lab is not None:
            yield from _placed((*path, kinds[0]), place, _names(lab, kinds[0]), f"no {kinds[0]} of {lab.name}")
            yield from placeholder_mistakes((*path, "run"), place, text, lab, mode)


def _placed(path: KeyPath, name: object, legal: Collection[str], what: str) -> Iterator[Mistake]:
    if name not in legal:
        yield Mistake(path, f"{shown(name)}: {what}", ", ".join(legal), meant(str(name), legal, "name one of these"))


def placeholder_mistakes(
    path: KeyPath, place: object, text: str, lab: Topology, mode: Mode | None
) -> Iterator[Mistake]:
    """What is wrong with the placeholders of one text, which is run at that place."""
    for found in _PLACEHOLDER.finditer(text):
        name, colon, about = found[1].partition(":")
        written = "{" + found[1] + "}"
        if name not in PLACEHOLDERS:
            legal = " ".join(
                "{" + one + (f":{kind.upper()}" if kind else "") + "}" for one, kind in PLACEHOLDERS.items()
            )
            hint = meant(name, PLACEHOLDERS, "the shell's own braces have a $ before or a blank inside them")
            yield Mistake(path, f"{written}: no such placeholder", legal, hint)
            continue
        kind = PLACEHOLDERS[name]
        if kind is None and colon:
            yield Mistake(path, f"{written}: is about nothing", "{" + name + "}", "leave out what follows the colon")
        elif kind is not None and about not in (names := _names(lab, kind)):
            hint = meant(about, names, f"such as {{{name}:{names[0] if names else kind}}}")
            yield Mistake(path, f"{written}: wants a {kind} of {lab.name}", ", ".join(names), hint)
        if name in _OF_NODES and place not in (nodes := _names(lab, "node")):
            yield Mistake(path, f"{written}: is of a node's table", ", ".join(nodes), "run it on a node")
        if name in _OF_TUNNELS and mode is not None and tunnel_of(mode) == "none":
            yield Mistake(path, f"{written}: mode none has no tunnel", "a mode with a tunnel", "name the device itself")
        if name == "vtep_mac" and mode is not None and tunnel_of(mode) == "ipip":
            yield Mistake(path, f"{written}: an IPIP device has no MAC", "a VXLAN mode", "take another placeholder")


def _names(lab: Topology, kind: str) -> tuple[str, ...]:
    named: Sequence[Any] = {"node": lab.nodes, "pod": lab.pods, "router": lab.routers}[kind]
    return tuple(one.name for one in named)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_list(value: object) -> bool:
    return isinstance(value, list) and bool(value)


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str) and _NAME.fullmatch(value) is not None,
    "mode": _is_text,
    "lab": _is_text,
    "freeze": lambda value: isinstance(value, bool),
    "visible_to_ping": lambda value: isinstance(value, bool),
    "do": _is_list,
    "undo": _is_list,
    "caught_by": _is_list,
    "canary": lambda value: value in WITNESSES,
    "why": _is_text,
}
