"""The file systems of a box: its own world, and a host's (a node's, the store's) inside it.

A host sees the machine's files, but has its own process table, host name, /run, and overlays on /etc, /opt and
/var/lib, all of which vanish with it. /run/netns is shared in the box, so a CNI_NETNS means the same everywhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from tunlab.box.inside import kernel, overlay
from tunlab.box.inside.role import RUN_FOLDER, Refused

_T = TypeVar("_T")
Settle = Callable[[str], None]

MODULES = "/usr/lib/uml/modules"
OVERLAID = ("/etc", "/opt", "/var/lib")
SEARCH_PATH = "/run/bin:/opt/cni/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_UML_MODULES = (
    *("overlay", "ipv6", "veth", "bridge", "ipip", "vxlan"),
    # What node agents filter with. The kernel could fetch these on demand, but one call for all is quicker.
    *("ip_tables", "iptable_raw", "iptable_mangle", "iptable_nat", "iptable_filter", "ip6_tables"),
    *(
        "xt_comment",
        "xt_conntrack",
        "xt_mark",
        "xt_multiport",
        "xt_addrtype",
        "xt_tcpudp",
        "xt_set",
        "xt_CT",
        "ipt_rpfilter",
    ),
    *("xt_MASQUERADE", "ip_set_hash_net", "ip_set_hash_ipport"),
)
# As many as kube-proxy allows a node. The kernel's own figure follows its memory: in a guest that is 6,144, which the
# questions of a minute can fill, and then it drops packets at random.
_MOST_CONNECTIONS = 131072


def fork_as_first() -> int:
    """Fork a child that is process 1 of a new pid namespace; the caller's later children stay in the caller's own."""
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    pid = -1
    try:
        kernel.unshare(kernel.CLONE_NEWPID)
        pid = os.fork()
    finally:
        if pid != 0:
            kernel.setns(home, kernel.CLONE_NEWPID)
        os.close(home)
    return pid


def nothing(name: str) -> None:
    """Settle nowhere else: the role lives in the box's own world."""
    del name


