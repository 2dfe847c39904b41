"""The lessons of IPIP, which need a kernel of their own: beside the others, on another worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.walking import GROUNDS, go_through
from tunlab.lesson.model import Lesson

HERE = {name: lessons for name, lessons in GROUNDS.items() if name.endswith("ipip")}


@pytest.mark.parametrize("lessons", HERE.values(), ids=HERE)
def test_lessons_are_walked_through_with_wrong_and_right_answers(lessons: list[Lesson], tmp_path: Path) -> None:
    go_through(lessons, tmp_path)


def test_there_is_one() -> None:
    assert HERE
