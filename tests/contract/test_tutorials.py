"""The tutorials can be typed against a running lab: each command where they type it, with the result that they state.

fixtures/tutorials/t*.yaml hold what is typed and what must be seen; a user types the same behind `./lab exec PLACE --`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.user import ROOT, User, leaving_no_trace
from tunlab.wait import eventually

FOLDER = ROOT / "fixtures" / "tutorials"
WITHIN_S = 10.0
FIELDS = {"says", "at", "type", "shows", "lacks", "keeps", "meanwhile", "soon"}


@dataclass(frozen=True)
class Part:
    """One lab in one mode, and what is typed in it, step by step."""

    tutorial: str
    lab: str
    mode: str
    steps: tuple[Mapping[str, Any], ...] = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.tutorial}-{self.mode}"


def parts() -> list[Part]:
    found = []
    for path in sorted(FOLDER.glob("t*.yaml")):
        for one in yaml.safe_load(path.read_text()):
            found.append(Part(path.stem, one["lab"], one["mode"], tuple(one["steps"])))
    return found


PARTS = parts()


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_tutorial_typed_against_a_lab_shows_what_it_states(part: Part, tmp_path: Path) -> None:
    user = User(tmp_path)
    lab = str(ROOT / part.lab) if part.lab.endswith(".yaml") else part.lab
    with leaving_no_trace(user):
        user.does("up", lab, "--mode", part.mode)
        kept: dict[str, str] = {}
        for step in part.steps:
            take(user, step, kept)
        user.does("down", "--all")
        for path in tmp_path.glob("*.yaml"):
            path.unlink()


def take(user: User, step: Mapping[str, Any], kept: dict[str, str]) -> None:
    """Type one step's command, look for what it must show, and keep what later steps refer to."""
    typed = filled(step["type"], kept)

    def look() -> str:
        said = user.types("exec", step["at"], "--", "sh", "-c", typed, within_s=60)
        return said.out + said.err

    def wrong(seen: str) -> list[str]:
        shows = [filled(one, kept) for one in step.get("shows", ())]
        lacks = [filled(one, kept) for one in step.get("lacks", ())]
        missing = [f"lacks {one}" for one in shows if not re.search(one, seen, re.MULTILINE)]
        return missing + [f"shows {one}" for one in lacks if re.search(one, seen, re.MULTILINE)]

    with meanwhile(user, step, kept):
        where = f"{step['at']}$ {typed}"
        if step.get("soon"):
            seen = eventually(look, lambda text: not wrong(text), within_s=WITHIN_S, every_s=0.3, what=where)
        else:
            seen = look()
    assert not wrong(seen), f"{step['says']}\n{where}\n{seen}\n{'; '.join(wrong(seen))}"
    for name, pattern in step.get("keeps", {}).items():
        match = re.search(pattern, seen, re.MULTILINE)
        assert match, f"{where}: {seen}: has no {pattern}"
        kept[name] = match[1]


@contextmanager
def meanwhile(user: User, step: Mapping[str, Any], kept: Mapping[str, str]) -> Iterator[None]:
    """What goes on in another terminal while the command runs."""
    other = step.get("meanwhile")
    words = ("exec", other["at"], "--", "sh", "-c", f"exec {filled(other['type'], kept)}") if other else ()
    with user.begins(*words) if other else nullcontext():
        yield


def filled(text: str, kept: Mapping[str, str]) -> str:
    """A text with {name} replaced by what an earlier step has kept; other braces are the text's own."""
    return re.sub(r"\{([a-z_]+)\}", lambda match: re.escape(kept[match[1]]) if match[1] in kept else match[0], text)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_step_says_what_it_shows_and_can_be_wrong(part: Part) -> None:
    for step in part.steps:
        assert set(step) <= FIELDS and {"says", "at", "type", "shows"} <= set(step), step
        assert step["shows"], f"{step['says']}: shows nothing, so it cannot be wrong"
        for pattern in (*step["shows"], *step.get("lacks", ())):
            assert re.compile(pattern)
            assert not re.search(pattern, ""), f"{pattern}: an empty screen would show it"
