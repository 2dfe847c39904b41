"""A process of the judge's own that must not outlive the one that asked for it."""

from __future__ import annotations

import os
import signal

from tunlab.box.inside.kernel import die_with_parent

PARENT_VARIABLE = "TUNLAB_PARENT"  # the process whose end must be ours


def die_with_asker() -> None:
    """End at once when the process named in the environment ends, however that happens; it may already have."""
    if PARENT_VARIABLE in os.environ:
        die_with(int(os.environ[PARENT_VARIABLE]))


def die_with(parent: int) -> None:
    """End at once when `parent`, which started this process, ends; it may already have."""
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(2)
