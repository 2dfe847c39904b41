"""The judge bites what only happens later: refnet with a line wrong, or a wrapper in the plugin's place, turns the
requirements red that its entry names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunlab.check.selection import Options
from tunlab.mutants.bite import load_corpus, load_proofs
from tunlab.mutants.build import Build, Wrap
from tunlab.mutants.mutant import Mutant
from tunlab.mutants.trial import try_build

PROOFS = load_proofs()
CORPUS = tuple(one for one in load_corpus(PROOFS) if not isinstance(one, Mutant))


def chosen() -> list[Build | Wrap]:
    """What proves the core, and of the rest the first for each family of ids; `./lab mutants` tries them all."""
    first: dict[str, Build | Wrap] = {}
    for one in CORPUS:
        first.setdefault(one.caught_by[0].partition("-")[0], one)
    return [one for one in CORPUS if _proves_core(one) or one in first.values()]


def _proves_core(one: Build | Wrap) -> bool:
    return any(PROOFS[id].requirement.level == "core" for id in one.caught_by)


BUILDS = chosen()


@pytest.mark.parametrize("build", BUILDS, ids=[build.name for build in BUILDS])
def test_every_wrong_build_turns_what_it_names_red(build: Build | Wrap, tmp_path: Path) -> None:
    outcome = try_build(build, PROOFS, Options(out=tmp_path))
    for id, reason in (*outcome.red.items(), *outcome.broken.items()):
        print(f"{build.name}: {id}: {reason.splitlines()[:1]}")
    assert (outcome.complaints, outcome.fate) == ((), "killed")
