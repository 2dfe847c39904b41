"""Reading a lesson: every mistake of the file is told at once, each with its line and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command.typed import ROOT
from tests.lesson.fake import FRONT, lesson
from tunlab.errors import LabError
from tunlab.lesson.judge import meaning
from tunlab.lesson.model import Command, Kind, Question
from tunlab.lesson.read import find_lesson, lesson_names, read_lesson

STEP = "## A\n```run node1\nls\n```\n```shows\nx\n```\n"
ASK = "## A\n```ask\nquestion: q\nat: node1\nanswer: ls\nhints: [h]\n"


def test_a_lesson_is_read_whole(tmp_path: Path) -> None:
    one = lesson(tmp_path)
    assert [step.title for step in one.steps] == ["Look", "Change", "Last"]
    assert [command.text for command in one.brings(3)] == ["set mode one", "set mode two", "look for {{mac}}"]
    look, ask = one.steps[0].items
    assert isinstance(look, Command) and isinstance(ask, Question)
    assert (look.shows, look.lacks, look.line) == (("^default",), ("tunl0",), 18)
    assert set(one.facts) == {"mac", "device"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# no front\n" + STEP, "a-lesson.md:1: no front matter"),
        ("---\ntitle: a\n---\n" + STEP, "a-lesson.md:1: front matter: lab is missing"),
        ("---\ntitle: a: b\n---\n" + STEP, "a-lesson.md:2: front matter: not YAML: "),
        (FRONT.replace("same-subnet", "nowhere"), "a-lesson.md:3: lab: labs: nowhere: no such lab"),
        (FRONT.replace("vxlan", "vxlam"), "a-lesson.md:4: mode: vxlam: no such mode"),
        (FRONT.replace("same-subnet", "reflectors"), "a-lesson.md:4: mode: vxlan: not one of reflectors"),
        (FRONT.replace("title", "titel"), "a-lesson.md:2: titel: no such key"),
        (FRONT, "a-lesson.md:1: a lesson without a step"),
        (FRONT + "## A\nwords\n", "a-lesson.md:6: A: a step with nothing to do"),
        (FRONT + STEP + "```run node1\nls\n", "a-lesson.md:13: a fence that is never closed"),
        (FRONT + "```run node1\nls\n```\n" + STEP, "a-lesson.md:6: nothing says what it shows"),
        (FRONT + STEP.replace("node1", "nod1"), "a-lesson.md:7: run: nod1: no such place in lab same-subnet"),
        (FRONT + STEP.replace("node1", "node1 now"), "a-lesson.md:7: run: now: no such word"),
        (FRONT + STEP.replace("run node1", "change node1 soon"), "a-lesson.md:7: change: soon: no such word"),
        (FRONT + STEP.replace("ls\n", ""), "a-lesson.md:7: run: no command"),
        (FRONT + STEP.replace("\nx\n", "\n(x\n"), "a-lesson.md:11: (x: no regular expression: "),
        (FRONT + STEP.replace("\nx\n", "\nx*\n"), "a-lesson.md:11: x*: an empty screen would show it"),
        (FRONT + STEP.replace("\nx\n", "\n! x\n"), "a-lesson.md:10: shows nothing"),
        (FRONT + STEP.replace("\nx\n", "\n{{x}}\n"), "a-lesson.md:11: {{x}}: nothing above has this name"),
        (FRONT + "## A\n```shows\nx\n```\n" + STEP, "a-lesson.md:7: shows: it stands right after"),
        (FRONT + STEP + "```meanwhile pod1\nls\n```\n", "a-lesson.md:13: meanwhile what?"),
        (FRONT + STEP + "```let\na: {at: node1, run: ls}\n```\n", "a-lesson.md:13: let: only before the first heading"),
        (FRONT + "```let\na: node1\n```\n" + STEP, "a-lesson.md:6: let: a"),
        (FRONT + ASK.replace("hints: [h]\n", "") + "```\n", "a-lesson.md:7: ask: hints is missing"),
        (FRONT + ASK + "kind: colour\n```\n", "a-lesson.md:12: ask: kind: colour"),
        (FRONT + ASK + "kind: choice\n```\n", "a-lesson.md:7: ask: choices and kind: choice go together"),
        (FRONT + ASK + "colour: red\n```\n", "a-lesson.md:12: ask: colour: no such key"),
        (FRONT + ASK + "wrong: [{is: x}]\n```\n", "a-lesson.md:7: ask: wrong: a mapping"),
        (FRONT + ASK + "name: A b\n```\n", "a-lesson.md:7: A b: no name"),
        (FRONT + ASK + "at: node2\n```\n", "a-lesson.md:9: ask: at: written twice"),
    ],
)  # fmt: skip
def test_a_wrong_lesson_is_refused_with_its_line(
    tmp_path: Path, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LabError) as refused:
        lesson(tmp_path, text)
    assert [one for one in refused.value.mistakes if one.startswith(said)], refused.value.mistakes
    assert all("\n  hint: " in one for one in refused.value.mistakes)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(LabError) as refused:
        lesson(tmp_path, FRONT + STEP.replace("node1", "x") + STEP.replace("node1", "y"))
    assert len(refused.value.mistakes) == 2


def test_a_lesson_by_hand_has_no_pods_and_no_mode(tmp_path: Path) -> None:
    front = FRONT.replace("mode: vxlan", "system: none")
    assert lesson(tmp_path, front + STEP).mode == ""
    with pytest.raises(LabError, match="no such place"):
        lesson(tmp_path, front + STEP.replace("node1", "pod1"))
    with pytest.raises(LabError, match="without a system there is none"):
        lesson(tmp_path, FRONT.replace("mode", "system: none\nmode") + STEP)


def test_a_lesson_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(LabError, match=r"^vxlan-neighbor: no such lesson\n  legal: (.|\n)*vxlan-neighbour-and-fdb"):
        find_lesson("vxlan-neighbor")
    with pytest.raises(LabError, match=r"^nowhere/x.md: no such file"):
        find_lesson("nowhere/x.md")


@pytest.mark.parametrize("name", lesson_names())
def test_every_lesson_reads_and_asks(name: str) -> None:
    one = read_lesson(find_lesson(name))
    questions = [item for step in one.steps for item in step.items if isinstance(item, Question)]
    assert len(questions) >= 3, "a lesson asks"
    assert all(question.wrong for question in questions), "a question foresees a mistake"
    assert one.begins or one.system == "none", "a lesson brings its lab to a known state"
    assert len(one.title) <= 78


def test_every_lesson_has_its_own_place_in_the_course() -> None:
    orders = [read_lesson(find_lesson(name)).order for name in lesson_names()]
    assert sorted(orders) == sorted(set(orders))


@pytest.mark.parametrize(
    ("kind", "one", "other", "same"),
    [
        ("word", "Eth0 ", "eth0", True),
        ("word", "eth0", "eth1", False),
        ("number", "1,450", "1450 bytes", True),
        ("address", "10.0.0.1/24", "10.0.0.1", True),
        ("network", "10.0.0.0/26", "10.0.0.0/24", False),
        ("mac", "02-00-00-00-00-0A", "02:00:00:00:00:0a", True),
        ("set", "b, a", "a b", True),
        ("set", "a and b", "a b c", False),
        ("choice", "2", "No", True),
    ],
)
def test_answers_are_compared_as_what_they_mean(kind: Kind, one: str, other: str, same: bool) -> None:
    choices = ("yes", "no")
    assert (meaning(kind, one, choices) == meaning(kind, other, choices)) is same


@pytest.mark.parametrize(
    ("kind", "text"), [("number", "many"), ("address", "node1"), ("network", "x"), ("mac", "02:00"), ("choice", "3")]
)
def test_what_is_no_answer_of_its_kind_is_told_apart(kind: Kind, text: str) -> None:
    with pytest.raises(ValueError):
        meaning(kind, text, ("yes", "no"))


def test_the_whole_lesson_on_its_page_reads_and_its_mistake_is_told_as_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "writing-a-lesson.md").read_text()
    whole = page.partition("````markdown\n")[2].partition("````")[0]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.md"
    path.write_text(whole)
    assert len(read_lesson(path).steps) == 1
    path.write_text(whole.replace("run pod1", "run pod7"))
    with pytest.raises(LabError) as refused:
        read_lesson(path)
    assert f"$ ./lab lesson mine.md\n{refused.value}\n```" in page
