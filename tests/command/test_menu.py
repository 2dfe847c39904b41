"""The menu and the help: what a user sees before anything runs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

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
    assert [each.placeholder for each in entry.parameters if " " in each.placeholder] == []
    (example,) = re.findall(r"\./lab ([^>)]+)", entry.example)
    assert read_line(example.split(), entries()).entry is entry


@pytest.mark.parametrize("words", [("help", "up"), ("up", "--help"), ("up", "x", "-h")], ids=" ".join)
def test_help_for_one_task_can_be_asked_in_three_ways(words: tuple[str, ...]) -> None:
    said = type_line(*words)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout == show_help(entries()["up"]) + "\n"


def test_the_help_of_a_word_says_what_it_means_in_that_task() -> None:
    told = {(name, each.name): each.help for name, entry in entries().items() for each in entry.parameters}
    assert told["up", "lab"].startswith("a lab of labs/") and told["ping", "lab"].startswith("a lab that stands")
    assert "TO answers" in told["trace", "port"] and "page" in told["watch", "port"]


def test_the_command_line_knows_the_same_modes_as_the_labs() -> None:
    assert MODES == LAB_MODES


def test_bash_completes_what_stands_and_what_runs_have_left(tmp_path: Path) -> None:
    for name in ("tunlab/student1", "tunlab/mixed-again"):
        (tmp_path / name).mkdir(parents=True)
    checkout = tmp_path / "checkout"
    for name, document in (("20261121T000000Z-1", "results.json"), ("20261121T000001Z-2", "kill.json")):
        (checkout / "captures" / name).mkdir(parents=True)
        (checkout / "captures" / name / document).touch()
    (checkout / "labs").symlink_to(ROOT / "labs")
    lines = ("ping a b --lab s", "watch m", "down s", "up s", "compare --lab s", "open 2", "report 2")
    said = complete(*lines, lab=str(checkout / "lab"), XDG_RUNTIME_DIR=str(tmp_path))
    run = "20261121T000000Z-1"
    assert said == ["student1", "mixed-again", "student1", "same-subnet", "same-subnet", run, run]


def test_bash_accepts_the_completion_and_completes_with_it() -> None:
    typed = ("do", "up same", "conform --mode ipip,vx", "up x --b", "trace a b --up mix", "compare --modes none,ipip-")
    assert complete(*typed, "lesson veth") == [
        "doctor down",
        "same-subnet",
        "ipip,vxlan ipip,vxlan-crosssubnet",
        "--box",
        "mixed",
        "none,ipip-crosssubnet",
        "veth-and-169.254.1.1",
    ]


def complete(*lines: str, lab: str = "./lab", **env: str) -> list[str]:
    """What bash offers for the last word of each line."""
    at = 'at() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _tunlab; echo "${COMPREPLY[@]}"; }'
    script = "; ".join(('source <("$0" completion bash)', at, *(f"at {lab} {line}" for line in lines)))
    said = subprocess.run(
        ["bash", "-c", script, "./lab"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60, env={**os.environ, **env},
    )  # fmt: skip
    assert said.stderr == ""
    return said.stdout.splitlines()
