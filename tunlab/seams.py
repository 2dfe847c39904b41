"""Where a test of ours may put something else in the place of real labs and boxes, and what is there otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tunlab.check.requirement import Cell
from tunlab.check.selection import Options
from tunlab.lab.topology import Mode


class Hooks:
    """The seams."""

    @pytest.hookspec(firstresult=True)
    def pytest_tunlab_labs(self) -> Mapping[str, Any]:
        """The topologies by name; each has `name`, `modes` and `pods`."""
        raise NotImplementedError

    @pytest.hookspec(firstresult=True)
    def pytest_tunlab_lacks(self, ability: str, options: Options) -> str:
        """Why the system does not offer this ability, which it says before any lab is opened; "" when it does."""
        raise NotImplementedError

    @pytest.hookspec(firstresult=True)
    def pytest_tunlab_open_cell(self, lab: Any, mode: str, scene: str, options: Options) -> Cell:
        """Open a cell: `lab` is a topology. SystemFault accuses the system, NotOffered nobody, all else is broken."""
        raise NotImplementedError


@pytest.hookimpl(trylast=True)
def pytest_tunlab_labs() -> Mapping[str, Any]:
    """The labs of labs/."""
    from tunlab.lab.load import lab_names, load_lab

    return {name: load_lab(name) for name in lab_names()}


@pytest.hookimpl(trylast=True)
def pytest_tunlab_lacks(ability: str, options: Options) -> str:
    """As its driver says."""
    from tunlab.check.stage import lack_of, system_of

    system = system_of(options)
    return lack_of(system.name, system.abilities, ability)


@pytest.hookimpl(trylast=True)
def pytest_tunlab_open_cell(lab: Any, mode: Mode, scene: str, options: Options) -> Cell:
    """A real one; imported here, so that what only collects stays quick."""
    from tunlab.check.cell import open_cell
    from tunlab.check.scene import open_scene

    return open_scene(lab, mode, scene, options) if scene else open_cell(lab, mode, options)
