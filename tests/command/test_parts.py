"""Other builds of a system's parts: what is named is there, and every mistake is told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunlab.command.parts import read_parts, replaced_by
from tunlab.errors import LabError


def test_parts_are_executables_and_the_whole_is_a_folder(tmp_path: Path) -> None:
    agent = tmp_path / "agent"
    agent.touch(0o755)
    (tmp_path / "refnet" / "bin").mkdir(parents=True)
    given = [f"agent={agent},refnet={tmp_path}/refnet", "agent=/bin/sh"]
    replaced, mistakes = read_parts(given)
    assert replaced == {"agent": str(agent), "refnet": str(tmp_path / "refnet")}
    assert mistakes == ["--with: agent: named twice\n  hint: keep one"]
    assert replaced_by(given[:1]) == {part: Path(path) for part, path in replaced.items()}


def test_every_mistake_is_told(tmp_path: Path) -> None:
    (tmp_path / "plain").touch(0o644)
    with pytest.raises(LabError) as refused:
        replaced_by([f"cni={tmp_path}/plain", "cmi=/bin/true", "agent", f"refnet={tmp_path}"])
    assert str(refused.value).splitlines() == [
        f"--with: cni={tmp_path}/plain: no executable file",
        "  hint: build it first, or chmod +x it",
        "--with: cmi: no such part",
        "  legal: agent, cni, ctl, refnet",
        "  hint: did you mean cni?",
        "--with: agent: not PART=PATH",
        "  hint: such as agent=/tmp/build/refnet-agent",
        f"--with: refnet={tmp_path}: no folder of a refnet",
        "  hint: one that has bin/refnet-agent",
    ]
