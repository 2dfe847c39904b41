"""A suite in a temporary folder, judged by the real plugin and the real command over cells that are not real."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

from tunlab.command.conform import Places, run

LABS: Mapping[str, Any] = {
    "alpha": SimpleNamespace(name="alpha", modes=("ipip", "none"), pods=("pod1", "pod2")),
    "beta": SimpleNamespace(name="beta", modes=("ipip", "vxlan"), pods=("pod1",)),
}

CONFTEST = """
from types import SimpleNamespace
from pathlib import Path
from tunlab.check.requirement import Pending
from tunlab.check.verdict import NotOffered
from tunlab.errors import SystemFault, WorldError

LABS = {
    "alpha": SimpleNamespace(name="alpha", modes=("ipip", "none"), pods=("pod1", "pod2")),
    "beta": SimpleNamespace(name="beta", modes=("ipip", "vxlan"), pods=("pod1",)),
}
OPENING = {}


class FakeCell:
    def __init__(self, lab, mode, options):
        self.name, self.out, self.expectations = f"{lab.name}-{mode}", options.out, Pending()
        self.parts = options.with_
        self.is_spent = False
        self.diary("open")

    def diary(self, word):
        with Path(self.out, "diary").open("a") as file:
            file.write(f"{word} {self.name}\\n")

    def about(self):
        return {"system_version": "1.2", "box": "fake", "kernel": "6.1", "pyshark": "0.6"}

    def begin(self, requirement):
        pass

    def end(self, requirement, verdict):
        if requirement.id == "EVID-01":
            raise WorldError("capture: 3 packets were dropped")
        self.is_spent = requirement.id == "SPENT-01"
        return [f"{requirement.id}-{self.name}.pcapng"]

    def close(self):
        self.diary("close")


def pytest_tunlab_labs():
    return LABS


def pytest_tunlab_lacks(ability, options):
    return "the fake has no wings" if ability == "wings" else ""


def pytest_tunlab_open_cell(lab, mode, scene, options):
    error = OPENING.get(f"{lab.name}-{mode}")
    if error is not None:
        raise error
    return FakeCell(lab, mode + (f"-{scene}" if scene else ""), options)
"""

CANARIES = """
import json, sys
told = {"canaries": [{"name": "yellow", "caught_by": ["GOOD-01"], "seconds": 0.1}], "error": ""}
TOLD
with open(sys.argv[1] + "/canaries.json", "w") as file:
    json.dump(told, file)
"""

HEAD = """
import os, pytest, signal, time
from tunlab.check.requirement import requirement
from tunlab.errors import SystemFault, WorldError

"""


@dataclass(frozen=True)
class Ran:
    """What a run left behind."""

    code: int
    said: str
    out: Path

    @property
    def results(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.out / "results.json").read_text())
        return data

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        return {f"{row['id']} {row['lab']}-{row['mode']}": row for row in self.results["requirements"]}

    @property
    def verdicts(self) -> dict[str, str]:
        return {key: row["verdict"] for key, row in self.rows.items()}

    @property
    def junit(self) -> ElementTree.Element:
        return ElementTree.parse(self.out / "junit.xml").getroot()


def write_suite(folder: Path, *, opening: str = "", canaries: str = "", **files: str) -> Places:
    """`test_NAME.py` of each text; `opening` are lines that fill OPENING with what a cell raises, `canaries` such that
    change what is told of them."""
    suites = folder / "suites"
    suites.mkdir()
    (suites / "conftest.py").write_text(f"{CONFTEST}\n{opening}\n")
    for name, text in files.items():
        (suites / f"test_{name}.py").write_text(HEAD + text)
    singing = (sys.executable, "-ISc", CANARIES.replace("TOLD", canaries))
    return Places(suites, folder / "captures", LABS, singing)


def conform(places: Places, **options: Any) -> Ran:
    """One run of the command."""
    said = io.StringIO()
    code, folder = run(places=places, stream=said, **options)
    return Ran(code, said.getvalue(), folder)
