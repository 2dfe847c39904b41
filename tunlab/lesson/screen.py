"""What a lesson looks like in a terminal: 80 columns are enough, and so is no colour."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

_WIDEST = 100


class Screen:
    """Prints the parts of a lesson. Colours and width are the terminal's; a pipe gets 80 columns of plain text."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stdout, highlight=False)
        if self._console.width > _WIDEST:
            self._console.width = _WIDEST

    def heading(self, number: int, count: int, title: str) -> None:
        """The beginning of a step."""
        self._console.print()
        self._console.print(Text(f"Step {number} of {count}: {title}", style="bold underline"))

    def prose(self, markdown: str) -> None:
        """A paragraph or more."""
        self._console.print()
        self._markdown(markdown)

    def command(self, place: str, text: str) -> None:
        """What is to be typed, and where."""
        first, *rest = text.splitlines()
        self._console.print()
        self._line(Text.assemble("  ", (f"{place}$ ", "cyan"), (first, "bold")))
        for line in rest:
            self._line(Text(f"    {line}", style="bold"))

    def beside(self, place: str, text: str) -> None:
        """What goes on in another terminal."""
        self._console.print()
        self._line(Text(f"  meanwhile {place}$ {text}", style="dim"))

    def output(self, text: str) -> None:
        """What a command prints, as it comes and as it is."""
        self._console.file.write(text)
        self._console.file.flush()

    def end_output(self, text: str) -> None:
        """The end of it, on a line of its own."""
        if text and not text.endswith("\n"):
            self.output("\n")

    def question(self, text: str, choices: Sequence[str]) -> None:
        """A question, and what may be answered where that is given."""
        self._console.print()
        self._markdown(f"**{text}**")
        for number, choice in enumerate(choices, start=1):
            self._line(Text(f"  {number}. {choice}"))

    def typed(self, prompt: str, text: str) -> None:
        """A prompt and what stands behind it, where nobody types."""
        if text:
            self._line(Text(f"{prompt}{text}"))

    def note(self, text: str) -> None:
        """A remark of ours: a hint, or what goes on."""
        self._told(text, "yellow")

    def right(self, text: str) -> None:
        """Praise."""
        self._told(text, "green")

    def wrong(self, text: str) -> None:
        """What is not so."""
        self._told(text, "red")

    def _markdown(self, text: str) -> None:
        with self._console.capture() as captured:
            self._console.print(Markdown(text))
        self.output("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n")  # rich fills each line up

    def _told(self, text: str, colour: str) -> None:
        for line in Text(text, style=colour).wrap(self._console, self._console.width):
            line.rstrip()
            self._console.print(line)

    def _line(self, text: Text) -> None:
        """A line that may be copied: never folded."""
        self._console.print(text, soft_wrap=True)
