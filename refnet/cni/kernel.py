"""The plugin's hands: `ip -batch` on the node and in the pod, and sysctls, with as few forks as can be.

subprocess costs 9 ms of start-up, a fork of a small program 3 ms (14 ms in user-mode Linux); hence posix_spawn and
batches.
"""

# pathlib costs 8 ms of start-up:
# ruff: noqa: PTH123

from __future__ import annotations

import json
import os
import re
import select
import signal
import time
from collections.abc import Mapping, Sequence

from refnet.errors import KernelRefused

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any

_LIMIT_S = 20.0
_IP = {4: "ip -j", 6: "ip -6 -j"}
QUOTED = "'\\''"
"""An apostrophe within apostrophes, for a shell."""


def ip_on_node(*lines: str, family: int = 4) -> list[Any]:
    """Feed the lines to one `ip -batch`; what its `show` lines printed. Raises KernelRefused at the first refusal.

    The family matters to `route show` alone; everywhere else an address in the line tells it.
    """
    return _batch((*_IP[family].split(), "-batch", "-"), lines, "")


def ip_in_pod(
    netns: str,
    *lines: str,
    before: Mapping[str, str] | None = None,
    after: Mapping[str, str] | None = None,
    family: int = 4,
) -> list[Any]:
    """The same in the network namespace at that path, between sysctls there. Like: nsenter --net=PATH ip -batch"""
    steps = [*_writes(before), f"{_IP[family]} -batch -", *_writes(after)]
    return _batch(("nsenter", f"--net={netns}", "--", "sh", "-c", " && ".join(steps)), lines, f"in {netns}: ")


def _writes(sysctls: Mapping[str, str] | None) -> list[str]:
    """As words for a shell. Interface names may hold quotes and dollars, but neither slashes nor blanks."""
    return [f"echo {value} >'/proc/sys/{name.replace(chr(39), QUOTED)}'" for name, value in (sysctls or {}).items()]


def write_sysctl(name: str, value: str) -> None:
    """Like: sysctl -w NAME=VALUE, with slashes for dots (an interface name may have dots)."""
    try:
        with open(f"/proc/sys/{name}", "w") as file:
            file.write(value)
    except OSError as error:
        raise KernelRefused(f"kernel refused sysctl {name}={value}: {error.strerror}") from error


def read_sysctl(name: str) -> str:
    """The value; empty when there is no such sysctl."""
    try:
        with open(f"/proc/sys/{name}") as file:
            return file.read().strip()
    except OSError:
        return ""


def _batch(argv: Sequence[str], lines: Sequence[str], where: str) -> list[Any]:
    code, out, err = _run(argv, "".join(line + "\n" for line in lines))
    if code != 0:
        failed = re.search(r"Command failed -:(\d+)", err)
        line = lines[int(failed[1]) - 1] if failed and int(failed[1]) <= len(lines) else "; ".join(lines)
        answers = [a for a in err.splitlines() if a.strip() and not a.startswith("Command failed")]
        reason = "; ".join(a.removeprefix("RTNETLINK answers: ").removeprefix("Error: ") for a in answers)
        raise KernelRefused(f"{where}kernel refused `ip {line}`: {reason or f'exit code {code}'}")
    return _documents(out)


def _documents(text: str) -> list[Any]:
    """`ip -j -batch` prints one JSON document after the other."""
    decoder, documents, at = json.JSONDecoder(), [], 0
    text = text.strip()
    while at < len(text):
        document, at = decoder.raw_decode(text, at)
        documents.append(document)
        while at < len(text) and text[at].isspace():
            at += 1
    return documents


def _run(argv: Sequence[str], text: str) -> tuple[int, str, str]:
    """Run a program with that input; exit code, output, errors. Raises KernelRefused if it is missing or hangs."""
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in enumerate((in_read, out_write, err_write))]
    try:
        pid = os.posix_spawnp(argv[0], list(argv), os.environ, file_actions=actions)
    except OSError as error:
        for fd in (in_write, out_read, err_read):
            os.close(fd)
        raise KernelRefused(f"cannot run {argv[0]}: {error.strerror}", hint="apt-get install iproute2") from error
    finally:
        for fd in (in_read, out_write, err_write):
            os.close(fd)
    os.write(in_write, text.encode())  # a pipe holds 64 KiB, far more than any of our batches
    os.close(in_write)
    heard = {out_read: b"", err_read: b""}
    still_open, deadline = set(heard), time.monotonic() + _LIMIT_S
    while still_open:
        ready = select.select(still_open, (), (), max(deadline - time.monotonic(), 0))[0]
        if not ready:
            os.kill(pid, signal.SIGKILL)
        for fd in ready or tuple(still_open):
            data = os.read(fd, 65536) if ready else b""
            heard[fd] += data
            if not data:
                still_open.discard(fd)
                os.close(fd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == -signal.SIGKILL:
        raise KernelRefused(f"`{' '.join(argv)}`: no end after {_LIMIT_S:.0f} s")
    return code, heard[out_read].decode(errors="replace"), heard[err_read].decode(errors="replace")
