"""asserted.jsonl: of rows that passed, a frame or two with the fields that were compared, for who wants to see them.

Every process that judges appends its own lines; a line is written at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tunlab.check.verdict import Key, Row, Verdict
from tunlab.wire.expect import Note

ASSERTED = "asserted.jsonl"


def append_notes(folder: Path, row: Row, notes: Sequence[Note]) -> None:
    """Write down what a row that passed has compared."""
    if row.verdict is not Verdict.PASSED or not notes:
        return
    lines = (json.dumps({**vars(row.key), **vars(note)}) for note in notes)
    opened = os.open(folder / ASSERTED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(opened, "".join(f"{line}\n" for line in lines).encode())
    finally:
        os.close(opened)


def read_notes(folder: Path) -> Mapping[Key, Sequence[Note]]:
    """What was written down so far; a line that was cut short is left out."""
    found: dict[Key, list[Note]] = {}
    for key, note in _notes_in(folder / ASSERTED):
        found.setdefault(key, []).append(note)
    return found


def _notes_in(path: Path) -> Iterator[tuple[Key, Note]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            told = json.loads(line)
            fields = tuple((str(field), str(seen), str(wanted)) for field, seen, wanted in told["fields"])
            yield Key(told["id"], told["lab"], told["mode"]), Note(str(told["file"]), int(told["number"]), fields)
        except (ValueError, KeyError, TypeError):
            continue
