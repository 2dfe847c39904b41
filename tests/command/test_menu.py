"""The menu and the help: what a user sees before anything runs."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.command.typed import ROOT, type_line
from tunlab.box.machine import MODES
from tunlab.command.line import read_line
from tunlab.command.menu import entries, show_help
from tunlab.lab.topology import MODES as LAB_MODES

ORDER = [
    "doctor",
    "labs",
    "plan",
    "build",
    "install",
    "launch",
    "up",
    "status",
    "exec",
    "shell",
    "ping",
    "watch",
    "trace",
    "compare",
    "lesson",
    "capture",
    "conform",
    "replay",
    "report",
    "open",
    "requirements",
    "mutants",
    "flake",
    "exercise",
    "check",
    "hint",
    "class",
    "down",
    "test",
    "lint",
]


@pytest.mark.parametrize(
    "words", [(), ("--help",), ("-h",), ("help",)], ids=["alone", "long option", "short option", "word"]
)
def test_the_menu_lists_the_tasks_in_the_order_of_a_labs_life(words: tuple[str, ...]) -> None:
    said = type_line(*words)
    assert (said.returncode, said.stderr) == (0, "")
    listed = re.findall(r"^  (\w+)  ", said.stdout, flags=re.MULTILINE)
    assert listed[: len(ORDER)] == ORDER


def test_the_menu_fits_a_terminal() -> None:
    assert [line for line in type_line().stdout.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("name", entries())
def test_every_task_has_help_with_an_example_that_can_be_typed(name: str) -> None:
    entry = entries()[name]
    text = show_help(entry)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert all(each.help for each in entry.parameters)
    (example,) = re.findall(r"\./lab ([^>)]+)", entry.example)
    assert read_line(example.split(), entries()).entry is entry


@pytest.mark.parametrize("words", [("help", "up"), ("up", "--help"), ("up", "x", "-h")], ids=" ".join)
def test_help_for_one_task_can_be_asked_in_three_ways(words: tuple[str, ...]) -> None:
    said = type_line(*words)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout == show_help(entries()["up"]) + "\n"


def test_the_command_line_knows_the_same_modes_as_the_labs() -> None:
    assert MODES == LAB_MODES


def test_bash_accepts_the_completion_and_completes_with_it() -> None:
    script = (
        'source <("$0" completion bash); at() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _tunlab; '
        'echo "${COMPREPLY[@]}"; }; at ./lab do; at ./lab up same; at ./lab conform --mode ipip,vx; at ./lab up x --b; '
        "at ./lab trace a b --up mix; at ./lab compare --modes none,ipip-; at ./lab lesson veth"
    )
    said = subprocess.run(
        ["bash", "-c", script, "./lab"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stderr == ""
    assert said.stdout.splitlines() == [
        "doctor down",
        "same-subnet",
        "ipip,vxlan ipip,vxlan-crosssubnet",
        "--box",
        "mixed",
        "none,ipip-crosssubnet",
        "veth-and-169.254.1.1",
    ]
