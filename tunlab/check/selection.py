"""What a run is asked to judge: options, and from them the cells, each one lab in one mode, the slowest first."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunlab.check.requirement import IPIP_MODES, Requirement
from tunlab.lab.topology import MODES

_SLOW_S, _QUICK_S = 60.0, 15.0  # what a cell takes that nobody has measured


@dataclass(frozen=True)
class Options:
    """How to judge. Empty `modes` and `labs` mean all; `out` is the run's folder, `with_` other builds of parts."""

    out: Path
    system: str = "refnet"
    modes: tuple[str, ...] = ()
    labs: tuple[str, ...] = ()
    level: str = "core"
    box: str = "auto"
    keep: bool = False
    with_: Mapping[str, str] = field(default_factory=dict)
    shard: tuple[int, int] | None = None  # which of how many parts, from 1
    seconds: Mapping[str, float] = field(default_factory=dict)  # what cells took in an earlier run

    def wants(self, requirement: Requirement) -> bool:
        """Whether the level asked for includes it: extended is core and more."""
        return requirement.level == "core" or self.level == "extended"


@dataclass(frozen=True, order=True)
class CellKey:
    """One lab in one mode; the lab of a scene is another one than that which is only looked at."""

    lab: str
    mode: str
    scene: str = ""

    def __str__(self) -> str:
        return f"{self.lab}-{self.mode}" + (f"-{self.scene}" if self.scene else "")


def split_list(texts: Sequence[str]) -> tuple[str, ...]:
    """Comma-separated or repeated, as typed; each once, in the order typed."""
    words = [word.strip() for text in texts for word in text.split(",")]
    return tuple(dict.fromkeys(word for word in words if word))


def choose_cells(topologies: Mapping[str, Any], options: Options) -> tuple[CellKey, ...]:
    """Every lab asked for, in every mode asked for that it takes part in; what takes long comes first.

    That order keeps two workers equally busy to the end. A lab in a kernel of its own is slower than one in this
    kernel; which it will be is decided later, so the ipip modes stand for it here: few kernels have ipip.
    """
    labs = options.labs or tuple(topologies)
    modes = options.modes or MODES
    cells = [CellKey(lab, mode) for lab in labs for mode in modes if mode in topologies[lab].modes]

    def weight(cell: CellKey) -> tuple[bool, int, CellKey]:
        return not is_slow(cell, options.box), -len(topologies[cell.lab].pods), cell

    return tuple(sorted(cells, key=weight))


def is_slow(cell: CellKey, box: str) -> bool:
    """Whether a cell will probably live in a kernel of its own."""
    return box == "uml" or (box == "auto" and cell.mode in IPIP_MODES)


def read_shard(text: str) -> tuple[int, int] | None:
    """`2/3` as numbers; None for what is no such thing."""
    found = re.fullmatch(r"([1-9][0-9]{0,3})/([1-9][0-9]{0,3})", text)
    if found is None or int(found[1]) > int(found[2]):
        return None
    return int(found[1]), int(found[2])


def share_out(cells: Iterable[CellKey], parts: int, options: Options) -> tuple[frozenset[CellKey], ...]:
    """The cells in parts that take about as long as each other; the same for everybody who knows the same seconds.

    The longest first, each to the part that has least. A cell that nobody has measured counts by where it will live.
    """

    def seconds(cell: CellKey) -> float:
        guess = _SLOW_S if is_slow(cell, options.box) else _QUICK_S
        return options.seconds.get(str(cell), guess)

    loads, shares = [0.0] * parts, [set[CellKey]() for _ in range(parts)]
    for cell in sorted(set(cells), key=lambda cell: (-seconds(cell), cell)):
        lightest = loads.index(min(loads))
        loads[lightest] += seconds(cell)
        shares[lightest].add(cell)
    return tuple(map(frozenset, shares))


def fingerprint(shares: Iterable[Iterable[CellKey]]) -> str:
    """A short name of a partition, the same for everybody who shared out the same cells in the same way."""
    told = [sorted(map(str, share)) for share in shares]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
