"""Walking through a lesson: explain, run or let type, ask, judge by the lab, give hints, remember."""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tunlab.errors import LabError, SystemFault, TunlabError
from tunlab.lesson.ground import Ground
from tunlab.lesson.judge import WHAT, complaints, meaning
from tunlab.lesson.model import Command, Lesson, Lookup, Prose, Question, Step
from tunlab.lesson.progress import Progress
from tunlab.lesson.read import NAMED
from tunlab.lesson.screen import Screen
from tunlab.wait import NeverHappened, eventually

SOON_S = 40.0
HELP = "Enter goes on or runs what is shown; or type a command or an answer of your own"
WORDS = "hint, skip, back, quit; at a question also answer, and ! before a command"


class Move(enum.Enum):
    """Where to go from here."""

    ON, BACK, QUIT = enum.auto(), enum.auto(), enum.auto()


@dataclass
class Walk:
    """One person's way (or, without `typed`, nobody's) through one lesson on a lab that stands."""

    lesson: Lesson
    ground: Ground
    screen: Screen
    progress: Progress
    typed: Callable[[str], str | None] | None
    _known: dict[str, str] = field(default_factory=dict)

    # ------------------------------------------------------------------ the way
    def go(self, start: int) -> bool:
        """Walk from a step to the end; whether the end was reached."""
        steps = self.lesson.steps
        self.bring(start)
        if self.typed is not None:
            self.screen.note(f"{HELP}. Words: {WORDS}.")
        for prose in self.lesson.intro if start == 1 else ():
            self.screen.prose(self._filled(prose.text))
        number = start
        while number <= len(steps):
            self._save(number)  # whoever leaves, in whatever way, comes back to this step
            self.screen.heading(number, len(steps), steps[number - 1].title)
            move = self._take(steps[number - 1])
            if move is Move.QUIT:
                return False
            if move is Move.BACK:
                number = max(1, number - 1)
                self.bring(number)
                continue
            number += 1
        self._save(number)
        return True

    def bring(self, number: int) -> None:
        """Bring the lab to the beginning of a step, whatever was done to it before. Raises SystemFault."""
        commands = tuple(self.lesson.brings(number))
        if number > 1:
            self.screen.note(f"bringing the lab to step {number}")
        for command in commands:
            self._known.clear()
            text = self._filled(command.text)
            if command.changes:
                self._change(command, text)
            else:
                self._wait(command, text)

    def _change(self, command: Command, text: str) -> None:
        code, out, err = self.ground.look(command.place, text)
        if code != 0:
            raise self._fault(command.line, f"{command.place}$ {text}: exit code {code}: {(err or out).strip()}")

    def _save(self, number: int) -> None:
        if self.typed is not None:
            self.progress.save(number)

    def _take(self, step: Step) -> Move:
        for item in step.items:
            if isinstance(item, Prose):
                self.screen.prose(self._filled(item.text))
                continue
            move = self._command(item) if isinstance(item, Command) else self._question(item)
            if move is not Move.ON:
                return move
        return Move.ON

    # ------------------------------------------------------------------ commands
    def _command(self, command: Command) -> Move:
        text = self._filled(command.text)
        if command.meanwhile is not None:
            self.screen.beside(command.meanwhile.place, self._filled(command.meanwhile.text))
        self.screen.command(command.place, text)
        while True:
            said = self._said(f"{command.place}$ ")
            if said is None or said == "quit":
                return Move.QUIT
            if said == "back":
                return Move.BACK
            if said == "hint":
                self.screen.note("Enter runs the command above; then look for what the text spoke of.")
                continue
            if said == "skip":
                if command.changes:  # what follows counts on it
                    self._change(command, text)
                    self._known.clear()
                return Move.ON
            wrong = self._run(command, said or text, by_itself=not said)
            if not wrong:
                return Move.ON
            if self.typed is None:
                raise self._fault(command.line, f"{command.place}$ {text}: {'; '.join(wrong)}")
            self.screen.wrong("Not yet what this step is about: " + "; ".join(wrong))

    def _run(self, command: Command, text: str, *, by_itself: bool) -> list[str]:
        """Run what was typed or shown; what is missing on the screen then."""
        self._known.clear()
        with self._beside(command):
            if command.soon and by_itself:
                try:
                    self.screen.output(self._wait(command, text))
                except NeverHappened as error:
                    self.screen.output(str(error.last))
                    return self._complaints(command, str(error.last))
                return []
            code, seen = self.ground.type(command.place, text, self.screen.output, by_hand=self.typed is not None)
        self.screen.end_output(seen)
        if command.changes and by_itself and code != 0:
            return [f"exit code {code}"]
        return self._complaints(command, seen)

    @contextlib.contextmanager
    def _beside(self, command: Command) -> Iterator[None]:
        if command.meanwhile is None:
            yield
            return
        with self.ground.beside(command.meanwhile.place, self._filled(command.meanwhile.text)):
            yield

    def _wait(self, command: Command, text: str) -> str:
        """Look until the command shows what it must; its last output."""

        def look() -> str:
            _, out, err = self.ground.look(command.place, text)
            return out + err

        return eventually(
            look,
            lambda seen: not self._complaints(command, seen),
            within_s=SOON_S,
            every_s=0.2,
            what=f"{self._at(command.line)}: {command.place}$ {text}",
        )

    def _complaints(self, command: Command, seen: str) -> list[str]:
        shows = [self._filled(one, escape=True) for one in command.shows]
        return complaints(seen, shows, [self._filled(one, escape=True) for one in command.lacks])

    # ------------------------------------------------------------------ questions
    def _question(self, question: Question) -> Move:
        question = replace(question, choices=tuple(map(self._filled, question.choices)))
        self.screen.question(self._filled(question.text), question.choices)
        answer = self._answer_to(question)
        hints = [self._filled(hint) for hint in question.hints]
        how = f"./lab exec {question.answer.place} -- sh -c '…': {self._filled(question.answer.text)}"
        self._check_wrong_answers(question, answer)
        while True:
            said = self._said("? ", answer=answer)
            if said is None or said == "quit":
                return Move.QUIT
            if said == "back":
                return Move.BACK
            if said == "skip":
                return Move.ON
            if said == "answer":
                self.screen.note(f"It is {answer}. Where it comes from: {how}")
                return Move.ON
            if said.startswith("!"):
                self._look_around(question, said[1:].strip())
            elif said in ("", "hint"):
                self.screen.note(hints.pop(0) if hints else "No more hints; `answer` tells it.")
            elif self._judge(question, said, answer):
                return Move.ON

    def _judge(self, question: Question, said: str, answer: str) -> bool:
        """Say whether an answer is right, and what a usual mistake has overlooked."""
        try:
            meant = meaning(question.kind, said, question.choices)
        except ValueError:
            self.screen.wrong(f"{said}: not {WHAT[question.kind]}")
            return False
        if meant == meaning(question.kind, answer, question.choices):
            self.screen.right(f"Right: {answer}")
            return True
        for wrong in question.wrong:
            if meant == self._meaning_of(question, wrong.answer):
                self.screen.wrong(f"No: {self._filled(wrong.says)}")
                return False
        self.screen.wrong("No; the lab says otherwise. `hint` helps.")
        return False

    def _meaning_of(self, question: Question, answer: str | Lookup) -> object:
        text = answer if isinstance(answer, str) else self._look_up(answer)
        return meaning(question.kind, text, question.choices)

    def _check_wrong_answers(self, question: Question, answer: str) -> None:
        """A lesson may not call the right answer wrong."""
        right = meaning(question.kind, answer, question.choices)
        for wrong in question.wrong if self.typed is None else ():
            if self._meaning_of(question, wrong.answer) == right:
                raise self._fault(question.line, f"calls the right answer wrong: {answer}")

    def _answer_to(self, question: Question) -> str:
        answer = self._look_up(question.answer)
        try:
            meaning(question.kind, answer, question.choices)
        except ValueError as error:
            raise self._fault(question.line, f"the lab's own answer {answer!r} is not {WHAT[question.kind]}") from error
        return " ".join(answer.split())

    def _look_around(self, question: Question, text: str) -> None:
        """`! command` where the question is about, `! PLACE command` elsewhere."""
        place, _, rest = text.partition(" ")
        at = question.answer.place
        if rest and re.fullmatch(r"[a-z][a-z0-9-]*", place):
            with contextlib.suppress(LabError):
                self.ground.look(place, "true")
                at, text = place, rest
        self.screen.command(at, text)
        _, seen = self.ground.type(at, text, self.screen.output, by_hand=True)
        self.screen.end_output(seen)

    # ------------------------------------------------------------------ facts
    def _filled(self, text: str, *, escape: bool = False) -> str:
        """A text with {{name}} replaced by what the lab says now."""

        def value(found: re.Match[str]) -> str:
            name = found[1]
            if name not in self._known:
                self._known[name] = self._look_up(self.lesson.facts[name])
            return re.escape(self._known[name]) if escape else self._known[name]

        return NAMED.sub(value, text)

    def _look_up(self, lookup: Lookup) -> str:
        text = self._filled(lookup.text)
        code, out, err = self.ground.look(lookup.place, text)
        if code != 0 or not out.strip():
            why = err.strip() or (f"exit code {code}" if code else "it prints nothing")
            raise self._fault(lookup.line, f"{lookup.place}$ {text}: {why}")
        return out.strip()

    def _said(self, prompt: str, answer: str = "") -> str | None:
        """What was typed, None at the end of input; nobody types nothing, or the right answer."""
        if self.typed is None:
            self.screen.typed(prompt, answer)
            return answer
        said = self.typed(prompt)
        return None if said is None else said.strip()

    def _at(self, line: int) -> str:
        return f"{self.lesson.name}:{line}"

    def _fault(self, line: int, what: str) -> TunlabError:
        return SystemFault(f"{self._at(line)}: {what}", hint=f"./lab lesson {self.lesson.name} --reset begins anew")
