"""The files that a task is asked to write: whether that will succeed is said before anything is sent or captured."""

from __future__ import annotations

import os
from pathlib import Path

from tunlab.errors import LabError


def target(flag: str, text: str, ending: str) -> Path:
    """The file that an option names. Raises LabError for one of another kind or that one may not write."""
    path = Path(text).absolute()
    if path.suffix != ending:
        raise LabError(f"{flag} {text}: what is written is {ending[1:]}", hint=f"{flag} {_renamed(text, ending)}")
    if not path.parent.is_dir():
        raise LabError(f"{flag} {text}: there is no folder {path.parent}", hint="make it first")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise LabError(f"{flag} {text}: not a file that you may write", hint="choose another place")
    return path


def _renamed(text: str, ending: str) -> Path:
    path = Path(text)
    return path.with_suffix(ending) if path.name else path / f"packet{ending}"
