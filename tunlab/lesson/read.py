"""labs/lessons/NAME.md → Lesson: every mistake of the file at once, each with its line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from tunlab.errors import LabError
from tunlab.lab.load import LABS_DIR, load_lab
from tunlab.lab.mistakes import meant, refuse, shown
from tunlab.lab.source import Source, read_text
from tunlab.lab.topology import MODES, Topology
from tunlab.lesson.model import KINDS, NO_SYSTEM, Command, Item, Kind, Lesson, Lookup, Meanwhile, Prose, Question, Step
from tunlab.lesson.model import Mistake as WrongAnswer
from tunlab.lesson.pieces import Piece, Unended, divide

FOLDER = LABS_DIR / "lessons"
NAMED = re.compile(r"\{\{(.*?)\}\}")
_FRONT = {"title", "about", "lab", "mode", "system", "order"}
_ASK = {"question", "at", "answer", "kind", "choices", "name", "hints", "wrong"}


def lesson_names() -> tuple[str, ...]:
    """The names of the lessons in labs/lessons, sorted."""
    return tuple(sorted(path.name.removesuffix(".md") for path in FOLDER.glob("*.md")))


def find_lesson(name_or_path: str) -> Path:
    """The file of a lesson. What has a slash or ends in .md is a path, all else a name. Raises LabError."""
    if "/" in name_or_path or name_or_path.endswith(".md"):
        path = Path(name_or_path)
        if not path.is_file():
            raise LabError(f"{path}: no such file", hint="./lab lesson lists those of labs/lessons")
        return path
    names = lesson_names()
    if name_or_path not in names:
        near = [name for name in names if name_or_path and name_or_path in name]
        hint = f"did you mean {near[0]}?" if near else meant(name_or_path, names, "./lab lesson lists them")
        raise LabError(f"{name_or_path}: no such lesson\n  legal: {', '.join(names)}", hint=hint)
    return FOLDER / f"{name_or_path}.md"


def read_lesson(path: Path) -> Lesson:
    """The lesson in a file. Raises LabError with every mistake in it."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{path}: not to be read: {error}", hint="a lesson is a file of Markdown") from error
    return _Reader(path, text).lesson()


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        here = Path.cwd()
        self._path = path
        self._shown = path.relative_to(here) if path.is_relative_to(here) else path
        self._mistakes: list[tuple[int, str]] = []
        self._facts: dict[str, Lookup] = {}
        self._topology: Topology | None = None
        self._mode, self._system = "", "refnet"
        try:
            self._front, self._pieces = divide(text)
        except Unended as error:
            self._wrong(error.line, "a fence that is never closed", "end the block with a line of ```")
            raise self._refusal() from error

    def lesson(self) -> Lesson:
        front = self._read_front()
        heads = [number for number, piece in enumerate(self._pieces) if piece.kind == "##"]
        if not heads:
            self._wrong(1, "a lesson without a step", "a step begins with a heading: ## What one sees")
            raise self._refusal()
        intro, begins = self._read_intro(self._pieces[: heads[0]])
        ends = [*heads[1:], len(self._pieces)]
        steps = tuple(
            self._read_step(number, self._pieces[start], self._pieces[start + 1 : end])
            for number, (start, end) in enumerate(zip(heads, ends, strict=True), start=1)
        )
        if self._mistakes:
            raise self._refusal()
        return Lesson(
            name=self._path.name.removesuffix(".md"),
            path=self._path.resolve(),
            title=str(front["title"]),
            about=str(front.get("about", "")),
            lab=self._lab_named(str(front["lab"])),
            mode=self._mode,
            system=self._system,
            order=int(str(front.get("order", 99))),
            intro=intro,
            begins=begins,
            steps=steps,
            facts=self._facts,
        )

    # ------------------------------------------------------------------ mistakes
    def _wrong(self, line: int, what: str, hint: str) -> None:
        self._mistakes.append((line, f"{self._shown}:{line}: {what}\n  hint: {hint}"))

    def _refusal(self) -> LabError:
        return refuse(text for _, text in sorted(self._mistakes))

    # ------------------------------------------------------------------ front matter
    def _read_front(self) -> Mapping[str, object]:
        if self._front is None:
            self._wrong(1, "no front matter", "begin with --- and end it with ---: title, about, lab, mode")
            raise self._refusal()
        source = read_text(self._front)
        if not isinstance(source.data, dict) or source.mistakes:
            line, what = _first_mistake(source)
            self._wrong(line + 1, f"front matter: {what}", "lines such as lab: same-subnet")
            raise self._refusal()
        front: dict[str, object] = source.data
        for key in sorted(set(map(str, front)) - _FRONT):
            self._wrong(source.line((key,)) + 1, f"{key}: no such key", f"legal: {', '.join(sorted(_FRONT))}")
        for key in ("title", "lab"):
            if not front.get(key):
                self._wrong(1, f"front matter: {key} is missing", f"a line such as {key}: …")
        if not isinstance(front.get("order", 99), int):
            self._wrong(source.line(("order",)) + 1, f"order: {shown(front['order'])}: no number", "order: 3")
        self._system = str(front.get("system", "refnet"))
        self._mode = str(front.get("mode", ""))
        lines = {key: source.line((key,)) + 1 for key in ("lab", "mode")}
        if front.get("lab"):
            self._read_lab(str(front["lab"]), lines)
        if self._mistakes:
            raise self._refusal()
        return front

    def _lab_named(self, lab: str) -> str:
        """A lab's name, or the path of its file: that is written as seen from the lesson's own folder."""
        return str((self._path.parent / lab).resolve()) if "/" in lab or lab.endswith((".yaml", ".yml")) else lab

    def _read_lab(self, lab: str, lines: Mapping[str, int]) -> None:
        try:
            self._topology = load_lab(self._lab_named(lab))
        except LabError as error:
            self._wrong(lines["lab"], f"lab: {error.message.splitlines()[0]}", error.hint or "./lab labs lists them")
            return
        if self._system == NO_SYSTEM:
            if self._mode:
                self._wrong(lines["mode"], f"mode: {self._mode}: without a system there is none", "leave it out")
        elif self._mode not in MODES:
            self._wrong(lines["mode"], f"mode: {shown(self._mode)}: no such mode", f"legal: {', '.join(MODES)}")
        elif self._mode not in self._topology.modes:
            legal = ", ".join(self._topology.modes)
            self._wrong(lines["mode"], f"mode: {self._mode}: not one of {lab}", f"legal: {legal}")

    # ------------------------------------------------------------------ pieces
    def _read_intro(self, pieces: Sequence[Piece]) -> tuple[tuple[Prose, ...], tuple[Command, ...]]:
        prose, begins = [], []
        for item in self._read_items(pieces):
            if isinstance(item, Prose):
                prose.append(item)
            elif isinstance(item, Command) and (item.changes or item.soon):
                begins.append(item)
            else:
                self._wrong(item.line, "before the first heading only change, run … soon and let have a meaning", "##")
        return tuple(prose), tuple(begins)

    def _read_step(self, number: int, head: Piece, pieces: Sequence[Piece]) -> Step:
        items = self._read_items(pieces)
        if all(piece.kind == "prose" for piece in pieces):
            self._wrong(head.line, f"{head.head}: a step with nothing to do", "a block ```run PLACE or ```ask")
        for piece in pieces:
            if piece.kind == "let":
                self._wrong(piece.line, "let: only before the first heading", "move it there")
        return Step(number, head.head, head.line, items)

    def _read_items(self, pieces: Sequence[Piece]) -> tuple[Item, ...]:
        items: list[Item] = []
        waiting: Meanwhile | None = None
        rest = list(pieces)
        while rest:
            piece = rest.pop(0)
            if piece.kind not in ("run", "meanwhile") and waiting:
                self._wrong(piece.line, "meanwhile what? after ```meanwhile comes ```run", "move it")
                waiting = None
            if piece.kind == "prose":
                self._check_names(piece, piece.body)
                items.append(Prose(piece.body))
            elif piece.kind == "meanwhile":
                waiting = Meanwhile(self._place(piece, piece.head), self._text(piece))
            elif piece.kind in ("run", "change"):
                after = rest.pop(0) if rest and rest[0].kind == "shows" else None
                items.append(self._command(piece, after, waiting))
                waiting = None
            elif piece.kind == "shows":
                self._wrong(piece.line, "shows: it stands right after ```run or ```change", "move it")
            elif piece.kind == "ask":
                items.extend(self._question(piece))
            else:
                self._read_facts(piece)
        if waiting:
            self._wrong(pieces[-1].line, "meanwhile what? after ```meanwhile comes ```run", "add it")
        return tuple(items)

    def _command(self, piece: Piece, after: Piece | None, meanwhile: Meanwhile | None) -> Command:
        place, *words = piece.head.split() or [""]
        changes, soon = piece.kind == "change", "soon" in words
        for word in words:
            if word != "soon" or changes:
                legal = "```change PLACE" if changes else "```run PLACE, or ```run PLACE soon"
                self._wrong(piece.line, f"{piece.kind}: {word}: no such word", legal)
        shows, lacks = self._patterns(after)
        if not shows and not changes:
            self._wrong(piece.line, "nothing says what it shows, so it cannot be wrong", "add a block ```shows")
        return Command(self._place(piece, place), self._text(piece), piece.line, changes, soon, shows, lacks, meanwhile)

    def _patterns(self, piece: Piece | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Regular expressions, one a line; what follows `! ` must not be seen."""
        if piece is None:
            return (), ()
        shows: list[str] = []
        lacks: list[str] = []
        for number, text in enumerate(piece.body.splitlines(), start=piece.line + 1):
            pattern = text.strip().removeprefix("! ")
            if not pattern:
                continue
            self._check_names(piece, pattern, number)
            try:
                if re.search(NAMED.sub("x", pattern), ""):
                    self._wrong(number, f"{pattern}: an empty screen would show it", "say more")
            except re.error as error:
                self._wrong(number, f"{pattern}: no regular expression: {error}", "write \\( for a parenthesis")
            (lacks if text.strip().startswith("! ") else shows).append(pattern)
        if not shows:
            self._wrong(piece.line, "shows nothing", "a regular expression on each line; `! ` before what is not there")
        return tuple(shows), tuple(lacks)

    def _question(self, piece: Piece) -> tuple[Question, ...]:
        source = read_text(piece.body)
        data = source.data
        if not isinstance(data, dict) or source.mistakes:
            line, what = _first_mistake(source)
            self._wrong(piece.line + line, f"ask: {what}", "lines such as question: Which device …?")
            return ()
        before = len(self._mistakes)
        for key in sorted(set(map(str, data)) - _ASK):
            line = piece.line + source.line((key,))
            self._wrong(line, f"ask: {key}: no such key", f"legal: {', '.join(sorted(_ASK))}")
        for key in ("question", "at", "answer", "hints"):
            if not data.get(key):
                self._wrong(piece.line, f"ask: {key} is missing", "a question has question, at, answer and hints")
        kind = str(data.get("kind", "word"))
        if kind not in KINDS:
            self._wrong(piece.line + source.line(("kind",)), f"ask: kind: {kind}", f"legal: {', '.join(KINDS)}")
        if (kind == "choice") != bool(data.get("choices")):
            self._wrong(piece.line, "ask: choices and kind: choice go together", "write both, or neither")
        if len(self._mistakes) > before:
            return ()
        question = Question(
            text=str(data["question"]).strip(),
            answer=self._lookup(piece, str(data["at"]), str(data["answer"])),
            line=piece.line,
            kind=next(one for one in get_args(Kind) if one == kind),
            choices=tuple(map(_word, _list(data.get("choices") or ()))),
            name=str(data.get("name", "")),
            hints=tuple(str(hint).strip() for hint in _list(data["hints"])),
            wrong=tuple(self._wrong_answer(piece, one) for one in _list(data.get("wrong", ()))),
        )
        self._check_names(
            piece, " ".join((question.text, *question.choices, *question.hints, *(one.says for one in question.wrong)))
        )
        if question.name:
            self._add_fact(piece, question.name, question.answer)
        return (question,)

    def _wrong_answer(self, piece: Piece, data: object) -> WrongAnswer:
        keys = set(data) if isinstance(data, dict) else set()
        if not isinstance(data, dict) or keys not in ({"is", "says"}, {"at", "answer", "says"}):
            self._wrong(
                piece.line,
                f"ask: wrong: {shown(data)}",
                "is (a word) or at and answer, and says; in quotes where there is a comma",
            )
            return WrongAnswer("", "")
        if "is" in data:
            return WrongAnswer(_word(data["is"]), str(data["says"]).strip())
        return WrongAnswer(self._lookup(piece, str(data["at"]), str(data["answer"])), str(data["says"]).strip())

    def _read_facts(self, piece: Piece) -> None:
        data = read_text(piece.body).data
        for name, one in data.items() if isinstance(data, dict) else [("let", None)]:
            if not isinstance(one, dict) or set(one) != {"at", "run"}:
                self._wrong(piece.line, f"let: {shown(name)}", "lines such as mac: {at: node1, run: cat …}")
                continue
            self._add_fact(piece, str(name), self._lookup(piece, str(one["at"]), str(one["run"])))

    # ------------------------------------------------------------------ parts
    def _add_fact(self, piece: Piece, name: str, lookup: Lookup) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            self._wrong(piece.line, f"{shown(name)}: no name", "lower-case letters, digits and _")
        if name in self._facts:
            self._wrong(piece.line, f"{name}: named twice, also on line {self._facts[name].line}", "another name")
        self._facts[name] = lookup

    def _lookup(self, piece: Piece, place: str, text: str) -> Lookup:
        self._check_names(piece, text)
        return Lookup(self._place(piece, place), text.strip(), piece.line)

    def _text(self, piece: Piece) -> str:
        if not piece.body.strip():
            self._wrong(piece.line, f"{piece.kind}: no command", "it stands between the fences")
        self._check_names(piece, piece.body)
        return piece.body.strip()

    def _check_names(self, piece: Piece, text: str, line: int = 0) -> None:
        for name in NAMED.findall(text):
            if name not in self._facts:
                known = ", ".join(self._facts) or "none yet"
                self._wrong(line or piece.line, f"{{{{{name}}}}}: nothing above has this name", f"known: {known}")

    def _place(self, piece: Piece, place: str) -> str:
        lab = self._topology
        assert lab is not None
        known = [host.name for host in lab.hosts] + [alias for node in lab.nodes for alias in node.aliases]
        known += [segment.name for segment in lab.segments]
        if self._system != NO_SYSTEM:
            known += [pod.name for pod in lab.pods]
        if place not in known:
            what = f"{shown(place)}: no such place in lab {lab.name}"
            self._wrong(piece.line, f"{piece.kind}: {what}", meant(place, known, f"legal: {', '.join(known)}"))
        return place


def _first_mistake(source: Source) -> tuple[int, str]:
    """The line within the block, and what is wrong with it."""
    if not source.mistakes:
        return source.line(()), "no mapping"
    mistake = source.mistakes[0]
    words = mistake.what.split(", on lines ")[0]  # they would be counted from the block's beginning
    return source.line(mistake.path), ": ".join([*map(str, mistake.path), words])


def _list(data: object) -> list[object]:
    return list(data) if isinstance(data, list | tuple) else [data]


def _word(data: object) -> str:
    """As it was written: YAML takes yes and no for truth values."""
    return {True: "yes", False: "no"}[data] if isinstance(data, bool) else str(data)
