"""`./lab flake`: what was not the same each time, what was nearly late, what went bad first; then nothing is left."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tunlab.command.flake import run
from tunlab.command.hog import load
from tunlab.errors import LabError
from tunlab.wait import eventually


def repeat(tmp_path: Path, plan: str, **options: Any) -> tuple[int, list[str], dict[str, Any]]:
    said = io.StringIO()
    code = run(
        pressure="none",
        expression=plan,
        captures=tmp_path / "c",
        judge="tests.command.fake_judge",
        stream=said,
        **options,
    )
    return code, said.getvalue().splitlines(), json.loads((tmp_path / "c" / "latest" / "flake.json").read_text())


def test_runs_that_are_all_clean_end_with_0_and_keep_their_results_alone(tmp_path: Path) -> None:
    code, said, data = repeat(tmp_path, "", runs=2)
    assert (code, data["exit"], data["first_bad"]) == (0, 0, None)
    assert [one["rate"] for one in data["requirements"]] == [1.0, 1.0]
    assert said[-1].startswith("tunlab: exit=0 runs=2 clean=2 results=")
    folder = tmp_path / "c" / "latest"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "flake.json",
        "run-1/results.json",
        "run-2/results.json",
    ]


def test_another_system_is_judged_where_one_is_named(tmp_path: Path) -> None:
    system = "fixtures/systems/cni-ptp.yaml"
    code, _, data = repeat(tmp_path, "", runs=1, system=system)
    assert (code, data["options"]["system"]) == (0, system)
    with pytest.raises(LabError, match=r"^--with: only refnet's parts"):
        run(system=system, parts=["cni=/bin/sh"], captures=tmp_path / "c")


def test_a_row_that_fails_once_has_its_rate_and_its_run_keeps_all(tmp_path: Path) -> None:
    code, said, data = repeat(tmp_path, "flaky", runs=4)
    assert code == 1
    assert data["requirements"][0] == {
        "id": "FLAK-01", "lab": "mixed", "mode": "vxlan", "passed": 3, "judged": 4, "rate": 0.75,
    }  # fmt: skip
    assert data["first_bad"] == {"run": "run-2", "step": "FAILED FLAK-01 mixed vxlan: seen two"}
    assert "FLAK-01 mixed vxlan: passed 3 of 4 times" in said
    assert "first bad step, in run-2: FAILED FLAK-01 mixed vxlan: seen two" in said
    assert (tmp_path / "c" / "latest" / "run-2" / "captures").is_dir()


def test_what_used_up_most_of_its_time_comes_first(tmp_path: Path) -> None:
    _, said, data = repeat(tmp_path, "", runs=3)
    slowest = data["slowest_waits"]
    assert [(one["what"], one["seconds"], one["run"]) for one in slowest[:2]] == [
        ("it is ready", 3.0, "run-3"),
        ("it is ready", 2.0, "run-2"),
    ]
    assert "slow wait: 3.00 s of 10 s in run-3: it is ready" in said


def test_a_run_without_results_is_broken_and_says_its_last_words(tmp_path: Path) -> None:
    code, _, data = repeat(tmp_path, "dies", runs=3)
    assert (code, data["runs"][2]["exit"]) == (2, 2)
    assert data["first_bad"]["run"] == "run-2", "the first one stays the first"


@pytest.mark.parametrize("kind", ["cpu", "io"])
def test_the_load_is_there_meanwhile_and_gone_afterwards(tmp_path: Path, kind: str) -> None:
    with load(kind, tmp_path) as pids:
        assert len(pids) >= 2
        eventually(
            lambda: sum(map(_has_worked, pids)), lambda n: n == len(pids), within_s=30, what="all work", blame="lab"
        )
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert list(tmp_path.iterdir()) == []


def _has_worked(pid: int) -> bool:
    """Whether it has used the processor or written something."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(ticks[11]) + int(ticks[12]) > os.sysconf("SC_CLK_TCK") // 50


def test_a_series_that_was_cut_off_goes_on_after_its_last_whole_run(tmp_path: Path) -> None:
    repeat(tmp_path, "flaky", runs=2)
    folder = tmp_path / "c" / "latest"
    told = json.loads((folder / "flake.json").read_text())
    (folder / "flake.json").write_text(json.dumps({**told, "options": {**told["options"], "runs": 4}, "exit": None}))
    (folder / "run-3").mkdir()  # it was in the middle of that
    (folder / "run-3.waits").write_text("{")
    code, said, data = repeat(tmp_path, "", resume=str(folder))
    assert (code, said[0][:5]) == (1, "[3/4]")
    assert [one["name"] for one in data["runs"]] == ["run-1", "run-2", "run-3", "run-4"]
    assert [(one["id"], one["passed"], one["judged"]) for one in data["requirements"]] == [
        ("FLAK-01", 3, 4), ("GOOD-01", 4, 4),
    ]  # fmt: skip
    assert (data["first_bad"]["run"], data["slowest_waits"][0]["run"]) == ("run-2", "run-4")
    assert {name: data[name] for name in ("run", "started")} == {name: told[name] for name in ("run", "started")}


def test_what_cannot_be_gone_on_with_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"^--resume: /nowhere: no series of ./lab flake is there"):
        run(resume="/nowhere")
    repeat(tmp_path, "", runs=1)
    path = tmp_path / "c" / "latest" / "flake.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "options": {**told["options"], "commit": "1234"}}))
    with pytest.raises(LabError, match=r"it was begun with 1234, this is [0-9a-f]+\+?"):
        run(resume=str(path.parent))
    path.write_text("{}")
    with pytest.raises(LabError, match=r"no series"):
        run(resume=str(path.parent))


def test_wrong_options_are_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(
        LabError, match=r"^--load: cpi: no such load\n  legal: none, cpu, io\n  hint: did you mean cpu\?$"
    ):
        run(pressure="cpi", captures=tmp_path / "c")
    with pytest.raises(LabError, match=r"^--lab: mixt: no such lab"):
        run(labs=["mixt"], captures=tmp_path / "c")
    assert not (tmp_path / "c").exists()
