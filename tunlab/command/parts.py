"""What `--with PART=PATH` says: other builds of refnet's parts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tunlab.check.selection import split_list
from tunlab.errors import LabError
from tunlab.lab.mistakes import meant, refuse
from tunlab.systems.refnet import PARTS

_WHOLE = "refnet"  # a folder that takes the place of all parts


def read_parts(parts: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The paths by part, absolute, and what is wrong with the rest: one text per mistake."""
    replaced: dict[str, str] = {}
    mistakes: list[str] = []
    for text in split_list(parts):
        part, equals, path = text.partition("=")
        if not equals or not path:
            mistakes.append(f"--with: {text}: not PART=PATH\n  hint: such as agent=/tmp/build/refnet-agent")
        elif part not in PARTS:
            hint = meant(part, PARTS, "see ./lab help conform")
            mistakes.append(f"--with: {part}: no such part\n  legal: {', '.join(PARTS)}\n  hint: {hint}")
        elif part in replaced:
            mistakes.append(f"--with: {part}: named twice\n  hint: keep one")
        elif part == _WHOLE and not Path(path, "bin").is_dir():
            mistakes.append(f"--with: {part}={path}: no folder of a refnet\n  hint: one that has bin/refnet-agent")
        elif part != _WHOLE and not (os.access(path, os.X_OK) and Path(path).is_file()):
            mistakes.append(f"--with: {part}={path}: no executable file\n  hint: build it first, or chmod +x it")
        else:
            replaced[part] = str(Path(path).resolve())
    return replaced, mistakes


def replaced_by(parts: Sequence[str]) -> dict[str, Path]:
    """The paths by part. Raises LabError with every mistake."""
    replaced, mistakes = read_parts(parts)
    if mistakes:
        raise refuse(mistakes) if len(mistakes) > 1 else LabError(mistakes[0])
    return {part: Path(path) for part, path in replaced.items()}
