"""Making the kernel forget connections: what was allowed to an address is not allowed to whoever has it next."""

from __future__ import annotations

from collections.abc import Iterable

from refnet.apply.read import Run
from refnet.errors import KernelRefused
from refnet.model.address import FAMILY_WORDS, IPAddress, by_family

# Before and after translation, of who asked and of who answered.
_PLACES = ("--orig-src", "--orig-dst", "--reply-src", "--reply-dst")


def forget_flows(addresses: Iterable[IPAddress], run: Run) -> None:
    """Forget every connection from or to these addresses; that there is none is fine. Raises KernelRefused.

    All in one process. Like: conntrack -D --orig-src ADDRESS
    """
    lines = [
        f"-D -f {FAMILY_WORDS[address.version]} {place} {address}\n"
        for address in sorted(addresses, key=by_family)
        for place in _PLACES
    ]
    if not lines:
        return
    try:
        finished = run(("conntrack", "--load-file", "-"), "".join(lines))
    except FileNotFoundError as error:
        raise KernelRefused("conntrack: not found on PATH") from error
    if finished.code:
        raise KernelRefused(f"conntrack: {' '.join(finished.err.split()) or f'exit code {finished.code}'}")
