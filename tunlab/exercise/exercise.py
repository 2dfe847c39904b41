"""An exercise: one fault to be found and mended in a lab that was in order, written as data.

A file holds one; its name is the file's. It either is right as a whole, or answers with one message per mistake.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunlab.check.requirement import Requirement
from tunlab.errors import LabError
from tunlab.lab.mistakes import KeyPath, Mistake, meant, refuse, shown
from tunlab.lab.source import read_text
from tunlab.lab.topology import Mode, Topology
from tunlab.mutants.mutant import Mutant, Step, placeholder_mistakes
from tunlab.paths import ROOT

FOLDER = ROOT / "labs" / "exercises"
LEVELS = (1, 2, 3)
PROTOCOLS = ("icmp", "tcp", "udp")
_STEP = "{at: PLACE, run: COMMANDS}"
_PROMISE = "{from: PLACE, to: PLACE, protocol: icmp|tcp|udp, port: N, answered: true|false}"
_FIELDS: Mapping[str, str] = {
    "title": "a sentence that names the fault; it is told when the fault is mended",
    "level": "1, 2 or 3",
    "lab": "the name of a lab",
    "mode": "one of the lab's modes",
    "mutant": "the name of a fault of fixtures/mutants, for the same lab and mode",
    "plant": f"a list of steps: {_STEP}",
    "freeze": "true or false: hold the system's programs on all nodes still; a mutant says so itself",
    "survives": "a sentence: why the system does not repair it",
    "symptom": "{says: SENTENCE, at: PLACE, run: COMMAND, shows: PATTERN}",
    "hints": "two or three sentences",
    "graded_by": "a list of requirement ids that the fault turns red",
    "besides": "a list of requirement ids instead of the core; left out where nothing of the core is beside the point",
    "must": f"a list of promises: {_PROMISE}",
    "solution": f"a list of steps: {_STEP}",
    "clear": f"a list of steps that take away what the solution leaves: {_STEP}",
    "learned": "a sentence or two: what it was, and how one finds it the next time",
}
_OPTIONAL = ("mutant", "plant", "freeze", "graded_by", "besides", "must", "clear")
_EXAMPLE = "labs/exercises/ has many"


@dataclass(frozen=True, slots=True)
class Symptom:
    """What somebody would come with: a command at a place, and a pattern that its output has while the fault is in."""

    says: str
    command: Step
    shows: str

    def is_in(self, output: str) -> bool:
        """Whether an output of the command shows it."""
        return re.search(self.shows, output) is not None


@dataclass(frozen=True, slots=True)
class Promise:
    """Who must (or must not) get an answer from whom, beyond what the requirements say."""

    source: str
    target: str
    protocol: str
    port: int
    answered: bool


@dataclass(frozen=True, slots=True)
class Exercise:
    """One exercise. `besides` is None where the whole core of the lab's mode is to hold beside what grades it."""

    name: str
    title: str
    level: int
    lab: str
    mode: Mode
    plant: tuple[Step, ...]
    freeze: bool
    survives: str
    symptom: Symptom
    hints: tuple[str, ...]
    graded_by: tuple[str, ...]
    besides: tuple[str, ...] | None
    must: tuple[Promise, ...]
    solution: tuple[Step, ...]
    clear: tuple[Step, ...]
    learned: str
    mutant: str = ""


@dataclass(frozen=True)
class Known:
    """What exercises may name: labs, requirements by id, and faults by name."""

    labs: Mapping[str, Topology]
    requirements: Mapping[str, Requirement]
    mutants: Mapping[str, Mutant]


def exercise_names() -> tuple[str, ...]:
    """The names of all exercises, sorted; their files are not looked into."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_exercise(path: Path, known: Known) -> Exercise:
    """The exercise of a file. Raises LabError with one text per mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = str(error.strerror).lower() if isinstance(error, OSError) else "not UTF-8 text"
        raise refuse([Mistake((), what, "a YAML file in UTF-8", _EXAMPLE).text(str(path))]) from error
    return parse_exercise(path.stem, text, place=str(path), known=known)


def load_exercises(known: Known) -> dict[str, Exercise]:
    """All of labs/exercises by name, the easy ones first. Raises LabError that holds all mistakes."""
    found: list[Exercise] = []
    mistakes: list[str] = []
    for name in exercise_names():
        try:
            found.append(load_exercise(FOLDER / f"{name}.yaml", known))
        except LabError as error:
            mistakes += error.mistakes
    if mistakes:
        raise refuse(mistakes)
    return {one.name: one for one in sorted(found, key=lambda each: (each.level, each.name))}


