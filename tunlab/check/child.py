"""A process of the judge's own that must not outlive the one that asked for it."""

from __future__ import annotations

import os
import signal

from tunlab.box.inside.kernel import die_with_parent

PARENT_VARIABLE = "TUNLAB_PARENT"  # the process whose end must be ours


def die_with_asker() -> None:
    """End at once when the process named in the environment ends, however that happens; it may already have."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None:
        die_with_parent(signal.SIGKILL)
        if os.getppid() != int(parent):
            os._exit(2)
