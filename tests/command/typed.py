"""Types a line into ./lab as a user would: another process, no standard input."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def type_line(*words: str, lab: Path = ROOT / "lab", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [lab, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **env},
    )
