"""Walking through a lesson: what is run, what is asked, what is said to an answer, and where one goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lesson.fake import ANSWERS, FRONT, FakeGround, lesson, walk
from tunlab.errors import SystemFault
from tunlab.lesson.progress import Progress
from tunlab.wait import FACTOR_VARIABLE

RIGHT = ["", "cali1", "", "", "3"]


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def ground() -> FakeGround:
    return FakeGround(dict(ANSWERS))


def test_whoever_answers_right_reaches_the_end(tmp_path: Path, ground: FakeGround) -> None:
    reached, screen, person = walk(lesson(tmp_path), ground, RIGHT)
    assert reached and person is not None
    assert person.prompts == ["node1$ ", "? ", "node1$ ", "pod1$ ", "? "]
    assert screen.count("Right: ") == 2
    assert "Step 3 of 3: Last" in screen and "The device is cali1." in screen
    assert ground.typed == ["node1$ ip route", "node1$ set mode two"]


def test_the_lab_is_brought_to_its_known_state_first(tmp_path: Path, ground: FakeGround) -> None:
    walk(lesson(tmp_path), ground, [])
    assert ground.looked[0] == "node1$ set mode one"


def test_a_jump_does_again_what_changes_the_lab_and_waits_for_it(tmp_path: Path, ground: FakeGround) -> None:
    reached, screen, _ = walk(lesson(tmp_path), ground, ["3"], start=3)
    assert reached and "bringing the lab to step 3" in screen and "First words" not in screen
    changes = [line for line in ground.looked if "tell" not in line and "count" not in line]
    assert changes == ["node1$ set mode one", "node1$ set mode two", "pod1$ look for 02:00:00:00:00:01"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("eth9", "No: Not that one."),
        ("cali2", "No: That is node2's."),
        ("cali3", "No; the lab says otherwise."),
        ("hint", "first hint"),
        ("", "first hint"),
        ("!ls", "node1$ ls"),
        ("! node2 ls", "node1$ node2 ls"),
    ],
    ids=["foreseen", "foreseen by the lab", "any other", "hint", "nothing", "command", "command elsewhere"],
)
def test_what_is_not_the_answer_is_answered_and_asked_again(
    tmp_path: Path, ground: FakeGround, answer: str, said: str
) -> None:
    reached, screen, person = walk(lesson(tmp_path), ground, ["", answer, "Cali1", "", "", "3"])
    assert reached and person is not None and person.prompts.count("? ") == 3
    assert (said if answer != "! node2 ls" else "node2$ ls") in screen


def test_hints_come_one_after_the_other_and_then_the_answer_with_where_it_is_from(
    tmp_path: Path, ground: FakeGround
) -> None:
    _, screen, _ = walk(lesson(tmp_path), ground, ["", "hint", "hint", "hint", "answer"])
    positions = [screen.index(words) for words in ("first hint", "second hint", "No more hints", "It is cali1.")]
    assert positions == sorted(positions)
    assert "tell device" in screen


def test_a_number_is_compared_as_a_number_and_a_word_is_none(tmp_path: Path, ground: FakeGround) -> None:
    reached, screen, _ = walk(lesson(tmp_path), ground, ["", "cali1", "", "", "three", "03"])
    assert reached
    assert "three: not a whole number" in screen


def test_a_command_of_ones_own_counts_if_it_shows_what_the_step_is_about(tmp_path: Path, ground: FakeGround) -> None:
    ground.answers = {**ground.answers, ("node1", "ls"): "a file\n", ("node1", "route"): "default\n"}
    reached, screen, person = walk(lesson(tmp_path), ground, ["ls", "route", *RIGHT[1:]])
    assert reached and person is not None and person.prompts[:3] == ["node1$ ", "node1$ ", "? "]
    assert "Not yet what this step is about: does not show ^default" in " ".join(screen.split())


def test_what_must_not_be_seen_is_found(tmp_path: Path, ground: FakeGround) -> None:
    ground.answers = {**ground.answers, ("node1", "ip route"): ["default dev tunl0\n", "default\n"]}
    reached, screen, _ = walk(lesson(tmp_path), ground, ["", *RIGHT])
    assert reached
    assert "shows tunl0" in screen


def test_a_skipped_change_is_made_all_the_same(tmp_path: Path, ground: FakeGround) -> None:
    reached, _, _ = walk(lesson(tmp_path), ground, ["skip", "skip", "skip", "skip", "skip"])
    assert reached
    assert ground.typed == []
    assert "node1$ set mode two" in ground.looked


def test_back_brings_the_lab_back_as_well(tmp_path: Path, ground: FakeGround) -> None:
    reached, screen, _ = walk(lesson(tmp_path), ground, ["", "cali1", "", "back", *RIGHT])
    assert reached
    assert screen.count("Step 1 of 3") == 2
    assert ground.looked.count("node1$ set mode one") == 2


@pytest.mark.parametrize("words", [["", "cali1", "quit"], ["", "cali1"]], ids=["quit", "end of input"])
def test_who_leaves_goes_on_where_it_was(tmp_path: Path, ground: FakeGround, words: list[str]) -> None:
    one = lesson(tmp_path)
    reached, _, _ = walk(one, ground, words)
    assert not reached
    assert Progress(one.name).read() == 2
    assert walk(one, ground, RIGHT[2:], start=2)[0]
    assert Progress(one.name).read() == 4


def test_progress_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    progress = Progress("a-lesson")
    progress.save(3)
    progress.path.write_text("{")
    assert progress.read() == 1
    progress.forget()
    progress.forget()
    assert progress.read() == 1


def test_without_anybody_all_is_run_and_answered(tmp_path: Path, ground: FakeGround) -> None:
    reached, screen, _ = walk(lesson(tmp_path), ground, None)
    assert reached
    assert screen.count("Right: ") == 2
    assert not Progress("a-lesson").path.exists()


@pytest.mark.parametrize(
    ("place", "text", "says", "message"),
    [
        (
            "node1",
            "set mode one",
            "refused: no such mode",
            r"^a-lesson:8: node1\$ set mode one: exit code 1: no such mode",
        ),
        ("node1", "ip route", "nothing\n", r"^a-lesson:18: node1\$ ip route: does not show \^default"),
        ("node1", "set mode two", "refused: no", r"^a-lesson:\d+: node1\$ set mode two: exit code 1"),
        (
            "pod1",
            "look for 02:00:00:00:00:01",
            "not there\n",
            r"^a-lesson:\d+: pod1\$ look for .*: does not show \^seen",
        ),
        ("node2", "count", "three\n", r"^a-lesson:\d+: the lab's own answer 'three' is not a whole number"),
        ("node2", "count", "\n", r"^a-lesson:\d+: node2\$ count: it prints nothing"),
        ("node2", "tell device", "cali1\n", r"^a-lesson:\d+: calls the right answer wrong: cali1"),
    ],
    ids=["begins", "shows", "change", "never comes", "no number", "no answer", "right called wrong"],
)
def test_a_lab_that_is_not_as_the_lesson_says_is_told_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, text: str, says: str, message: str
) -> None:
    monkeypatch.setenv(FACTOR_VARIABLE, "0.005")
    ground = FakeGround({**ANSWERS, (place, text): says})
    with pytest.raises(SystemFault, match=message):
        walk(lesson(tmp_path), ground, None)


def test_what_goes_on_meanwhile_ends_with_the_command(tmp_path: Path, ground: FakeGround) -> None:
    text = FRONT + "## A\n```meanwhile pod1\nping\n```\n```run node1\nls\n```\n```shows\ndefault\n```\n"
    reached, screen, _ = walk(lesson(tmp_path, text), ground, None)
    assert reached and "meanwhile pod1$ ping" in screen
    assert ground.running == ["pod1$ ping", "ended"]


def test_a_lesson_fits_eighty_columns(tmp_path: Path, ground: FakeGround) -> None:
    text = (
        FRONT
        + "many words " * 40
        + "\n## A\n"
        + "more words " * 40
        + "\n```run node1\nls\n```\n```shows\ndefault\n```\n"
    )
    _, screen, _ = walk(lesson(tmp_path, text), ground, [])
    assert [line for line in screen.splitlines() if len(line) > 80 or line.endswith(" ")] == []
    assert "\x1b" not in screen
