"""What `/liveness` and `/readiness` say: Felix's table of components, and the status that goes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refnet.agent.listener import Reply

_HEADER = ("COMPONENT", "TIMEOUT", "LIVENESS", "READINESS", "DETAIL")


def health(path: str, reasons: Mapping[str, str]) -> Reply:
    """The answer at one moment. `reasons`: why a component is not ready, "" if it is.

    The agent is one loop: one that answers at all is alive, and one that hangs does not answer.
    """
    if path not in ("/liveness", "/readiness"):
        return Reply(404, "there are /liveness and /readiness\n")
    is_good = path == "/liveness" or not any(reasons.values())
    return Reply(200 if is_good else 503, table(reasons))


def table(reasons: Mapping[str, str]) -> str:
    """The components, drawn as Felix draws them."""
    rows = [
        (name, "", "reporting live", "reporting non-ready" if reason else "reporting ready", reason)
        for name, reason in sorted(reasons.items())
    ]
    widths = [max(len(row[column]) for row in (_HEADER, *rows)) for column in range(len(_HEADER))]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    return "\n".join((rule, _line(_HEADER, widths), rule, *(_line(row, widths) for row in rows), rule, ""))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
