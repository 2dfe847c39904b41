"""Every lesson is walked through on its lab, with wrong and right answers; those of IPIP have a file of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.walking import ANSWERS, GROUNDS, go_through, script
from tunlab.lesson.model import Lesson
from tunlab.lesson.read import lesson_names

HERE = {name: lessons for name, lessons in GROUNDS.items() if not name.endswith("ipip")}


@pytest.mark.parametrize("lessons", HERE.values(), ids=HERE)
def test_lessons_are_walked_through_with_wrong_and_right_answers(lessons: list[Lesson], tmp_path: Path) -> None:
    go_through(lessons, tmp_path)


def test_each_lesson_has_its_answers() -> None:
    assert set(ANSWERS) == set(lesson_names())


@pytest.mark.parametrize("one", [lesson for group in GROUNDS.values() for lesson in group], ids=lambda one: one.name)
def test_there_is_an_answer_to_each_question_and_a_wrong_one(one: Lesson) -> None:
    assert script(one)[2] == len(ANSWERS[one.name])
    assert all(len(set(map(str, answers))) == len(answers) >= 2 for answers in ANSWERS[one.name])