def parse_exercise(name: str, text: str, *, place: str, known: Known) -> Exercise:
    """The exercise of a text; `place` is what messages call it. Raises LabError with one text per mistake."""
    source = read_text(text)
    mistakes = [one if one.path else replace(one, legal="a mapping, in YAML") for one in source.mistakes]
    if not source.mistakes or source.data is not None:
        mistakes += _mistakes(source.data, known)
    if mistakes:
        mistakes.sort(key=lambda mistake: source.line(mistake.path))
        raise refuse(dict.fromkeys(one.text(f"{place}:{source.line(one.path)}") for one in mistakes))
    assert isinstance(source.data, dict)
    return _read(name, source.data, known)


def _read(name: str, data: Mapping[str, Any], known: Known) -> Exercise:
    mutant = known.mutants.get(data.get("mutant", ""))
    symptom = data["symptom"]
    besides = data.get("besides")
    mode = next(mode for mode in known.labs[data["lab"]].modes if mode == data["mode"])
    return Exercise(
        name=name,
        title=_sentence(data["title"]),
        level=data["level"],
        lab=data["lab"],
        mode=mode,
        plant=mutant.do if mutant else _steps(data["plant"]),
        freeze=mutant.freeze if mutant else data.get("freeze", False),
        survives=_sentence(data["survives"]),
        symptom=Symptom(_sentence(symptom["says"]), Step(symptom["at"], symptom["run"]), symptom["shows"]),
        hints=tuple(map(_sentence, data["hints"])),
        graded_by=tuple(data.get("graded_by", ())),
        besides=None if besides is None else tuple(besides),
        must=tuple(_promise(one) for one in data.get("must", ())),
        solution=_steps(data["solution"]),
        clear=_steps(data.get("clear", ())),
        learned=_sentence(data["learned"]),
        mutant=mutant.name if mutant else "",
    )


def _steps(entries: Sequence[Mapping[str, str]]) -> tuple[Step, ...]:
    return tuple(Step(entry["at"], entry["run"]) for entry in entries)


def _promise(entry: Mapping[str, Any]) -> Promise:
    return Promise(entry["from"], entry["to"], entry["protocol"], entry.get("port", 0), entry["answered"])


def _sentence(text: str) -> str:
    return " ".join(text.split())


# ------------------------------------------------------------------ what is wrong with one
def _mistakes(data: object, known: Known) -> Iterator[Mistake]:
    """All mistakes of a file's data, in no order that matters."""
    if not isinstance(data, dict):
        what = "nothing in it" if data is None else f"{shown(data)} where a mapping should be"
        yield Mistake((), what, "a mapping", _EXAMPLE)
        return
    for key in data:
        if key not in _FIELDS:
            yield Mistake((str(key),), "unknown key", ", ".join(_FIELDS), meant(str(key), _FIELDS, "delete it"))
    for key, legal in _FIELDS.items():
        if key not in data:
            if key not in _OPTIONAL:
                yield Mistake((key,), "missing", legal, f"add `{key}:`")
        elif not _FITS[key](data[key]):
            yield Mistake((key,), f"{shown(data[key])}: does not fit", legal, _EXAMPLE)
    lab = known.labs.get(data.get("lab", "")) if isinstance(data.get("lab"), str) else None
    if lab is None:
        if _is_text(data.get("lab")):
            hint = meant(data["lab"], known.labs, "name one")
            yield Mistake(("lab",), f"{shown(data['lab'])}: no such lab", ", ".join(known.labs), hint)
        return
    if data.get("mode") not in lab.modes:
        hint = meant(str(data.get("mode")), lab.modes, "take another lab, or another mode")
        yield Mistake(("mode",), f"{shown(data.get('mode'))}: no mode of {lab.name}", ", ".join(lab.modes), hint)
        return
    yield from _fault(data, known)
    yield from _grading(data, lab, known)
    yield from _commands(data, lab)


def _fault(data: Mapping[str, Any], known: Known) -> Iterator[Mistake]:
    name = data.get("mutant")
    if ("mutant" in data) == ("plant" in data):
        yield Mistake(("mutant",), "a fault is a mutant's or planted, one of them", "mutant or plant", _EXAMPLE)
    if not isinstance(name, str):
        return
    mutant = known.mutants.get(name)
    if mutant is None:
        hint = meant(name, known.mutants, "./lab mutants tries them all")
        yield Mistake(("mutant",), f"{shown(name)}: no such fault", "a name in fixtures/mutants/core.yaml", hint)
    elif (mutant.lab, mutant.mode) != (data["lab"], data["mode"]):
        what = f"{name}: is planted in {mutant.lab} in mode {mutant.mode}"
        yield Mistake(("mutant",), what, "a fault of this lab and mode", "plant it yourself with `plant:`")