def make_world(run_folder: str, kind: str) -> None:
    """Fresh /proc, /sys, /run for the box; the lab's run folder stays reachable as RUN_FOLDER in the new /run."""
    if kind == "uml":
        os.environ["PATH"] = SEARCH_PATH
        kernel.mount("proc", "/proc", "proc")
        kernel.mount("sysfs", "/sys", "sysfs")
        if not Path("/dev/ttyS0").exists():  # most guest kernels mount it by themselves
            kernel.mount("devtmpfs", "/dev", "devtmpfs")
        for folder, fstype, data in (("/dev/pts", "devpts", "ptmxmode=0666"), ("/dev/shm", "tmpfs", "")):
            Path(folder).mkdir(exist_ok=True)
            kernel.mount(fstype, folder, fstype, data=data)
        _stand_in_links()
    else:
        kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        kernel.mount("sysfs", "/sys", "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    folder_handle = os.open(run_folder, os.O_PATH | os.O_DIRECTORY)
    kernel.mount("tmpfs", "/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
    Path(RUN_FOLDER).mkdir()
    kernel.mount(f"/proc/self/fd/{folder_handle}", RUN_FOLDER, flags=kernel.MS_BIND | kernel.MS_REC)
    os.close(folder_handle)
    for name in ("line", "logs", "home"):
        Path(RUN_FOLDER, name).mkdir(exist_ok=True)
    share_network_names()
    if kind == "uml":
        _load_modules()
    _raise_loopback()


def share_network_names() -> None:
    """Make /run/netns a shared mount, so that a namespace named in one place is named in all. Like: ip netns add …"""
    folder = Path(kernel.NETNS_FOLDER)
    folder.mkdir(exist_ok=True)
    kernel.mount(str(folder), str(folder), flags=kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("none", str(folder), flags=kernel.MS_SHARED | kernel.MS_REC)


def host(network: str) -> Settle:
    """How a host's keeper settles: in the network namespace `network`, with namespaces and files of its own."""

    def settle(name: str) -> None:
        kernel.enter_network(network)
        kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC)
        socket.sethostname(name)
        _furnish_host(name)

    return settle


def _furnish_host(name: str) -> None:
    names = os.open(kernel.NETNS_FOLDER, os.O_PATH | os.O_DIRECTORY)
    folder = os.open(RUN_FOLDER, os.O_PATH | os.O_DIRECTORY)
    kernel.mount("tmpfs", "/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
    for handle, target in ((names, kernel.NETNS_FOLDER), (folder, RUN_FOLDER)):
        Path(target).mkdir(parents=True)
        kernel.mount(f"/proc/self/fd/{handle}", target, flags=kernel.MS_BIND | kernel.MS_REC)
        os.close(handle)
    for path in OVERLAID:
        overlay.lay_over(path, Path(f"/run/overlay{path}"))
    for folder_name in ("bin", "lock", "home"):
        Path("/run", folder_name).mkdir()
    # A file that root owned stays unwritable through the overlay when only one id is mapped: lay a fresh one over it.
    for path, text in (("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n"), ("/etc/hostname", f"{name}\n")):
        fresh = Path("/run/overlay", Path(path).name)
        fresh.write_text(text)
        if Path(path).exists():
            kernel.mount(str(fresh), path, flags=kernel.MS_BIND)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.mount("sysfs", "/sys", "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def make_network(name: str, settings: Mapping[str, str]) -> None:
    """Make the network namespace `name`, loopback up, sysctls set. Like: ip netns add NAME; ip -n NAME link set lo up

    Without a process of its own, which would be the dearest part of it in a user-mode kernel.
    """
    handle = Path(kernel.NETNS_FOLDER, name)
    handle.touch(mode=0o444, exist_ok=False)
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.unshare(kernel.CLONE_NEWNET)
        kernel.mount("/proc/self/ns/net", str(handle), flags=kernel.MS_BIND)
        _raise_loopback()
        for key, value in settings.items():
            Path("/proc/sys", *key.split(".")).write_text(value)
    except BaseException:
        with contextlib.suppress(OSError):  # nothing is mounted there when it was the making that was refused
            kernel.unmount(str(handle))
        handle.unlink()
        raise
    finally:
        try:
            kernel.setns(home, kernel.CLONE_NEWNET)
        except OSError:
            os._exit(70)
        os.close(home)


def _raise_loopback() -> None:
    """Like: ip link set lo up"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = bytearray(struct.pack("16sH22x", b"lo", 0))
        fcntl.ioctl(sock, _SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("H", request, 16)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))


class BareNetworks:
    """The places that are a network and no more: a pod, a segment, a plain router.

    A furnished visit (somebody's shell) also finds the place's name as host name, and its own /sys; to furnish costs a
    fork, so that plain commands go without. Nothing of it is kept: an open handle would keep a deleted pod's network
    alive, and with it the far end of its veth.
    """

    _KINDS = ("mnt", "uts", "net")

    def __init__(self) -> None:
        self._home = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in self._KINDS]

    def visit(self, network: str, work: Callable[[], _T], *, furnished: bool) -> _T:
        """Do `work` there and come back. A process that cannot come back would do everything else there: it dies."""
        if not Path(kernel.NETNS_FOLDER, network).exists():
            raise Refused("missing", f"{network}: there is no such place in this box")
        if not furnished:
            return kernel.within_network(network, work)
        there = self._furnish(network)
        try:
            for handle in there:
                kernel.setns(handle)
            return work()
        finally:
            try:
                for handle in self._home:
                    kernel.setns(handle)
            except OSError:
                os._exit(70)
            for handle in there:
                os.close(handle)

    def _furnish(self, network: str) -> list[int]:
        """Have a short-lived child make the namespaces; handles of them. Raises Refused with the child's words."""
        ready, say_ready = os.pipe2(os.O_CLOEXEC)
        taken, say_taken = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                os.close(say_taken)
                kernel.enter_network(network)
                kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS)
                socket.sethostname(network)
                kernel.mount("sysfs", "/sys", "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
                os.write(say_ready, b"r")
                os.read(taken, 1)
            except OSError as error:
                os.write(say_ready, str(error).encode())
            finally:
                os._exit(0)
        os.close(say_ready)
        os.close(taken)
        try:
            said = os.read(ready, 4096)
            if said != b"r":
                raise Refused("world", f"{network}: make it a place to visit: {said.decode() or 'the child died'}")
            return [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in self._KINDS]
        finally:
            os.close(ready)
            os.close(say_taken)


def end_world(kind: str) -> None:
    """Power a guest off; a namespaces box ends with its process 1."""
    if kind == "uml":
        os.sync()
        kernel.power_off()


def _load_modules() -> None:
    """Make the kernel's modules findable and load what every lab needs, in one call."""
    where = Path("/lib/modules")
    root: list[str] = []
    if not where.is_dir():  # a machine that never had a kernel package, and a / that we may not write
        where = Path("/run/modules/lib/modules")
        where.mkdir(parents=True)
        root = ["-d", "/run/modules"]
    kernel.mount(MODULES, str(where), flags=kernel.MS_BIND)
    argv = ["modprobe", *root, "-a", *_UML_MODULES]
    done = subprocess.run(argv, check=False, env={"PATH": SEARCH_PATH}, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip()}")
    if root:
        _fetch_more_on_demand(root)
    Path("/proc/sys/net/netfilter/nf_conntrack_max").write_text(str(_MOST_CONNECTIONS))


def _fetch_more_on_demand(root: list[str]) -> None:
    """Tell the kernel how to find the modules that somebody's rules and links will need."""
    helper = Path("/run/modules/modprobe")
    helper.write_text(f'#!/bin/sh\nPATH={SEARCH_PATH} exec modprobe {" ".join(root)} "$@"\n')
    helper.chmod(0o755)
    Path("/proc/sys/kernel/modprobe").write_text(str(helper))


def _stand_in_links() -> None:
    for link, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        with contextlib.suppress(FileExistsError):
            Path("/dev", link).symlink_to(target)
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        Path("/dev/ptmx").unlink()
        Path("/dev/ptmx").symlink_to("pts/ptmx")
