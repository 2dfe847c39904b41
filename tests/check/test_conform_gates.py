"""What a CI gate asks of a run: compare with an earlier one, judge a part, keep a bundle and judge it again."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.check.fakes import conform, write_suite
from tunlab.check.selection import CellKey, Options, fingerprint, read_shard, share_out
from tunlab.command.conform import Places, run
from tunlab.command.replay import replay
from tunlab.errors import LabError
from tunlab.report.bundle import read_bundle, write_bundle
from tunlab.report.results import read_results

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs" / "results.schema.json").read_text())
SUITE = '''
@requirement("GOOD-01")
def test_good(cell):
    """It works."""

@requirement("FAIL-01", modes=["ipip"])
def test_fail(cell):
    """It is right."""
    assert not FAILS, "it is not"
'''


def places(tmp_path: Path, *, fails: bool = True) -> Places:
    tmp_path.mkdir(exist_ok=True)
    return write_suite(tmp_path, a=f"FAILS = {fails}\n{SUITE}")


def test_with_a_baseline_only_what_got_worse_counts(tmp_path: Path) -> None:
    bad = places(tmp_path / "red")
    red, green = conform(bad), conform(places(tmp_path / "green", fails=False))
    assert (red.code, green.code) == (1, 0)
    same = conform(replace(bad, captures=tmp_path / "same"), baseline=str(red.out))
    worse = conform(replace(bad, captures=tmp_path / "worse"), baseline=str(green.out))
    assert (same.code, worse.code) == (0, 1)
    for ran in (same, worse):
        jsonschema.validate(ran.results, SCHEMA)
        assert ran.said.splitlines()[-1].startswith(f"tunlab: exit={ran.code} passed=4 failed=2 ")
    assert [one["kind"] for one in worse.results["baseline"]["changes"]] == ["worse", "worse"]
    assert "worse FAIL-01 alpha ipip: passed → failed" in worse.said.splitlines()
    assert same.results["baseline"]["changes"] == []


def test_a_broken_run_is_broken_whatever_it_is_compared_with_and_is_no_baseline(tmp_path: Path) -> None:
    green = conform(places(tmp_path / "green", fails=False))
    there = write_suite(tmp_path, opening='OPENING["alpha-ipip"] = WorldError("no room")', a=f"FAILS = True\n{SUITE}")
    broken = conform(there, baseline=str(green.out))
    assert (broken.code, broken.results["exit"]) == (2, 2)
    with pytest.raises(LabError, match=r"^--baseline: .*: its run is broken: 2 of 6 rows, "):
        conform(there, baseline=str(broken.out))
    assert [path.name for path in there.captures.glob("2*")] == [broken.out.name], "no run began"


def test_the_shards_of_a_run_judge_each_row_once_and_keep_cells_whole(tmp_path: Path) -> None:
    whole = conform(places(tmp_path / "whole", fails=False))
    parts = [conform(places(tmp_path / f"p{n}", fails=False), shard=f"{n}/3") for n in (1, 2, 3)]
    assert [part.code for part in parts] == [0, 0, 0]
    judged = [key for part in parts for key in part.verdicts]
    assert sorted(judged) == sorted(whole.verdicts)
    cells = [{key.split()[1] for key in part.verdicts} for part in parts]
    assert sum(map(len, cells)) == len(set.union(*cells)) == 4
    assert set(whole.results["cells"]) == set.union(*cells)
    assert [set(part.results["share"]["cells"]) for part in parts] == cells
    (partition,) = {part.results["share"]["partition"] for part in parts}
    assert f"part 2/3: 1 cell of partition {partition}" in parts[1].said.splitlines()
    assert "share" not in whole.results
    for ran in (whole, *parts):
        jsonschema.validate(ran.results, SCHEMA)


def test_what_a_part_has_lost_turns_it_red_and_what_others_judge_does_not(tmp_path: Path) -> None:
    whole = conform(places(tmp_path / "whole", fails=False))
    told = whole.results

    def parts(name: str, **lost: str) -> list[tuple[int, list[str]]]:
        """Exit code and changes of either part, compared with a run that had one more row."""
        extra = [{**told["requirements"][0], **lost}] if lost else []
        (tmp_path / f"{name}.json").write_text(json.dumps({**told, "requirements": told["requirements"] + extra}))
        ran = []
        for n in (1, 2):
            there = places(tmp_path / f"{name}{n}", fails=False)
            part = conform(there, shard=f"{n}/2", baseline=str(tmp_path / f"{name}.json"))
            changes = part.results["baseline"]["changes"]
            ran.append((part.code, [f"{one['kind']} {one['id']} {one['lab']} {one['mode']}" for one in changes]))
            assert len(part.verdicts) + part.results["baseline"]["totals"]["not_asked"] + len(changes) == 6 + len(extra)
        return ran

    assert parts("same") == [(0, []), (0, [])]
    row = parts("row", id="OLD-01", lab="alpha", mode="ipip")
    assert sorted(row) == [(0, []), (1, ["worse OLD-01 alpha ipip"])]
    lab = parts("lab", id="OLD-01", lab="gamma", mode="none")
    assert lab == [(1, ["worse OLD-01 gamma none"])] * 2, "no part judges that lab: all say so"


def test_parts_that_were_shared_out_by_other_seconds_tell_another_partition() -> None:
    cells = [CellKey("lab", mode) for mode in ("ipip", "none", "vxlan")]
    told = [share_out(cells, 2, Options(Path(), seconds=seconds)) for seconds in ({}, {}, {"lab-none": 900.0})]
    first, same, other = map(fingerprint, told)
    assert first == same != other
    assert fingerprint(reversed(told[0])) != first, "who judges which part is part of it"


def test_a_shard_with_nothing_in_it_is_broken_and_a_wrong_one_a_mistake(tmp_path: Path) -> None:
    ran = conform(places(tmp_path / "a", fails=False), shard="9/9")
    assert (ran.code, list(ran.verdicts)) == (2, ["RUN-00 ---"])
    with pytest.raises(LabError, match=r"^--shard: 4/3: no part of a whole\n"):
        conform(places(tmp_path / "b"), shard="4/3")
    assert [read_shard(text) for text in ("1/1", "0/2", "2/1", "x", "1/0", "-1/2")] == [(1, 1)] + [None] * 5


def test_shares_follow_what_was_measured() -> None:
    cells = [CellKey("lab", mode) for mode in ("ipip", "none", "vxlan")]
    here = Options(Path(), seconds={"lab-ipip": 5.0, "lab-none": 50.0, "lab-vxlan": 40.0})
    assert share_out(cells, 2, here) == (
        frozenset({CellKey("lab", "none")}),
        frozenset({CellKey("lab", "ipip"), CellKey("lab", "vxlan")}),
    )
    unmeasured = share_out(cells, 2, Options(Path()))
    assert CellKey("lab", "ipip") in unmeasured[0] and len(unmeasured[0]) == 1


def test_a_bundle_is_written_for_a_red_run_or_where_asked_for(tmp_path: Path) -> None:
    red, green = conform(places(tmp_path / "red")), conform(places(tmp_path / "green", fails=False))
    asked = conform(places(tmp_path / "asked", fails=False), bundle=True)
    assert [(ran.out / "bundle.tar").exists() for ran in (red, green, asked)] == [True, False, True]
    with tarfile.open(red.out / "bundle.tar") as tar:
        names = tar.getnames()
        member = tar.extractfile("replay.json")
        assert member is not None
        told = json.load(member)
    assert {"replay.json", "run/results.json", "run/junit.xml", "run/pytest.log"} <= set(names)
    assert not [name for name in names if name.endswith("bundle.tar")]
    assert (told["schema"], told["environment"], len(told["rows"])) == ("tunlab/bundle/v1", {}, 6)


def test_a_bundle_holds_what_decided_the_verdicts_and_tells_what_is_another_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / "refnet"
    (part / "bin").mkdir(parents=True)
    (part / "bin" / "agent").write_text("a build\n")
    red = conform(places(tmp_path / "red"))
    judged = read_results(red.out)
    assert judged is not None
    results = replace(judged, options={"with": {"refnet": str(part)}})
    monkeypatch.setenv("TUNLAB_SEED", "7")
    monkeypatch.setenv("TUNLAB_HINT", "not ours to take along")
    bundle = read_bundle(write_bundle(red.out, results, {}), tmp_path / "there")
    assert (tmp_path / "there" / bundle.places["refnet"] / "bin" / "agent").read_text() == "a build\n"
    assert bundle.environment == {"TUNLAB_SEED": "7"}
    assert list(bundle.strange()) == []
    changed = tmp_path / "there" / "manifests" / "life" / "refresh-often.yaml"
    changed.write_text(changed.read_text() + "# another\n")
    assert list(bundle.strange()) == [
        "fixtures/manifests/life/refresh-often.yaml is another than the bundle's, which was applied"
    ]
    assert "of 0123" in next(replace(bundle, data={**bundle.data, "commit": "0123"}).strange())


@pytest.mark.parametrize(("fails", "code", "now"), [(True, 1, "failed"), (False, 0, "passed")], ids=["still", "mended"])
def test_a_replay_judges_what_failed_and_says_what_became_of_it(
    tmp_path: Path, fails: bool, code: int, now: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    red = conform(places(tmp_path / "red"))
    there, said = places(tmp_path / "there", fails=fails), io.StringIO()

    def beside_another(**asked: Any) -> tuple[int, Path]:
        told = run(**asked)
        (there.captures / "latest").unlink()  # as if somebody else had begun another run meanwhile
        return told

    monkeypatch.setattr("tunlab.command.conform.run", beside_another)
    assert replay(str(red.out / "bundle.tar"), places=there, stream=said) == code
    assert said.getvalue().splitlines()[-3:] == [
        f"replay FAIL-01 alpha ipip: was failed, is {now}",
        f"replay FAIL-01 beta ipip: was failed, is {now}",
        f"replay of {red.out.resolve().name}: {2 if fails else 0} of 2 as they were",
    ]
    (results,) = there.captures.glob("2*/results.json")
    rows = json.loads(results.read_text())["requirements"]
    assert {row["id"] for row in rows} == {"FAIL-01"}


@pytest.mark.parametrize("kind", ["nothing", "text", "tar", "hostile"])
def test_what_is_no_bundle_is_refused_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.tar"
    if kind == "text":
        path.write_text("hello")
    elif kind != "nothing":
        with tarfile.open(path, "w") as tar:
            member = tarfile.TarInfo("../escaped" if kind == "hostile" else "a")
            tar.addfile(member, io.BytesIO(b""))
    with pytest.raises(LabError, match="no bundle"):
        replay(str(path), places=Places(captures=tmp_path / "captures"))
    assert not (tmp_path / "captures").exists() and not (tmp_path / "escaped").exists()
