"""Manifests: the YAML files that suites apply."""

from __future__ import annotations

import os
from pathlib import Path

from tunlab.paths import ROOT

MANIFESTS = ROOT / "fixtures" / "manifests"
MANIFESTS_VARIABLE = "TUNLAB_MANIFESTS"


def manifests_folder() -> Path:
    """Where manifests are: fixtures/manifests, or what TUNLAB_MANIFESTS says (a replay brings its own)."""
    return Path(os.environ.get(MANIFESTS_VARIABLE) or MANIFESTS)


def manifest_text(name: str | Path) -> str:
    """The text of a file, by its path from the checkout's top; what is of fixtures/manifests is read where they are."""
    path = ROOT / name
    if path.is_relative_to(MANIFESTS):
        path = manifests_folder() / path.relative_to(MANIFESTS)
    return path.read_text(encoding="utf-8")
