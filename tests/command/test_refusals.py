"""What is refused before anything is done, and what is undone when something fails half-way; no lab stands here."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunlab.command import classroom, compare, conform, exercise, flake, lesson, mutants, standing
from tunlab.command.targets import target
from tunlab.errors import LabError, WorldError
from tunlab.lab.load import load_lab
from tunlab.lesson.progress import progress_of
from tunlab.lesson.read import FOLDER, lesson_names
from tunlab.paths import CAPTURES
from tunlab.systems.catalogue import find_system

NOTHING: dict[str, Any] = {
    "students": 0, "exercise": "", "level": 0, "seed": 0, "box": "auto",
    "shows_board": False, "as_json": False, "port": 0, "ends": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"students": 3, "as_json": True}, "class: --json prints the board: not with --students"),
        ({"ends": True, "as_json": True}, "class: --json prints the board: not with --down"),
        ({"as_json": True, "port": 8000}, "class: --json prints the board: not with --port"),
        ({"students": 3, "port": 8000}, "class: --port goes with --board"),
        ({"exercise": "swallowed", "shows_board": True}, "class: --exercise goes with --students"),
        ({"exercise": "swallowed"}, "class: --exercise goes with --students"),
        ({"ends": True, "level": 1}, "class: --level goes with --students"),
        ({"shows_board": True, "box": "uml"}, "class: --box goes with --students"),
    ],
)
def test_what_a_class_would_ignore_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError) as said:
        classroom.run(**{**NOTHING, **asked})
    assert said.value.message == message and said.value.hint


def test_what_an_exercise_would_ignore_is_refused() -> None:
    for asked in ({"name": "swallowed"}, {"draws": True}, {"again": True}):
        with pytest.raises(LabError, match=r"^exercise: --json goes with --list\n"):
            exercise.exercise(**asked, as_json=True)
    with pytest.raises(LabError, match=r"^exercise: --box goes with a NAME or --random\n"):
        exercise.exercise(lists=True, box="uml")


def test_a_file_that_cannot_be_written_is_told_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert target("--svg", str(tmp_path / "x.svg"), ".svg") == tmp_path / "x.svg"
    with pytest.raises(LabError, match=r"^-w x\.png: what is written is pcapng\n  hint: -w x\.pcapng$"):
        target("-w", "x.png", ".pcapng")
    with pytest.raises(LabError, match=r"^--svg .*/no/x\.svg: there is no folder .*/no\n"):
        target("--svg", str(tmp_path / "no" / "x.svg"), ".svg")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(LabError, match=r"^--svg .*x\.svg: not a file that you may write\n"):
        target("--svg", str(tmp_path / "x.svg"), ".svg")


@pytest.mark.parametrize("stays", [True, False])
def test_a_lab_that_fails_half_way_stands_only_where_somebody_would_look_at_it(
    stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def install(*asked: object) -> None:
        raise WorldError("node1: no")

    monkeypatch.setattr(standing, "_build", lambda *asked: SimpleNamespace(keep=lambda: seen.append("kept")))
    monkeypatch.setattr(standing, "_install", install)
    monkeypatch.setattr("tunlab.live.standing.end", lambda name: seen.append("ended"))
    lab = load_lab("mixed")
    with pytest.raises(WorldError) as said:
        standing.raise_lab(lab, "mixed", find_system("refnet", {}), "refnet", "none", ("", ""), {}, stays=stays)
    assert seen == ["kept" if stays else "ended"]
    assert ("it still stands" in said.value.hint) is stays


def test_a_comparison_that_fails_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "compare.json").write_text('{"schema": "tunlab/compare/v1"}')

    def refuse(*asked: object) -> None:
        raise WorldError("no lab today")

    monkeypatch.setattr("tunlab.compare.arena.Arena.open", refuse)
    monkeypatch.setattr(compare, "choose_box", lambda *asked: ("namespaces", "as asked"))
    monkeypatch.setattr(compare, "find_iperf3", lambda: "iperf 3.12")
    asked: dict[str, Any] = {"modes": ["none"], "system": "refnet", "box": "auto", "lab": "same-subnet"}
    asked |= {"seconds": 1, "runs": 1, "png": False, "out": str(out)}
    with pytest.raises(WorldError, match="no lab today"):
        compare.run(**asked)
    assert (out / "compare.json").exists()
    (out / "compare.json").write_text("mine")
    with pytest.raises(LabError, match=r"^--out: .*: holds something that is no run\n"):
        compare.run(**asked)


def test_the_latest_run_is_one_that_has_a_report() -> None:
    assert conform.Places().captures == CAPTURES
    others = (mutants.Places().captures, inspect.signature(flake.run).parameters["captures"].default)
    assert others == (CAPTURES / "mutants", CAPTURES / "flake")


def test_lessons_are_listed_in_columns_and_a_finished_one_begins_anew(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    name = "pools-nat-and-disabled-pools"
    lesson.lesson()
    rows = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert {line.index(" ") for line in rows if line.startswith(name)} == {len(name)}
    assert len({len(line) - len(line[line.index(" ") :].lstrip()) for line in rows}) == 1 and len(rows) > 10
    begun: list[int] = []
    monkeypatch.setattr(lesson, "_own_lab", lambda *asked, **more: pytest.MonkeyPatch.context())
    monkeypatch.setattr(lesson, "_by_hand", lambda chosen, stands, progress, start, name: begun.append(start))
    for step in (2, 99):
        progress_of(FOLDER / f"{name}.md").save(step)
        lesson.lesson(name)
    assert begun == [2, 1]


def test_progress_of_a_lesson_of_ones_own_is_not_that_of_another_with_its_name(tmp_path: Path) -> None:
    names = {progress_of(FOLDER / f"{name}.md").lesson for name in lesson_names()}
    assert names == set(lesson_names())
    own = [progress_of(tmp_path / folder / "mtu.md").lesson for folder in ("a", "b", "a")]
    assert own[0] == own[2] != own[1] and not names & set(own)
