"""Finding a system by its name, or by a file that describes one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from tunlab.errors import LabError
from tunlab.systems.described import DescribedSystem
from tunlab.systems.recipe import System
from tunlab.systems.refnet import Refnet

REFNET = "refnet"
NAMES = (REFNET,)


def find_system(name: str, replaced: Mapping[str, Path] | None = None) -> System:
    """The system of that name, or the one that FILE.yaml describes. Raises LabError naming the legal ones."""
    if name.endswith((".yaml", ".yml")):
        if replaced:
            raise LabError("--with: only refnet's parts can be replaced", hint="edit the file of the system instead")
        return DescribedSystem.load(Path(name))
    if name == REFNET:
        return Refnet(replaced)
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(NAMES)}, or a FILE.yaml that describes one"
    raise LabError(f"--system: {name}: no such system", hint=hint)
