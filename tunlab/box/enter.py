"""Starts a program as process 1 of fresh namespaces and lives exactly as long as it does. Standard library alone.

`python3 -ISE enter.py MAP NAMESPACES -- PROGRAM…`; NAMESPACES is a comma list of mount, net, pid, ipc, uts.
MAP says which ids the new user namespace knows: `range` (all of them: the caller is root), `subuid` (newuidmap and
/etc/subuid), `root` (the caller as root and nobody else), `same` (the caller as himself), `none` (no user namespace).
Root goes without a user namespace, too, where the kernel grants none.
Its standard input is the leash: when that ends, because whoever holds it closed it or died in whatever way, process 1
is killed, and with it the kernel kills everything in the pid namespace. It ends only after all of that has ended.
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
RANGE_IDS = 65536
REFUSED = "enter:"  # how a line in the box's log begins that tells why the kernel let nobody in


def map_ids(how: str, pid: int) -> None:
    """Write the id maps of the user namespace that process `pid` has just made; raises OSError when refused."""
    uid, gid = os.getuid(), os.getgid()
    if how == "range":
        for kind in ("uid", "gid"):
            Path(f"/proc/{pid}/{kind}_map").write_text(f"0 0 {RANGE_IDS}")
    elif how == "subuid":
        for tool, own, table in (("newuidmap", uid, "/etc/subuid"), ("newgidmap", gid, "/etc/subgid")):
            line = [tool, str(pid), "0", str(own), "1", "1", str(subordinate_ids(table)), str(RANGE_IDS - 1)]
            done = subprocess.run(line, check=False, capture_output=True, text=True)
            if done.returncode != 0:
                raise OSError(f"{' '.join(line)}: {done.stderr.strip()}")
    else:
        inside = (uid, gid) if how == "same" else (0, 0)
        Path(f"/proc/{pid}/setgroups").write_text("deny")
        Path(f"/proc/{pid}/uid_map").write_text(f"{inside[0]} {uid} 1")
        Path(f"/proc/{pid}/gid_map").write_text(f"{inside[1]} {gid} 1")


def subordinate_ids(table: str) -> int:
    """The first id of a range in /etc/subuid or /etc/subgid that is the caller's and large enough, else OSError."""
    import pwd

    try:
        names = {pwd.getpwuid(os.getuid()).pw_name, str(os.getuid())}
    except KeyError:
        names = {str(os.getuid())}
    for line in Path(table).read_text().splitlines():
        owner, _, rest = line.partition(":")
        start, _, count = rest.partition(":")
        if owner in names and start.isdecimal() and count.isdecimal() and int(count) >= RANGE_IDS - 1:
            return int(start)
    raise OSError(f"{table} grants {' or '.join(sorted(names))} no range of {RANGE_IDS - 1} ids")


def main() -> int:
    """Fork, unshare, have the maps written from outside, fork process 1, wait for it or for the end of the leash."""
    how, wanted = sys.argv[1], sys.argv[2]
    argv = sys.argv[sys.argv.index("--") + 1 :]
    flags = sum(_FLAGS[name] for name in wanted.split(",") if name)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    kernel.adopt_orphans()
    own = os.getpid()
    ready, say_ready = os.pipe()
    mapped, say_mapped = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ready)
        os.close(say_mapped)
        os._exit(_unshared(how, flags, argv, own, say_ready, mapped))
    os.close(say_ready)
    os.close(mapped)
    if os.read(ready, 1) == b"u":
        try:
            map_ids(how, child)
            os.write(say_mapped, b"m")
        except OSError as error:
            sys.stderr.write(f"{REFUSED} map ids ({how}): {error}\n")
    os.close(say_mapped)
    watched = os.pidfd_open(child)
    while True:
        readable, _, _ = select.select([0, watched], [], [])
        if watched in readable:
            break
        if not os.read(0, 64):
            os.kill(child, signal.SIGKILL)
            break
    return _last_of_all(child)


def _last_of_all(child: int) -> int:
    """The code of `child`, once process 1 has ended too, which ends last of all in its pid namespace."""
    code = 0
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return max(code, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)


def _own_users(how: str) -> OSError | None:
    """Make a user namespace, where one is wanted; root may go on without, and then gets told why there is none."""
    try:
        kernel.unshare(kernel.CLONE_NEWUSER)
    except OSError as error:
        if how == "same" or os.getuid() != 0:
            raise
        return error
    return None


def _unshared(how: str, flags: int, argv: list[str], parent: int, say_ready: int, mapped: int) -> int:
    try:
        refused = _own_users(how) if how != "none" else None
        if how != "none" and refused is None:
            os.write(say_ready, b"u")
            if os.read(mapped, 1) != b"m":
                return 71
        else:
            os.write(say_ready, b"n")
        try:
            kernel.unshare(flags)
        except OSError as error:
            raise refused or error from None
    except OSError as error:
        sys.stderr.write(f"{REFUSED} {error.strerror}\n")
        return 72
    kernel.die_with_parent(signal.SIGKILL)  # only now: gaining capabilities in a user namespace clears the setting
    if os.getppid() != parent:
        return 73
    alive, stay_alive = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(stay_alive)
        kernel.die_with_parent(signal.SIGKILL)
        if select.select([alive], [], [], 0)[0]:  # process 1 cannot see its parent's pid, only its end of a pipe
            os._exit(74)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execvp(argv[0], argv)
        except OSError as error:
            sys.stderr.write(f"{REFUSED} {argv[0]}: {error.strerror}\n")
        os._exit(75)
    return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
