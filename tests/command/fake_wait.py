"""Says that it has begun, and ends when a file of its name is there."""

from __future__ import annotations

import sys
from pathlib import Path

from tunlab.wait import eventually

name, folder = sys.argv[1:]
print(f"{name} begun", flush=True)
eventually((Path(folder) / name).exists, bool, within_s=60, what=f"{name} is let go")
