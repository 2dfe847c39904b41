"""Laying a host's own writable layer over a folder of the machine's, which what is written there never reaches."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from tunlab.box.inside import kernel

_MIRRORED_LEVELS = 2  # /etc/cni/net.d, /opt/cni/bin, /var/lib/cni: where programs expect to be able to write


def lay_over(folder: str, layer: Path) -> None:
    """From now on what is written below `folder` goes below `layer`. Like: mount -t overlay …"""
    _overlay(Path(folder), Path(folder), layer)


def _overlay(lower: Path, target: Path, layer: Path) -> None:
    upper, work = layer / "upper", layer / "work"
    upper.mkdir(parents=True)
    work.mkdir()
    if lower.stat().st_uid != 0:
        _mirror(lower, upper, _MIRRORED_LEVELS)
    try:
        kernel.mount("overlay", str(target), "overlay", data=f"lowerdir={lower},upperdir={upper},workdir={work}")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Something is mounted below it (/etc/hosts in somebody's container, say), and a user namespace may not look
        # beneath a mount that it did not make, which an overlay would allow. So the pieces are laid over, one by one.
        _lay_pieces(lower, target, layer / "pieces")


def _mirror(lower: Path, upper: Path, levels: int) -> None:
    """Give the host folders of its own where the machine's belong to a root whom this box has no id for."""
    for entry in os.scandir(lower):
        if entry.is_dir(follow_symlinks=False) and os.access(entry.path, os.R_OK | os.X_OK):
            own = upper / entry.name
            own.mkdir(entry.stat().st_mode & 0o777)
            if levels > 1:
                _mirror(Path(entry.path), own, levels - 1)


def _lay_pieces(lower: Path, target: Path, pieces: Path) -> None:
    whole = pieces / "whole"
    whole.mkdir(parents=True)
    for number, entry in enumerate(os.scandir(lower)):
        own = whole / entry.name
        with contextlib.suppress(PermissionError):  # what may not be read here is not there
            if entry.is_symlink():
                own.symlink_to(Path(entry.path).readlink())
            elif entry.is_dir():
                own.mkdir()
                _overlay(Path(entry.path), own, pieces / str(number))
            elif entry.is_file():
                shutil.copy(entry.path, own)
    kernel.mount(str(whole), str(target), flags=kernel.MS_BIND | kernel.MS_REC)
