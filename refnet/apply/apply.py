"""Making the kernel right: read, find the difference, feed it to the kernel's batch tools, look again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from refnet.apply.process import Finished, run
from refnet.apply.read import Run, read_kernel
from refnet.calc.changes import Changes, Have, changes
from refnet.calc.wanted import IPIP_DEVICE, VXLAN6_DEVICE, VXLAN_DEVICE, Wanted
from refnet.errors import KernelRefused
from refnet.render.iproute import Batch, batches

_IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_IP6_FORWARD = Path("/proc/sys/net/ipv6/conf/all/forwarding")
_NO_SUCH_KIND = ("Unknown device type", "Operation not supported", "Not supported")
_KIND_OF = {IPIP_DEVICE: "ipip", VXLAN_DEVICE: "vxlan", VXLAN6_DEVICE: "vxlan"}


@dataclass(frozen=True)
class Refusal:
    """A batch line that the kernel did not take."""

    line: str
    answer: str

    def __str__(self) -> str:
        return f"kernel refused `{self.line}`: {self.answer}"


@dataclass(frozen=True)
class Outcome:
    """What came of it. `have` is the kernel as last read; it equals what was wanted if `reason` is empty."""

    have: Have
    reason: str = ""
    lines: tuple[str, ...] = ()


def bring_about(want: Wanted, have: Have, run: Run = run, read: Callable[[], Have] | None = None) -> Outcome:
    """Make the kernel right, given what it has, and `read` what came of it. Refusals never raise: they are the reason.

    Raises KernelRefused only if the kernel cannot be read.
    """
    todo = changes(have, want)
    if not todo:
        return Outcome(have)
    work = batches(todo)
    refusals = [refusal for batch in work for refusal in feed(batch, run)]
    lines = tuple(line for batch in work for line in batch.lines)
    have = read() if read else read_kernel(run)
    left = changes(have, want)
    return Outcome(have, _reason(left, refusals), lines)


def feed(batch: Batch, run: Run = run) -> list[Refusal]:
    """Run the lines of one batch; a refused line does not keep the rest from happening.

    Like: ip -force -batch - · bridge -force -batch -
    """
    finished = run((batch.tool, "-force", "-batch", "-"), "".join(f"{line}\n" for line in batch.lines))
    return list(_refusals(batch, finished))


def _refusals(batch: Batch, finished: Finished) -> Iterator[Refusal]:
    """Both tools say what was wrong, then `Command failed -:LINE`."""
    said: list[str] = []
    for line in finished.err.splitlines():
        failed = re.fullmatch(r"Command failed -:(\d+)", line)
        if not failed:
            said.append(re.sub(r"^(Error: |RTNETLINK answers: )", "", line).rstrip("."))
            continue
        yield Refusal(batch.lines[int(failed[1]) - 1], "; ".join(said) or "no reason given")
        said = []
    if finished.code and not finished.err:
        yield Refusal(f"{batch.tool} -batch", f"exit code {finished.code}")


def _reason(left: Changes, refusals: list[Refusal]) -> str:
    """Why the kernel is not right yet; empty if it is. What was refused but came about otherwise is no matter."""
    if not left:
        return ""
    for refusal in refusals:
        made = re.match(r"link add (\S+) ", refusal.line)
        if made and refusal.answer.startswith(_NO_SUCH_KIND):
            return f"this kernel has no {_KIND_OF.get(made[1], made[1])}: {made[1]} cannot be made ({refusal.answer})"
    if refusals:
        return str(refusals[0])
    return "the kernel differs again from what was just written"


def enable_forwarding(path: Path = _IP_FORWARD, *, ipv6: bool = False) -> None:
    """Let the node pass packets on. Raises KernelRefused. Like: sysctl -w net.ipv4.ip_forward=1"""
    _write_one(path, "net.ipv4.ip_forward")
    if ipv6:
        _write_one(_IP6_FORWARD, "net.ipv6.conf.all.forwarding")


def _write_one(path: Path, name: str) -> None:
    try:
        if path.read_text().strip() != "1":
            path.write_text("1")
    except OSError as error:
        raise KernelRefused(f"kernel: {name} = 1: {error.strerror}") from error
