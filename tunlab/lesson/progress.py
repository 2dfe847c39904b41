"""How far somebody has come with a lesson, kept from one day to the next in the user's own state folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from tunlab.box.folder import state_folder, write_whole
from tunlab.errors import WorldError
from tunlab.lesson.read import FOLDER


@dataclass(frozen=True, slots=True)
class Progress:
    """Which step comes next; one more than there are when the lesson has been gone through."""

    lesson: str

    @property
    def path(self) -> Path:
        return state_folder() / "lessons" / f"{self.lesson}.json"

    def read(self) -> int:
        """The next step; 1 where nothing is known, or nothing that can be read."""
        try:
            step = json.loads(self.path.read_text())["step"]
        except (OSError, ValueError, KeyError, TypeError):
            return 1
        return step if isinstance(step, int) and step > 0 else 1

    def save(self, step: int) -> None:
        """Write the next step down, in one go. Raises WorldError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps({"step": step}) + "\n")
        except OSError as error:
            raise WorldError(f"{self.path}: keep the progress: {error.strerror}", hint="set XDG_STATE_HOME") from error

    def forget(self) -> None:
        """Begin anew; what was never begun is fine."""
        self.path.unlink(missing_ok=True)


def progress_of(path: Path) -> Progress:
    """That of the lesson in a file; one outside of labs/lessons is known by where it lies, for names may be alike."""
    whole = path.resolve()
    if whole.parent == FOLDER:
        return Progress(path.stem)
    return Progress(f"{path.stem}-{hashlib.sha256(bytes(whole)).hexdigest()[:12]}")
