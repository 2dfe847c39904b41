"""Starts a program as process 1 of fresh namespaces and lives exactly as long as it does. Standard library alone.

`python3 -ISE enter.py MAP NAMESPACES -- PROGRAM…`; NAMESPACES is a comma list of mount, net, pid, ipc, uts.
MAP says which ids the new user namespace knows: `range` (all of them: the caller is root), `subuid` (newuidmap and
/etc/subuid), `root` (the caller as root and nobody else), `same` (the caller as himself), `none` (no user namespace).
Its standard input is the leash: when that ends, because whoever holds it closed it or died in whatever way, process 1
is killed, and with it the kernel kills everything in the pid namespace.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # isolated mode leaves the checkout out

from tunlab.box.inside import kernel

_FLAGS = {
    "mount": kernel.CLONE_NEWNS,
    "net": kernel.CLONE_NEWNET,
    "pid": kernel.CLONE_NEWPID,
    "ipc": kernel.CLONE_NEWIPC,
    "uts": kernel.CLONE_NEWUTS,
}
_RANGE_IDS = 65536


def map_ids(how: str, pid: int) -> None:
    """Write the id maps of the user namespace that process `pid` has just made; raises OSError when refused."""
    uid, gid = os.getuid(), os.getgid()
    if how == "range":
        for kind in ("uid", "gid"):
            Path(f"/proc/{pid}/{kind}_map").write_text(f"0 0 {_RANGE_IDS}")
    elif how == "subuid":
        for tool, own, first in (("newuidmap", uid, 1), ("newgidmap", gid, 1)):
            start = _subordinate_start("/etc/subuid" if tool == "newuidmap" else "/etc/subgid")
            line = [tool, str(pid), "0", str(own), "1", str(first), str(start), str(_RANGE_IDS - 1)]
            subprocess.run(line, check=True)
    else:
        inside = (uid, gid) if how == "same" else (0, 0)
        Path(f"/proc/{pid}/setgroups").write_text("deny")
        Path(f"/proc/{pid}/uid_map").write_text(f"{inside[0]} {uid} 1")
        Path(f"/proc/{pid}/gid_map").write_text(f"{inside[1]} {gid} 1")


def _subordinate_start(path: str) -> int:
    import pwd

    names = (pwd.getpwuid(os.getuid()).pw_name, str(os.getuid()))
    for line in Path(path).read_text().splitlines():
        owner, start, _ = line.split(":")
        if owner in names:
            return int(start)
    raise OSError(f"{path} grants {names[0]} no range of ids")


def main() -> int:
    """Fork, unshare, have the maps written from outside, fork process 1, wait for it or for the end of the leash."""
    how, wanted = sys.argv[1], sys.argv[2]
    argv = sys.argv[sys.argv.index("--") + 1 :]
    flags = sum(_FLAGS[name] for name in wanted.split(",") if name)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ready, say_ready = os.pipe()
    mapped, say_mapped = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ready)
        os.close(say_mapped)
        os._exit(_unshared(how, flags, argv, say_ready, mapped))
    os.close(say_ready)
    os.close(mapped)
    if os.read(ready, 1) == b"u":
        map_ids(how, child)
        os.write(say_mapped, b"m")
    os.close(say_mapped)
    watched = os.pidfd_open(child)
    while True:
        readable, _, _ = select.select([0, watched], [], [])
        if watched in readable:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if not os.read(0, 64):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 0


def _unshared(how: str, flags: int, argv: list[str], say_ready: int, mapped: int) -> int:
    try:
        if how != "none":
            kernel.unshare(kernel.CLONE_NEWUSER)
            os.write(say_ready, b"u")
            if os.read(mapped, 1) != b"m":
                return 71
        else:
            os.write(say_ready, b"n")
        kernel.unshare(flags)
    except OSError as error:
        sys.stderr.write(f"enter: {error}\n")
        return 72
    kernel.die_with_parent(signal.SIGKILL)  # only now: gaining capabilities in a user namespace clears the setting
    if os.getppid() == 1:
        return 73
    first = os.fork()
    if first == 0:
        kernel.die_with_parent(signal.SIGKILL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], argv)
    return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
