"""What a run is asked to judge: options, and from them the cells, each one lab in one mode, the slowest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunlab.check.requirement import IPIP_MODES, Requirement
from tunlab.lab.topology import MODES


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
        is_slow = options.box == "uml" or (options.box == "auto" and cell.mode in IPIP_MODES)
        return not is_slow, -len(topologies[cell.lab].pods), cell

    return tuple(sorted(cells, key=weight))
