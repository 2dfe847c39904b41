"""Whatever a task does, ./lab ends with one of the codes that are promised, and says why in one message."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command.typed import ROOT

# A process of its own that is `./lab NAME` but for the menu, whose one task has the body under test.
PROGRAM = """
import os, sys
from pathlib import Path
from tunlab.command import __main__ as door
from tunlab.command.menu import Entry
from tunlab.errors import LabError, WorldError
def body(context):
{body}
door.entries = lambda: {{sys.argv[1]: Entry(sys.argv[1], "", "", (), body)}}
door.ROOT = Path(os.environ.get("ROOT", "/proc/nowhere"))
sys.exit(door.main(sys.argv[1:]))
"""


def program(body: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM.format(body="\n".join(f"    {line}" for line in body.splitlines()))]


def run(body: str, name: str = "task", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*program(body), name],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("task", "pass", 0),
        ("task", "return 0", 0),
        ("task", "return 1", 2),
        ("task", "return 7", 2),
        ("task", "return -9", 2),
        ("conform", "return 0", 0),
        ("conform", "return 1", 1),
        ("conform", "return 2", 2),
        ("conform", "return 3", 2),
        ("conform", "raise SystemExit(1)", 2),
        ("conform", "raise KeyError('x')", 2),
        ("task", "raise SystemExit", 0),
        ("task", "raise KeyboardInterrupt", 130),
    ],
    ids=str,
)
def test_a_task_ends_with_a_promised_code(name: str, body: str, code: int) -> None:
    assert run(body, name).returncode == code


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise LabError('labs: x: no such lab', hint='y?')", "labs: x: no such lab\n  hint: y?\n"),
        ("raise WorldError('node1: kernel refused')", "node1: kernel refused\n"),
        ("raise LabError('a', mistakes=('one', 'two'))", "one\ntwo\n"),
        ("raise SystemExit('enough')", "task: ended with enough\n"),
        (
            "raise LabError('node1: ' + 'word ' * 20)",
            "node1: word word word word word word word word word word word word word word\n"
            "  word word word word word word\n",
        ),
    ],
    ids=["hint", "world", "mistakes", "exit", "long"],
)
def test_an_error_is_one_message_and_exit_code_2(body: str, said: str) -> None:
    ended = run(body)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", said)


def test_our_own_fault_names_a_file_with_the_traceback(tmp_path: Path) -> None:
    ended = run("raise KeyError('x')", ROOT=str(tmp_path))
    first, hint = ended.stderr.splitlines()
    (kept,) = (tmp_path / "captures" / "faults").iterdir()
    assert first == "task: KeyError: 'x'"
    assert hint == f"  hint: this is tunlab's own fault; the traceback is in {kept}"
    assert kept.read_text().startswith("./lab task\nTraceback (most recent call last)")
    assert kept.read_text().splitlines()[-1] == "KeyError: 'x'"


def test_old_tracebacks_are_pruned(tmp_path: Path) -> None:
    folder = tmp_path / "captures" / "faults"
    folder.mkdir(parents=True)
    for number in range(15):
        (folder / f"20000101T0000{number:02}-1.txt").touch()
    run("raise KeyError('x')", ROOT=str(tmp_path))
    kept = sorted(path.name for path in folder.iterdir())
    assert len(kept) == 10
    assert kept[0] == "20000101T000006-1.txt"


def test_a_traceback_that_can_be_kept_nowhere_is_still_reported() -> None:
    ended = run("raise KeyError('x')")
    assert ended.returncode == 2
    assert ended.stderr.endswith("TUNLAB_DEBUG=1 prints it\n")


def test_the_traceback_is_printed_where_it_is_asked_for() -> None:
    assert "Traceback (most recent call last)" in run("raise KeyError('x')", TUNLAB_DEBUG="1").stderr


CHILD = """
from tunlab.command.children import run_to_end
run_to_end(["sh", "-c", "trap 'echo cleaned; exit 3' INT; echo $$; while :; do sleep 0.1; done"], cwd='/')
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_it_after_its_child_has_cleaned_up(number: signal.Signals) -> None:
    with subprocess.Popen(
        [*program(CHILD), "task"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.send_signal(number)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert rest == "cleaned\n"
    assert errors.splitlines()[-1] == f"lab: ended by {number.name}"
    assert not Path(f"/proc/{child}").exists()


def test_a_reader_who_goes_away_is_no_fault() -> None:
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*program("print('x' * 100000)"), "task"],
        stdout=write,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")
