"""Every way not to run, not to finish or not to look must end in something other than `passed`."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.check.fakes import conform, write_suite
from tunlab.plugin import Progress

GOOD = '''
@requirement("GOOD-01")
def test_good(cell):
    """It works."""
'''


def declared(id: str, body: str, *, before: str = "", kind: str = "def", arguments: str = "cell") -> str:
    return f'{before}\n@requirement("{id}")\n{kind} test_odd({arguments}):\n    """Odd."""\n    {body}\n'


SKIPPED = r"the test skipped itself: {}; only the system may say that it does not offer something"

ODD = {
    "skips-itself": (declared("ODD-01", "pytest.skip('too tired')"), SKIPPED.format("too tired")),
    "xfails-itself": (declared("ODD-01", "pytest.xfail('some day')"), SKIPPED.format("some day")),
    "marked-skip": (declared("ODD-01", "pass", before="@pytest.mark.skip('later')"), SKIPPED.format("later")),
    "marked-skipif": (
        declared("ODD-01", "pass", before="@pytest.mark.skipif(True, reason='no')"),
        SKIPPED.format("no"),
    ),
    "xfail-without-run": (
        declared("ODD-01", "pass", before="@pytest.mark.xfail(run=False, reason='bug')"),
        SKIPPED.format(r"\[NOTRUN\] bug"),
    ),
    "coroutine": (declared("ODD-01", "assert 0", kind="async def"), r"(?s).*"),
    "returns-instead": (
        declared("ODD-01", "return 1 == 2"),
        r".*: returned bool, and a returned value asserts nothing",
    ),
    "unchecked": (
        declared("ODD-01", "cell.expectations.expect('a packet')"),
        "declared but never checked: a packet\n  hint: call check on every expectation",
    ),
    "pytest-fail": (declared("ODD-01", "pytest.fail('hm')"), r"Failed: hm \(at .*"),
    "library-assertion": (
        declared("ODD-01", "import unittest; unittest.TestCase().assertTrue(False)"),
        r"an assertion of a tool's own at .*case\.py:\d+: False is not true",
    ),
    "exits": (declared("ODD-01", "raise SystemExit(0)"), r"(SystemExit: 0 \(at .*|.*died.*)"),
    "not-offered-too-late": (
        "from tunlab.check.verdict import NotOffered\n" + declared("ODD-01", "raise NotOffered('wings')"),
        "said only during the test that it is not offered: wings",
    ),
    "fixture-breaks": (
        "@pytest.fixture\ndef odd():\n    raise OSError('no')\n" + declared("ODD-01", "pass", arguments="cell, odd"),
        r"OSError: no \(at .*",
    ),
    "fixture-skips": (
        "@pytest.fixture\ndef odd():\n    pytest.skip('no')\n" + declared("ODD-01", "pass", arguments="odd, cell"),
        SKIPPED.format("no"),
    ),
    "tidying-up-breaks": (
        "@pytest.fixture\ndef odd():\n    yield\n    raise OSError('no')\n"
        + declared("ODD-01", "pass", arguments="cell, odd"),
        r"OSError: no \(at .*",
    ),
    "another-hook-runs-it": (
        declared("ODD-01", "pass"),
        r".*pytest went on without running the test's body to its end",
    ),
}


@pytest.mark.parametrize(("text", "reason"), ODD.values(), ids=ODD.keys())
def test_what_is_odd_is_broken(tmp_path: Path, text: str, reason: str, request: pytest.FixtureRequest) -> None:
    hook = ""
    if "another-hook" in request.node.name:
        hook = (
            "def pytest_pyfunc_call(pyfuncitem):\n    return True if pyfuncitem.name.startswith('test_odd') else None\n"
        )
    ran = conform(write_suite(tmp_path, opening=hook, a=GOOD, odd=text), labs=["alpha"], modes=["none"])
    assert ran.verdicts["ODD-01 alpha-none"] == "broken"
    assert re.fullmatch(reason, ran.rows["ODD-01 alpha-none"]["reason"]), ran.rows["ODD-01 alpha-none"]["reason"]
    assert ran.code == 2
    if "exits" not in request.node.name:
        assert ran.verdicts["GOOD-01 alpha-none"] == "passed", "what is odd does not spread"


def test_an_assertion_under_xfail_still_fails(tmp_path: Path) -> None:
    text = declared("ODD-01", "assert 1 == 2", before="@pytest.mark.xfail")
    ran = conform(write_suite(tmp_path, odd=text), labs=["alpha"], modes=["none"])
    assert (ran.verdicts, ran.code) == ({"ODD-01 alpha-none": "failed"}, 1)


def test_a_dead_worker_breaks_its_test_and_no_other(tmp_path: Path) -> None:
    text = GOOD + declared("DEAD-01", "cell.name == 'alpha-none' and os.kill(os.getpid(), signal.SIGKILL)")
    ran = conform(write_suite(tmp_path, dead=text))
    assert {key: verdict for key, verdict in ran.verdicts.items() if verdict != "passed"} == {
        "DEAD-01 alpha-none": "broken"
    }
    assert ran.rows["DEAD-01 alpha-none"]["reason"] == "the process that judged it died"
    assert len(ran.rows) == 8
    assert ran.code == 2


def test_a_dead_pytest_leaves_complete_results(tmp_path: Path) -> None:
    """One cell, so no workers: the process that dies is the one that reports."""
    text = (
        GOOD
        + declared("DEAD-01", "os.kill(os.getpid(), signal.SIGKILL)")
        + GOOD.replace("GOOD-01", "LATE-01").replace("test_good", "test_late")
    )
    ran = conform(write_suite(tmp_path, dead=text), labs=["alpha"], modes=["none"])
    assert ran.verdicts == {
        "DEAD-01 alpha-none": "broken",
        "GOOD-01 alpha-none": "passed",
        "LATE-01 alpha-none": "broken",
        "RUN-00 ---": "broken",
    }
    assert ran.rows["RUN-00 ---"]["reason"].startswith("pytest ended with -9, not 2: ")
    assert ran.junit.get("errors") == "3"


def test_a_suite_that_cannot_be_read_is_broken_with_its_error(tmp_path: Path) -> None:
    ran = conform(write_suite(tmp_path, a=GOOD, b="import no_such_module\n"))
    assert ran.code == 2
    assert "ModuleNotFoundError: No module named 'no_such_module'" in ran.rows["RUN-00 ---"]["reason"]


def test_a_requirement_that_nobody_declares_any_more_is_missed(tmp_path: Path) -> None:
    """Judging fewer than there should be is no success, whatever was chosen of the rest."""
    here = write_suite(tmp_path, a=GOOD)
    (here.suites / "manifest.txt").write_text("GOOD-01\nGONE-01\n")
    ran = conform(here, expression="GOOD")
    assert ran.code == 2
    assert ran.rows["RUN-00 ---"]["reason"] == "GONE-01: stands in manifest.txt, and no file declares it"
    (here.suites / "manifest.txt").write_text("GOOD-01\n")
    assert conform(replace(here, captures=tmp_path / "again"), expression="GOOD").code == 0


def test_a_file_that_skips_itself_hides_nothing(tmp_path: Path) -> None:
    ran = conform(write_suite(tmp_path, a=GOOD, b="pytest.skip('no time', allow_module_level=True)\n"))
    assert ran.code == 2
    assert re.search(r"test_b\.py: collection skipped: .*no time", ran.rows["RUN-00 ---"]["reason"])
    assert ran.verdicts["GOOD-01 beta-vxlan"] == "passed"


def test_an_id_declared_twice_is_refused(tmp_path: Path) -> None:
    ran = conform(write_suite(tmp_path, a=GOOD, b=GOOD))
    assert ran.code == 2
    assert "requirement GOOD-01: the id is taken by " in ran.rows["RUN-00 ---"]["reason"]


def test_a_test_that_is_no_requirement_is_refused(tmp_path: Path) -> None:
    ran = conform(write_suite(tmp_path, a=GOOD, b="def test_loose():\n    pass\n"), labs=["alpha"])
    reason = ran.rows["RUN-00 ---"]["reason"]
    assert reason.endswith("test_b.py::test_loose: every test of a suite is a @requirement")
    assert ran.code == 2


def test_one_requirement_judged_twice_is_broken(tmp_path: Path) -> None:
    text = declared("ODD-01", "assert n", before="@pytest.mark.parametrize('n', [1, 2])", arguments="cell, n")
    ran = conform(write_suite(tmp_path, odd=text), labs=["alpha"], modes=["none"])
    assert ran.rows["ODD-01 alpha-none"]["reason"] == "judged 2 times: passed, passed"
    assert ran.code == 2


def test_nothing_selected_is_broken_and_names_what_was_asked(tmp_path: Path) -> None:
    ran = conform(write_suite(tmp_path, a=GOOD), labs=["alpha"], modes=["none"], expression="zzz")
    assert ran.verdicts == {"RUN-00 ---": "broken"}
    wanted = "no requirement was selected by --mode none --lab alpha --level core --box auto -k zzz"
    assert ran.rows["RUN-00 ---"]["reason"] == wanted
    assert ran.code == 2


def test_a_wrong_expression_is_pytests_usage_error(tmp_path: Path) -> None:
    ran = conform(write_suite(tmp_path, a=GOOD), labs=["alpha"], modes=["none"], expression="and and")
    assert ran.code == 2
    assert "Wrong expression passed to '-k'" in ran.rows["RUN-00 ---"]["reason"]


def test_no_suites_at_all_is_broken(tmp_path: Path) -> None:
    places = write_suite(tmp_path)
    ran = conform(places)
    assert (ran.code, ran.verdicts) == (2, {"RUN-00 ---": "broken"})


BROKEN_CELL = 'OPENING["alpha-none"] = {}'
MANY = GOOD + GOOD.replace("GOOD-01", "MORE-01").replace("test_good", "test_more")


@pytest.mark.parametrize(
    ("error", "verdict", "code"),
    [
        ("WorldError('bridge: no such device\\nmore')", "broken", 2),
        ("OSError('disk full')", "broken", 2),
        ("SystemFault('node1: not ready within 10 s\\nmore')", "failed", 1),
        ("NotOffered('the fake has no mode none')", "not_offered", 2),
    ],
    ids=["world", "any", "system", "not-offered"],
)
def test_a_cell_that_cannot_be_opened_judges_all_its_requirements(
    tmp_path: Path, error: str, verdict: str, code: int
) -> None:
    ran = conform(write_suite(tmp_path, opening=BROKEN_CELL.format(error), a=MANY), labs=["alpha"], modes=["none"])
    assert ran.verdicts == {"GOOD-01 alpha-none": verdict, "MORE-01 alpha-none": verdict}
    first, second = (ran.rows[f"{id} alpha-none"]["reason"] for id in ("GOOD-01", "MORE-01"))
    if verdict == "not_offered":
        assert first == second == "the fake has no mode none"
    else:
        assert second.startswith("alpha-none could not be opened (told in full at GOOD-01): ")
        assert ("more" in first, "more" in second) == ("more" in error, False)
    assert ran.code == code


def test_a_broken_cell_leaves_the_others_alone(tmp_path: Path) -> None:
    opening = BROKEN_CELL.format("WorldError('no')")
    ran = conform(write_suite(tmp_path, opening=opening, a=GOOD))
    assert [key for key, verdict in ran.verdicts.items() if verdict == "passed"] == [
        "GOOD-01 alpha-ipip",
        "GOOD-01 beta-ipip",
        "GOOD-01 beta-vxlan",
    ]


def test_a_cell_that_does_not_close_breaks_its_last_test(tmp_path: Path) -> None:
    opening = "def refuse(self):\n    raise WorldError('a namespace stayed')\nFakeCell.close = refuse\n"
    ran = conform(write_suite(tmp_path, opening=opening, a=MANY), labs=["alpha"], modes=["none"])
    assert ran.verdicts == {"GOOD-01 alpha-none": "passed", "MORE-01 alpha-none": "broken"}


def test_warnings_stay_in_the_log(tmp_path: Path) -> None:
    text = declared("WARN-01", "import warnings; warnings.warn('odd but true')")
    ran = conform(write_suite(tmp_path, a=text), labs=["alpha"], modes=["none"])
    assert (ran.code, "odd but true" in ran.said) == (0, False)
    assert "odd but true" in (ran.out / "pytest.log").read_text()


@pytest.mark.parametrize("missing", ["setup", "call", "teardown", "body"])
def test_a_test_that_lacks_one_step_has_not_passed(missing: str) -> None:
    progress = Progress(body_ended=missing != "body")
    for when in {"setup", "call", "teardown"} - {missing}:
        progress.take(when, None)
    assert progress.conclude() == ("broken", "the test did not run to its end")


def test_options_of_pytest_in_the_environment_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only")
    ran = conform(write_suite(tmp_path, a=GOOD), labs=["alpha"], modes=["none"])
    assert (ran.code, ran.verdicts) == (0, {"GOOD-01 alpha-none": "passed"})
    assert os.environ["PYTEST_ADDOPTS"] == "--collect-only"
