"""`./lab requirements`: the catalogue on a terminal, from the same source as docs/requirements.md."""

from __future__ import annotations

import json
import sys
from typing import TextIO

from _pytest.mark.expression import Expression  # the same that `conform -k` reads

from tunlab.check.requirement import Requirement
from tunlab.errors import LabError
from tunlab.report.catalogue import Proofs, labs_of, modes_of, read_proofs, read_suites
from tunlab.report.table import console_for


def listing(
    level: str = "extended", expression: str = "", *, as_json: bool = False, stream: TextIO | None = None
) -> None:
    """Print the requirements of a level (extended: all) that an expression matches. Raises LabError for a wrong one."""
    proofs = read_proofs()
    chosen = select(read_suites(), level, expression)
    if as_json:
        told = [_as_json(one, proofs) for one in chosen]
        print(json.dumps({"schema": "tunlab/requirements/v1", "requirements": told}, indent=1), file=stream)
        return
    console = console_for(stream or sys.stdout)
    for one in chosen:
        console.print(f"{one.id}  {one.title}", soft_wrap=True, style="bold")
        facts = [one.level, f"modes {modes_of(one)}", f"labs {labs_of(one)}"]
        facts += [f"needs {', '.join(one.needs)}"] if one.needs else []
        console.print(f"  {'; '.join(facts)}; {one.source}", soft_wrap=True)
        console.print(f"  mutants: {proofs.words(one.id)}", soft_wrap=True)
    unproven = [one.id for one in chosen if one.id not in proofs.mutants and one.id not in proofs.reasons]
    console.print(f"{len(chosen)} requirements, {len(unproven)} of them unproven", soft_wrap=True)


def select(requirements: tuple[Requirement, ...], level: str, expression: str) -> list[Requirement]:
    """Those of a level that the expression matches by id or title, whatever the case. Raises LabError."""
    try:
        compiled = Expression.compile(expression) if expression else None
    except SyntaxError as error:
        raise LabError(f"-k {expression}: {error.msg}", hint="such as -k 'VXLAN and not 14'") from error
    wanted = [one for one in requirements if level == "extended" or one.level == level]
    if compiled is None:
        return wanted

    def matches(one: Requirement) -> bool:
        text = f"{one.id} {one.title} {one.declared_at.rpartition('::')[2]} {one.scene}".lower()
        return compiled.evaluate(lambda word, /, **_: word.lower() in text)

    return [one for one in wanted if matches(one)]


def _as_json(one: Requirement, proofs: Proofs) -> dict[str, object]:
    return {
        "id": one.id,
        "title": one.title,
        "level": one.level,
        "modes": list(one.modes),
        "labs": labs_of(one),
        "needs": list(one.needs),
        "scene": one.scene,
        "source": one.source,
        "mutants": list(proofs.mutants.get(one.id, ())),
        "why_none": proofs.reasons.get(one.id, ""),
    }
