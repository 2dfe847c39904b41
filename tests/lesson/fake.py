"""A lab that exists on paper: it answers commands from a table, and remembers what was typed."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from tunlab.lesson.model import Lesson
from tunlab.lesson.progress import Progress
from tunlab.lesson.read import read_lesson
from tunlab.lesson.screen import Screen
from tunlab.lesson.walk import Walk

FRONT = "---\ntitle: A lesson\nlab: same-subnet\nmode: vxlan\n---\n"
WHOLE = (
    FRONT
    + """\
First words.

```change node1
set mode one
```

```let
mac: {at: node1, run: tell mac}
```

## Look

```run node1
ip route
```

```shows
^default
! tunl0
```

```ask
question: Which device?
name: device
at: node1
answer: tell device
hints: [first hint, second hint]
wrong:
  - {is: eth9, says: Not that one.}
  - {at: node2, answer: tell device, says: That is node2's.}
```

## Change

The device is {{device}}.

```change node1
set mode two
```

```run pod1 soon
look for {{mac}}
```

```shows
^seen {{mac}}
```

## Last

```ask
question: How many?
at: node2
answer: count
kind: number
hints: [count]
```
"""
)


@dataclass
class FakeGround:
    """Answers by place and text; what it has no answer for succeeds and prints `default`."""

    answers: Mapping[tuple[str, str], str | list[str]] = field(default_factory=dict)
    typed: list[str] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)

    def type(self, place: str, text: str, say: Callable[[str], None], *, by_hand: bool) -> tuple[int, str]:
        self.typed.append(f"{place}$ {text}")
        code, out, err = self._answer(place, text)
        say(out + err)
        return code, out + err

    def look(self, place: str, text: str) -> tuple[int, str, str]:
        self.looked.append(f"{place}$ {text}")
        return self._answer(place, text)

    @contextlib.contextmanager
    def beside(self, place: str, text: str) -> Iterator[None]:
        self.running.append(f"{place}$ {text}")
        yield
        self.running.append("ended")

    def _answer(self, place: str, text: str) -> tuple[int, str, str]:
        found = self.answers.get((place, text), "default\n")
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        return (1, "", found.removeprefix("refused: ")) if found.startswith("refused: ") else (0, found, "")


ANSWERS: dict[tuple[str, str], str | list[str]] = {
    ("node1", "tell mac"): "02:00:00:00:00:01\n",
    ("node1", "tell device"): "cali1\n",
    ("node2", "tell device"): "cali2\n",
    ("node2", "count"): "3\n",
    ("pod1", "look for 02:00:00:00:00:01"): "seen 02:00:00:00:00:01\n",
}


def lesson(folder: Path, text: str = WHOLE) -> Lesson:
    path = folder / "a-lesson.md"
    path.write_text(text)
    return read_lesson(path)


@dataclass
class Person:
    """Types these words, and then nothing more; keeps what was on the screen."""

    words: list[str]
    prompts: list[str] = field(default_factory=list)

    def __call__(self, prompt: str) -> str | None:
        self.prompts.append(prompt)
        return self.words.pop(0) if self.words else None


def walk(one: Lesson, ground: FakeGround, words: list[str] | None, start: int = 1) -> tuple[bool, str, Person | None]:
    """Go through a lesson; whether the end was reached, the screen, and who typed (nobody for None)."""
    out = io.StringIO()
    screen = Screen(Console(file=out, width=80, highlight=False))
    person = None if words is None else Person(list(words))
    reached = Walk(one, ground, screen, Progress(one.name), person).go(start)
    return reached, out.getvalue(), person
