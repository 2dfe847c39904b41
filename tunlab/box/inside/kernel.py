"""The few system calls that Python 3.11 lacks: setns, unshare, mount, prctl and a few more. Standard library alone."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_NAMES = {
    "--user": CLONE_NEWUSER,
    "--mount": CLONE_NEWNS,
    "--net": CLONE_NEWNET,
    "--pid": CLONE_NEWPID,
    "--ipc": CLONE_NEWIPC,
    "--uts": CLONE_NEWUTS,
}

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC = 4096, 16384
MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 18, 1 << 19, 1 << 20

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_MNT_DETACH = 2
_RB_POWER_OFF = 0x4321FEDC
NETNS_FOLDER = "/run/netns"


def _checked(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")  # its strerror tells what was asked, too


def unshare(flags: int) -> None:
    """Leave the given namespaces for fresh ones; a new pid namespace begins with the next fork. Like: unshare …"""
    names = [name for name, flag in _NAMES.items() if flags & flag]
    _checked(_libc.unshare(flags), " ".join(["unshare", *names]))


def setns(descriptor: int, kind: int = 0) -> None:
    """Enter the namespace that an open file stands for. Like: nsenter"""
    _checked(_libc.setns(descriptor, kind), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Like: mount -t KIND -o DATA SOURCE TARGET"""
    encoded = [text.encode() if text else None for text in (source, target, kind)]
    _checked(_libc.mount(*encoded, ctypes.c_ulong(flags), data.encode() if data else None), f"mount {kind} on {target}")


def unmount(target: str) -> None:
    """Like: umount --lazy TARGET"""
    _checked(_libc.umount2(target.encode(), _MNT_DETACH), f"umount {target}")


def adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs, so as to be able to wait for them (PR_SET_CHILD_SUBREAPER)."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0), "prctl CHILD_SUBREAPER")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this signal to the calling process when its parent is gone (prctl PR_SET_PDEATHSIG)."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal_number), 0, 0, 0), "prctl PDEATHSIG")


def power_off() -> None:
    """Stop the kernel; what was not synced is lost. Like: poweroff -f"""
    _checked(_libc.reboot(_RB_POWER_OFF), "reboot")


def enter_network(name: str) -> None:
    """Move the calling process into the network namespace `name` of /run/netns for good. Like: ip netns exec NAME"""
    descriptor = os.open(f"{NETNS_FOLDER}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(descriptor, CLONE_NEWNET)
    finally:
        os.close(descriptor)


def within_network(name: str, work: Callable[[], _T]) -> _T:
    """Run `work` inside the network namespace `name` and come back; sockets opened there stay there.

    For single-threaded processes. One that cannot come back would do everything else in the wrong place: it dies.
    """
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_network(name)
        try:
            return work()
        finally:
            try:
                setns(home, CLONE_NEWNET)
            except OSError:
                os._exit(70)
    finally:
        os.close(home)