def _grading(data: Mapping[str, Any], lab: Topology, known: Known) -> Iterator[Mistake]:
    if not data.get("graded_by") and not data.get("must"):
        yield Mistake(("graded_by",), "nothing grades the repair", _FIELDS["graded_by"], "or say what `must` be")
    for key in ("graded_by", "besides"):
        ids = data.get(key)
        for number, id in enumerate(ids if isinstance(ids, list) else ()):
            declared = known.requirements.get(id) if isinstance(id, str) else None
            if declared is None:
                hint = meant(str(id), known.requirements, "./lab requirements lists them")
                yield Mistake((key, number), f"{shown(id)}: no such requirement", "an id such as IPIP-03", hint)
            elif declared.scene or not declared.applies(lab, data["mode"]):
                what = f"{id}: is not asked of a lab {lab.name} that stands in mode {data['mode']}"
                yield Mistake((key, number), what, "a requirement that only looks, and applies there", "take another")


def _commands(data: Mapping[str, Any], lab: Topology) -> Iterator[Mistake]:
    places = [*(host.name for host in lab.hosts), *(pod.name for pod in lab.pods)]
    steps = [
        ((key, number), step, {"at", "run"}, _STEP)
        for key in ("plant", "solution", "clear")
        for number, step in enumerate(data[key] if isinstance(data.get(key), list) else ())
    ]
    symptom = {"says", "at", "run", "shows"}
    for path, step, keys, legal in (*steps, (("symptom",), data.get("symptom"), symptom, _FIELDS["symptom"])):
        if not isinstance(step, dict) or set(step) != keys or not all(map(_is_text, step.values())):
            yield Mistake(path, f"{shown(step)}: does not fit", legal, _EXAMPLE)
            continue
        yield from _placed((*path, "at"), step["at"], places)
        yield from placeholder_mistakes((*path, "run"), step["at"], step["run"], lab, data["mode"])
    for number, one in enumerate(data["must"] if isinstance(data.get("must"), list) else ()):
        if not _is_promise(one):
            yield Mistake(("must", number), f"{shown(one)}: no promise", _PROMISE, "port is for tcp and udp")
            continue
        for end in ("from", "to"):
            yield from _placed(("must", number, end), one[end], places)
    pattern = data["symptom"].get("shows") if isinstance(data.get("symptom"), dict) else None
    if isinstance(pattern, str) and not _is_pattern(pattern):
        yield Mistake(("symptom", "shows"), f"{shown(pattern)}: no pattern", "a regular expression", "escape ( [ . *")


def _placed(path: KeyPath, name: str, places: Sequence[str]) -> Iterator[Mistake]:
    if name not in places:
        yield Mistake(path, f"{shown(name)}: no such place", ", ".join(places), meant(str(name), places, "name one"))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_list(value: object) -> bool:
    return isinstance(value, list) and bool(value)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_promise(one: object) -> bool:
    if not isinstance(one, dict) or set(one) - {"port"} != {"from", "to", "protocol", "answered"}:
        return False
    port, protocol = one.get("port", 0), one["protocol"]
    is_port = type(port) is int and (port == 0 if protocol == "icmp" else 0 < port < 65536)
    return (
        is_port and protocol in PROTOCOLS and _is_flag(one["answered"]) and all(map(_is_text, (one["from"], one["to"])))
    )


def _is_pattern(text: str) -> bool:
    """Whether it is one that an empty screen does not show."""
    try:
        return re.search(text, "") is None
    except re.error:
        return False


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "title": _is_text,
    "level": lambda value: type(value) is int and value in LEVELS,
    "lab": _is_text,
    "mode": _is_text,
    "mutant": _is_text,
    "plant": _is_list,
    "freeze": _is_flag,
    "survives": _is_text,
    "symptom": lambda value: isinstance(value, dict),
    "hints": lambda value: _is_list(value) and len(value) in (2, 3) and all(map(_is_text, value)),
    "graded_by": _is_list,
    "besides": _is_list,
    "must": _is_list,
    "solution": _is_list,
    "clear": _is_list,
    "learned": _is_text,
}
