"""Which worker judges what: whole cells, in the order of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tunlab.report.results import read_selection


class CellScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands whole cells to workers, in the order of the tests: xdist's `loadgroup` groups nothing under pytest 9.2."""

    def __init__(self, config: pytest.Config, log: Any, out: Path) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # the order is ours: what takes long comes first
        self._out = out
        self._cells: dict[str, str] = {}

    def remove_node(self, node: Any) -> str | None:
        """A worker is gone: what it had not judged yet goes to others, but never again the test it died of.

        xdist's own hands out the units that were already complete, too, and then waits for their ends for ever.
        """
        workload: dict[str, dict[str, bool]] = self.assigned_work.pop(node)
        left = [nodeid for unit in workload.values() for nodeid, is_done in unit.items() if not is_done]
        for scope, unit in workload.items():
            rest = {nodeid: False for nodeid, is_done in unit.items() if not is_done and nodeid != left[0]}
            if rest:
                self.workqueue[scope] = rest
        for other in self.assigned_work:
            self._reschedule(other)
        return left[0] if left else None

    def _split_scope(self, nodeid: str) -> str:
        if not self._cells:
            selection = read_selection(self._out)
            tests = selection.tests if selection else ()
            self._cells = {test.nodeid: f"{test.lab}-{test.mode}-{test.scene}" for test in tests}
        return self._cells[nodeid]
