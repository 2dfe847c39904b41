"""Where this checkout is, where runs go, and how a path is told to whoever typed the line."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CAPTURES = ROOT / "captures"


def shown(path: Path) -> Path:
    """As short as it can be typed: from the current folder on where that leads there."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
