"""Calculation and rendering do no I/O: their modules import nothing with which one could."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REFNET = Path(__file__).parents[3] / "refnet"
# What a pure module may need: values, types, iteration. Everything else wants a reason.
INNOCENT = {
    "__future__",
    "collections",
    "dataclasses",
    "ipaddress",
    "typing",
    "re",
    "shlex",
    "json",
    "functools",
    "itertools",
}
INNOCENT |= {"hashlib", "base64"}  # names of sets and chains are digests
ROOMS = {
    "calc": ("refnet.calc", "refnet.model", "refnet.errors"),
    "render": ("refnet.calc", "refnet.render", "refnet.model"),
}


def imported(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def offences(text: str, rooms: tuple[str, ...]) -> list[str]:
    calls = [n.func.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    strangers = [n for n in imported(text) if n.split(".")[0] not in INNOCENT and not n.startswith(rooms)]
    return strangers + [name for name in calls if name in ("open", "print", "input", "exec", "__import__")]


@pytest.mark.parametrize("room", ROOMS)
def test_a_pure_room_imports_nothing_that_acts(room: str) -> None:
    files = sorted((REFNET / room).rglob("*.py"))
    assert len(files) > 2
    assert {str(file): found for file in files if (found := offences(file.read_text(), ROOMS[room]))} == {}


@pytest.mark.parametrize("line", ["import os", "from subprocess import run", "import refnet.apply.read", "open('x')"])
def test_an_offender_would_be_found(line: str) -> None:
    assert offences(line, ROOMS["calc"])
