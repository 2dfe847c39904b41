"""`./lab doctor`: what this machine can run, what is missing, and the exact command that mends it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable

from tunlab.box.machine import BOXES, MODES, Machine, machine
from tunlab.box.tools import versions
from tunlab.layout import columns

# Memory that a standing lab keeps, measured by bench/run.py on Debian 12: the store's etcd (20, and 122 of files in
# memory: it reserves its log ahead) with what of the judge is in every box; one node's agent, BIRD and keeper; what a
# guest kernel holds beyond all that, mostly its own cache of files.
STORE_MIB, NODE_MIB, GUEST_MIB = 160, 16, 195


def examine(*, as_json: bool = False) -> int:
    """Print the findings; 0 when every mode runs in some box, else 2."""
    seen = machine()
    good = all(seen.choose(mode)[1].ok for mode in MODES)
    print(json.dumps(describe(seen), indent=2) if as_json else "\n".join(_report(seen)))
    return 0 if good else 2


def describe(seen: Machine) -> dict[str, object]:
    """The findings as JSON values; the keys are a promise."""
    return {
        "kernel": seen.kernel,
        "architecture": seen.architecture,
        "distribution": seen.distribution,
        "user": "root" if os.geteuid() == 0 else "ordinary",
        "modes": {
            mode: {
                "auto": seen.choose(mode)[0] if seen.choose(mode)[1].ok else None,
                **{box: {"ok": seen.can(box, mode).ok, "why": seen.can(box, mode).why} for box in BOXES},
            }
            for mode in MODES
        },
        "tried": {name: {"ok": verdict.ok, "why": verdict.why} for name, verdict in seen.tried.items()},
        "labs": [
            {"lab": name, "modes": modes, "memory_mib": {box: memory_mib(nodes, box) for box in BOXES}}
            for name, nodes, modes in _labs()
        ],
        "tools": versions(),
        "missing": [package.name for package in seen.missing],
        "mends": [{"what": mend.what, "command": mend.command} for mend in seen.mends],
    }


def memory_mib(nodes: int, box: str) -> int:
    """Roughly what a standing lab of so many nodes keeps resident."""
    return STORE_MIB + NODE_MIB * nodes + (GUEST_MIB if box == "uml" else 0)


def _report(seen: Machine) -> Iterable[str]:
    who = "root" if os.geteuid() == 0 else "an ordinary user"
    yield f"{seen.distribution}, kernel {seen.kernel}, {seen.architecture}, Python {sys.version.split()[0]}, as {who}"
    yield ""
    yield from columns(
        [("mode", *BOXES, "auto takes")]
        + [(mode, *(_word(seen.can(box, mode).ok) for box in BOXES), _choice(seen, mode)) for mode in MODES]
    )
    yield ""
    for box in BOXES:
        reasons = dict.fromkeys(seen.can(box, mode).why for mode in MODES if not seen.can(box, mode).ok)
        yield f"{box}: {'; '.join(reasons) or seen.can(box, 'none').why}"
    yield f"ids: {seen.id_range.why}"
    yield "ports: none of this machine's; a lab has networks of its own"
    yield ""
    labs = [(name, ", ".join(modes), *(f"{memory_mib(nodes, box)}" for box in BOXES)) for name, nodes, modes in _labs()]
    yield from columns([("lab", "modes", *(f"{box} MiB" for box in BOXES)), *labs])
    yield ""
    yield "tools: " + ", ".join(f"{tool} {version or 'missing'}" for tool, version in versions().items())
    for mend in seen.mends:
        yield ""
        yield f"wants mending: {mend.what}"
        yield f"  {mend.command}"


def _choice(seen: Machine, mode: str) -> str:
    box, verdict = seen.choose(mode)
    return box if verdict.ok else "nothing here"


def _word(ok: bool) -> str:
    return "yes" if ok else "no"


def _labs() -> list[tuple[str, int, list[str]]]:
    from tunlab.lab.load import describe_labs

    return [(row.name, row.nodes, list(row.modes)) for row in describe_labs()]
