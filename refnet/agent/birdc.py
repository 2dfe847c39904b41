"""BIRD's control socket as a stream of questions and answers that never blocks, and the reading of `show protocols`."""

from __future__ import annotations

import re
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from refnet.agent.speaker import KINDS, Session


@dataclass(frozen=True)
class Answer:
    """What BIRD said to one command; `code` is that of the last line (8000 and above: refused)."""

    command: str
    code: int
    lines: tuple[str, ...]


class Birdc:
    """One connection to BIRD. Raises OSError from the constructor while nobody listens."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._text = b""
        self._lines: list[str] = []
        # BIRD greets first; the greeting is taken as the answer to this.
        self._asked: deque[str] = deque([""])

    def fileno(self) -> int:
        return self._socket.fileno()

    def waits(self) -> bool:
        """Whether an answer is outstanding."""
        return bool(self._asked)

    def ask(self, command: str) -> None:
        """Send a command; its answer comes through `read`. Raises OSError when BIRD is gone or does not read."""
        self._asked.append(command)
        self._socket.sendall(command.encode() + b"\n")

    def read(self) -> list[Answer]:
        """The answers that have come complete. Raises OSError when BIRD is gone."""
        while True:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                break
            if not data:
                raise ConnectionResetError("bird closed its control socket")
            self._text += data
        *lines, self._text = self._text.split(b"\n")
        return list(self._answers(line.decode(errors="replace") for line in lines))

    def close(self) -> None:
        self._socket.close()

    def _answers(self, lines: Iterator[str]) -> Iterator[Answer]:
        """`1002-text` begins a code's lines, ` text` goes on with it, `0003 text` (a blank) is the last line."""
        for line in lines:
            head = re.match(r"(\d{4})([ -])", line)
            self._lines.append(line[5:] if head else line[1:])
            if head and head[2] == " " and self._asked:
                yield Answer(self._asked.popleft(), int(head[1]), tuple(self._lines))
                self._lines = []


def sessions(lines: tuple[str, ...]) -> tuple[Session, ...]:
    """The BGP sessions among the lines of `show protocols`; other protocols are left out."""
    found = []
    for line in lines:
        words = line.split(None, 5)
        if len(words) < 5 or words[1] != "BGP":
            continue
        kind, _, address = words[0].partition("_port_")[0].partition("_")
        info = words[5].strip() if len(words) > 5 else ""
        since = words[4].partition(".")[0]
        colon = "." if re.fullmatch(r"\d+(_\d+){3}", address) else ":"
        found.append(Session(address.replace("_", colon), KINDS.get(kind, kind), words[3], since, info))
    return tuple(sorted(found, key=lambda session: session.peer))
