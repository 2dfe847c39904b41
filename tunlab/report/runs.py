"""The folders of runs: captures/RUN, the link captures/latest, and the pruning of old ones."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from datetime import datetime
from pathlib import Path

from tunlab.errors import LabError
from tunlab.report.results import RESULTS

KEPT_RUNS = 10
LATEST = "latest"
DOCUMENTS = (RESULTS, "kill.json", "flake.json", "compare.json")
_NAME = re.compile(r"\d{8}T\d{6}Z-(\d+)")


def new_run(captures: Path, out: Path | None, started: datetime) -> Path:
    """The empty folder of a new run: `out` where given, else captures/RUN, which `latest` then names.

    RUN is the UTC time and our process id. An `out` that holds an earlier run is emptied. Raises LabError if `out`
    holds anything else, because a run's folder is its own.
    """
    if out is not None:
        return _emptied(out.absolute())
    name = f"{started:%Y%m%dT%H%M%SZ}-{os.getpid()}"
    folder = captures / name
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise LabError(f"{folder}: make the run's folder: {error.strerror}", hint="name another with --out") from error
    _point_latest(captures, name)
    prune(captures)
    return folder


def prune(captures: Path) -> None:
    """Keep the newest runs; only folders that are named like runs are looked at, and none whose process lives."""
    runs = sorted((path for path in captures.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()), reverse=True)
    for path in runs[KEPT_RUNS:]:
        if not _is_running(path):
            shutil.rmtree(path)


def _is_running(path: Path) -> bool:
    found = _NAME.fullmatch(path.name)
    return found is not None and Path(f"/proc/{found.group(1)}").exists() and _exit_of(path) is None


def _exit_of(path: Path) -> object:
    return _document(path).get("exit")


def _document(folder: Path) -> dict[str, object]:
    """What the run in a folder wrote of itself, whatever kind of run it is; nothing where there is no such file."""
    for name in DOCUMENTS:
        try:
            found = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return found
    return {}


def _point_latest(captures: Path, name: str) -> None:
    """Like: ln -sfn NAME captures/latest, but never without the link in between."""
    fresh = captures / f".{LATEST}.{name}"
    fresh.symlink_to(name)
    fresh.replace(captures / LATEST)


def check_out(out: Path) -> list[Path]:
    """What an `out` holds, which is made where it is missing. Raises LabError where a run may not go there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        held = list(out.iterdir())
        if not os.access(out, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unusable(out, error) from error
    if held and not _holds_a_run(out):
        raise LabError(f"--out: {out}: holds something that is no run", hint="name an empty or a new folder")
    return held


def _emptied(out: Path) -> Path:
    try:
        for path in check_out(out):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError as error:
        raise _unusable(out, error) from error
    return out


def _unusable(out: Path, error: OSError) -> LabError:
    return LabError(f"--out: {out}: use the folder: {error.strerror}", hint="name one that you may write")


def _holds_a_run(out: Path) -> bool:
    return str(_document(out).get("schema")).startswith("tunlab/")
