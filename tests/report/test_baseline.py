"""Two runs compared: only what got worse counts, and what that is, is decided here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.report.test_reports import BROKEN, FAILED, NOT_OFFERED, PASSED, results, row
from tunlab.check.verdict import Key, Row, Verdict
from tunlab.errors import LabError
from tunlab.report.baseline import compare, read_baseline
from tunlab.report.results import run_row

OTHER = row(id="OTHER-01")


def compared(before: list[Row], after: list[Row], **options: object) -> tuple[int, list[str]]:
    now = results(*after)
    now.options = {"mode": [], "lab": [], "level": "core", "k": "", **options}
    found = compare(results(*before), now, "old.json")
    return found.exit, [str(one) for one in found.changes if one.kind not in ("same", "not_asked")]


@pytest.mark.parametrize(
    ("before", "after", "code", "kind"),
    [
        (PASSED, FAILED, 1, "worse"),
        (PASSED, BROKEN, 2, "worse"),
        (PASSED, NOT_OFFERED, 1, "worse"),
        (FAILED, FAILED, 0, ""),
        (FAILED, PASSED, 0, "better"),
        (FAILED, BROKEN, 2, "worse"),
        (NOT_OFFERED, BROKEN, 2, "worse"),
        (BROKEN, BROKEN, 2, "worse"),
        (BROKEN, FAILED, 1, "worse"),
        (BROKEN, PASSED, 0, "better"),
        (NOT_OFFERED, FAILED, 1, "worse"),
        (NOT_OFFERED, PASSED, 0, "better"),
        (FAILED, NOT_OFFERED, 0, ""),
    ],
)
def test_what_a_change_of_verdict_means(before: Verdict, after: Verdict, code: int, kind: str) -> None:
    got, changes = compared([row(before)], [row(after)])
    said = [f"{kind} IPIP-03 mixed ipip: {before.value} → {after.value}"] if kind else []
    assert (got, changes) == (code, said)


@pytest.mark.parametrize(
    ("verdict", "code", "kind"),
    [(PASSED, 0, "new"), (NOT_OFFERED, 0, "new"), (FAILED, 1, "worse"), (BROKEN, 2, "worse")],
)
def test_a_new_row_counts_by_itself(verdict: Verdict, code: int, kind: str) -> None:
    assert compared([OTHER], [OTHER, row(verdict)]) == (code, [f"{kind} IPIP-03 mixed ipip: nothing → {verdict.value}"])


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, 1),
        ({"mode": ["ipip"], "lab": ["mixed", "alpha"]}, 1),
        ({"mode": ["none"]}, 0),
        ({"lab": ["alpha"]}, 0),
        ({"k": "OTHER"}, 0),
        ({"shard": "1/2"}, 1),
    ],
    ids=["all", "both-named", "another-mode", "another-lab", "expression", "part-without-others"],
)
def test_a_row_that_is_gone_is_worse_only_if_this_run_was_asked_for_it(options: dict[str, object], code: int) -> None:
    assert compared([OTHER, row()], [OTHER], **options)[0] == code


@pytest.mark.parametrize(
    ("others", "kind"),
    [
        ([], "worse"),
        ([Key("IPIP-03", "mixed", "ipip")], "not_asked"),
        ([Key("IPIP-04", "mixed", "ipip")], "not_asked"),
        ([Key("IPIP-03", "mixed", "ipip-crosssubnet"), Key("IPIP-03", "alpha", "ipip")], "worse"),
        ([Key("VXLAN-01", "alpha", "vxlan")], "worse"),
    ],
    ids=["nobody", "judged-by-another-part", "place-of-another-part", "similar-places", "other-places"],
)
def test_a_part_answers_for_its_own_rows_and_for_those_that_no_part_judges(others: list[Key], kind: str) -> None:
    now = results(row(id="OTHER-01", lab="alpha", mode="none"))
    now.options = {"shard": "1/2", "level": "core"}
    found = compare(results(*now.rows, row()), now, "old.json", others)
    assert [one.kind for one in found.changes if one.id == "IPIP-03"] == [kind]


def test_a_row_that_is_gone_counts_in_each_part_that_has_a_share_in_its_lab_and_mode() -> None:
    """A scene of a lab may be in another part than the lab itself, and a row does not tell its scene."""
    now = results(OTHER)
    now.options = {"shard": "1/2", "level": "core"}
    found = compare(results(OTHER, row(), row(id="IPIP-05")), now, "old.json", [Key("IPIP-05", "mixed", "ipip")])
    assert [(one.id, one.kind) for one in found.changes] == [
        ("IPIP-03", "worse"),
        ("IPIP-05", "not_asked"),
        ("OTHER-01", "same"),
    ]


def test_a_part_is_no_baseline_of_a_part(tmp_path: Path) -> None:
    earlier = results(OTHER)
    earlier.options = {"shard": "1/2"}
    earlier.write(tmp_path)
    assert read_baseline(str(tmp_path)).rows == [OTHER]
    with pytest.raises(LabError, match=r"^--baseline: .*: is part 1/2 of a run, which cannot share out the whole\n"):
        read_baseline(str(tmp_path), shard="1/2")


def test_a_failed_row_that_is_gone_is_told_and_costs_nothing() -> None:
    assert compared([OTHER, row(FAILED)], [OTHER]) == (0, ["gone IPIP-03 mixed ipip: failed → nothing"])


def test_what_is_wrong_with_the_run_itself_is_never_old_news() -> None:
    assert compared([OTHER, run_row("blind")], [OTHER, run_row("blind")])[0] == 2


def test_the_baseline_is_a_file_or_its_folder_and_nothing_else(tmp_path: Path) -> None:
    results(OTHER).write(tmp_path)
    assert read_baseline(str(tmp_path)).rows == read_baseline(str(tmp_path / "results.json")).rows == [OTHER]
    (tmp_path / "x.json").write_text("[]")
    for name, said in (("x.json", "holds no results"), ("y.json", "no such file or directory")):
        with pytest.raises(LabError, match=rf"^--baseline: .*/{name}: {said}\n"):
            read_baseline(str(tmp_path / name))


@pytest.mark.parametrize(
    ("rows", "exit", "said"),
    [
        ([OTHER], None, "its run has come to no end"),
        ([OTHER, row(BROKEN)], 2, "its run is broken: 1 of 2 rows, and nothing is known of what those judge"),
        ([OTHER, run_row("blind")], 0, "its run is broken: 1 of 2 rows, and nothing is known of what those judge"),
        ([row(NOT_OFFERED)], 2, "its run judged nothing"),
    ],
    ids=["no-end", "broken", "broken-and-green-once", "nothing-judged"],
)
def test_what_says_too_little_is_no_baseline(tmp_path: Path, rows: list[Row], exit: int | None, said: str) -> None:
    earlier = results(*rows)
    earlier.exit = exit
    earlier.write(tmp_path)
    with pytest.raises(LabError, match=rf"^--baseline: .*/results\.json: {said}\n  hint: .* that ended with 0 or 1$"):
        read_baseline(str(tmp_path))


@pytest.mark.parametrize("rows", [[OTHER], [OTHER, row(FAILED)]], ids=["green", "red"])
def test_a_run_that_judged_all_is_a_baseline_whatever_failed(tmp_path: Path, rows: list[Row]) -> None:
    results(*rows).write(tmp_path)
    assert set(read_baseline(str(tmp_path)).rows) == set(rows)


def test_rows_that_are_as_before_are_only_counted() -> None:
    found = compare(results(OTHER, row(FAILED)), results(OTHER, row(FAILED)), "old.json")
    told = found.to_json()
    assert (told["changes"], told["totals"]["same"]) == ([], 2)
    assert found.lines() == [
        f"compared with old.json ({found.run}): 0 worse, 0 better, 0 new, 0 gone, 2 same, 0 not asked"
    ]
    assert json.dumps(told)
