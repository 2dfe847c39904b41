"""A name that leads elsewhere is no name: what is not a standing lab is never touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunlab.errors import LabError
from tunlab.live import standing


@pytest.mark.parametrize("name", ["..", ".", "/", "a/b", "../victim", "", "Lab", "a\n"], ids=repr)
def test_what_is_no_name_has_no_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(LabError, match=r"no lab of this name stands"):
        standing.folder_of(name)
    with pytest.raises(LabError, match=r"no lab of this name stands"):
        standing.end(name)
    assert (tmp_path / "victim").is_dir()
