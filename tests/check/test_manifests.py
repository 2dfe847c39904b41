"""Where manifests are read: in the checkout, or where a replay has put those of a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunlab.check.manifests import manifest_text
from tunlab.check.scene import read_documents
from tunlab.paths import ROOT

OFTEN = "fixtures/manifests/life/refresh-often.yaml"


def test_manifests_are_read_where_they_are_said_to_be_and_other_files_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert manifest_text(OFTEN) == (ROOT / OFTEN).read_text()
    other = tmp_path / "life" / "refresh-often.yaml"
    other.parent.mkdir()
    other.write_text("kind: Theirs\n")
    monkeypatch.setenv("TUNLAB_MANIFESTS", str(tmp_path))
    assert manifest_text(OFTEN) == manifest_text(ROOT / OFTEN) == manifest_text(other) == "kind: Theirs\n"
    assert read_documents(OFTEN) == [{"kind": "Theirs"}]
    assert manifest_text("labs/mixed.yaml") == (ROOT / "labs" / "mixed.yaml").read_text()
