"""Where files are kept: the user's own runtime and state folders, a run folder per box, and the sweeping of dead ones.

Whoever makes a run folder holds a lock on a file in it for as long as he lives; the kernel lets go of it when he dies,
in whatever way. What a killed harness could not remove, the next start finds by that and removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tunlab.errors import WorldError

_OWNER = "owner.lock"
_MADE_HERE = re.compile(r"[^.].*\.[a-z0-9_]{8}")
_held: dict[Path, int] = {}


def runtime_folder() -> Path:
    """Where the state of labs lives: $XDG_RUNTIME_DIR/tunlab, else a 0700 folder of the user's own under /tmp.

    The XDG Base Directory Specification wants the former absolute and the user's own; root by `su` inherits another's.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if Path(base).is_absolute() and os.access(base, os.W_OK) and Path(base).stat().st_uid == os.getuid():
        folder = Path(base, "tunlab")
    else:
        folder = Path(tempfile.gettempdir(), f"tunlab-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    seen = folder.lstat()
    if seen.st_uid != os.getuid() or seen.st_mode & 0o077 or folder.is_symlink():
        raise WorldError(
            f"{folder}: keep the state of labs there: it belongs to somebody else or is open to others",
            hint="set XDG_RUNTIME_DIR to a folder of your own",
        )
    return folder


def state_folder() -> Path:
    """What outlives labs: $XDG_STATE_HOME/tunlab, else ~/.local/state/tunlab; the specification wants it absolute."""
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "tunlab"


def write_whole(path: Path, text: str) -> None:
    """Write a file, whole or not at all. Raises OSError."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.replace(path)


def fresh_run_dir(name: str) -> Path:
    """A new folder for one box, this process's until it ends or drops it; sweeps first what dead owners have left."""
    with _door() as home:
        _sweep(home)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=home))
        _held[folder] = _lock(folder)
    return folder


def drop_run_dir(folder: Path) -> None:
    """Remove a run folder, and let go of it; one that is gone already is fine."""
    shutil.rmtree(folder, ignore_errors=True)
    handle = _held.pop(folder, None)
    if handle is not None:
        os.close(handle)
        with _door() as home:
            _leave(home)


def vacate() -> None:
    """Remove the locks of standing labs whose owners died, and the runtime folder itself when nothing else is in it."""
    with _door() as home:
        for path in home.glob(".*.lock"):
            with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("r+") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        _leave(home)


def is_lock_of(path: Path, handle: int) -> bool:
    """Whether the file at `path` is still the one that was opened as `handle`, and not removed since by `vacate`."""
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _door() -> Iterator[Path]:
    """One at a time: a folder that is made and not locked yet looks like one whose owner is dead."""
    while True:
        home = runtime_folder()
        try:
            handle = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # its last user has just removed it
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if home.exists() and home.stat().st_ino == os.fstat(handle).st_ino:
                yield home
                return
        finally:
            os.close(handle)


def _leave(home: Path) -> None:
    """The last one out leaves nothing behind."""
    with contextlib.suppress(OSError):  # somebody else is still in it
        home.rmdir()


def _lock(folder: Path) -> int:
    handle = os.open(folder / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _sweep(home: Path) -> None:
    for folder in home.iterdir():
        if not _MADE_HERE.fullmatch(folder.name) or folder.is_symlink():
            continue
        try:
            handle = _lock(folder)
        except OSError:  # its owner lives, or it is on its way out
            continue
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)
