"""However a box ends, nothing of it is left: no process, no folder, no file; and who is killed is swept up after."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunlab.box.box import OwnBox
from tunlab.box.link import LineEnded
from tunlab.box.start import KINDS, fresh_run_dir, start_box
from tunlab.errors import LabError, WorldError
from tunlab.wait import eventually

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 2.0
HARNESS = """
import os, sys, threading
sys.path.insert(0, sys.argv[1])
from tunlab.box.start import fresh_run_dir, start_box
box = start_box(sys.argv[2], fresh_run_dir("life"))
box.add_network("node1", {})
box.add_host("node1")
box.spawn("node1", ["sleep", "391"], log="logs/a.log")
box.spawn("box", ["sh", "-c", "trap '' TERM HUP INT; setsid sleep 392"], log="logs/b.log")
if sys.argv[3] == "running":
    threading.Thread(target=lambda: box.run("node1", ["sleep", "393"], timeout_s=100), daemon=True).start()
if sys.argv[3] == "flooded":
    box.stream("node1", ["yes"], tty=False)  # which waits for its reader, and one that does not:
    box.line.begin("node1", "stream", argv=["yes"], env={}, tty=False)
print(box.run_dir, flush=True)
sys.stdin.read()
"""


def owned_by(run_dir: Path) -> list[str]:
    """The processes of the machine that have anything to do with a box: in their words, or by its mounts."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            mounts = (process / "mountinfo").read_text()
        except OSError:
            continue
        if str(run_dir) in words or f"{run_dir.name} /run/tunlab" in mounts:
            found.append(f"{process.name} {words}")
    return found


def head(run_dir: Path, program: str) -> int:
    """The part of a box that runs `program` and was started by another part; the lowest id says nothing, ids wrap."""
    named = [line for line in owned_by(run_dir) if program in line]
    parts = {int(line.split()[0]) for line in named if program == "enter.py" or "enter.py" not in line}
    parents = {pid: parent(pid) for pid in parts}  # of one that has ended since they were listed: None
    (first,) = (pid for pid, above in parents.items() if above is not None and above not in parts)
    return first


def parent(pid: int) -> int | None:
    """A process's parent; None once it has ended, as a guest's own processes do all the time."""
    try:
        return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def named_namespaces() -> list[str]:
    folder = Path("/run/netns")
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def ends(run_dir: Path) -> None:
    eventually(
        lambda: owned_by(run_dir), lambda left: not left, within_s=WITHIN_S, what="all of the box ends", blame="lab"
    )


class Harness:
    """A process of its own that holds a box, as `./lab conform` does."""

    def __init__(self, kind: str, doing: str = "idle") -> None:
        python = [sys.executable, "-c", HARNESS, str(ROOT), kind, doing]
        self.process = subprocess.Popen(python, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.run_dir = Path(self.process.stdout.readline().strip())

    def pids(self, word: str) -> list[int]:
        return [int(line.split()[0]) for line in owned_by(self.run_dir) if word in line]

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """When the test has ended, nothing is where boxes and guests keep things, nor in the home (where `.uml` would be).

    All of these are the test's own: others that run at the same time leave nothing there and sweep nothing away.
    """
    temporary = tempfile.TemporaryDirectory
    with temporary(prefix="life.") as runtime, temporary(prefix="life.", dir="/dev/shm") as memory:
        own = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": runtime, "TMPDIR": memory}
        for name, folder in own.items():
            monkeypatch.setenv(name, folder)
        namespaces = named_namespaces()
        yield
        assert named_namespaces() == namespaces
        left = {name: [path.name for path in Path(folder).iterdir()] for name, folder in own.items()}
        assert not any(left.values()), left


@pytest.mark.usefixtures("before")
def test_a_closed_box_is_gone_when_close_returns() -> None:
    box = start_box("namespaces", fresh_run_dir("life"))
    box.spawn("box", ["sh", "-c", "trap '' TERM HUP INT; sleep 391"], log="logs/a.log")
    assert owned_by(box.run_dir) != []
    box.close()
    assert owned_by(box.run_dir) == []
    assert not box.run_dir.exists()
    box.close()  # and closing it again is fine
    with pytest.raises(LineEnded):
        box.run("box", ["true"])


@pytest.mark.parametrize(
    ("kind", "doing"),
    [("namespaces", "idle"), ("namespaces", "running"), ("namespaces", "flooded"), ("uml", "flooded")],
)
@pytest.mark.usefixtures("before")
def test_a_killed_harness_takes_its_box_with_it_and_the_next_start_sweeps_its_folder(kind: str, doing: str) -> None:
    harness = Harness(kind, doing)
    try:
        assert len(owned_by(harness.run_dir)) > 2
        harness.process.kill()
        ends(harness.run_dir)
    finally:
        harness.close()
    assert harness.run_dir.is_dir()
    box = start_box("namespaces", fresh_run_dir("life"))
    assert not harness.run_dir.exists()
    assert box.run("box", ["true"]).rc == 0
    box.close()


def test_a_harness_that_does_not_read_does_not_fill_the_box(tmp_path: Path) -> None:
    """It is stopped (not dead) while a program in its box writes without end: what waits inside is bounded."""
    harness = Harness("namespaces", "flooded")
    try:
        harness.process.send_signal(signal.SIGSTOP)
        roles = harness.pids("first.py")
        sizes = []

        def kilobytes() -> int:
            sizes.append(max(int((Path("/proc", str(pid), "statm")).read_text().split()[1]) * 4 for pid in roles))
            return sizes[-1]

        eventually(kilobytes, lambda _: len(sizes) > 15, within_s=10, what="looked a while", blame="lab")
        spilled = sum(path.stat().st_size for path in (harness.run_dir / "line").iterdir())
        assert spilled < 2_000_000
        assert max(sizes) < 60_000, sizes
        assert max(sizes[8:]) - sizes[8] < 8_000, sizes
        harness.process.kill()
        ends(harness.run_dir)
    finally:
        harness.close()


@pytest.mark.parametrize(
    ("kind", "word"),
    [("namespaces", "enter.py"), ("namespaces", "first.py"), ("uml", "enter.py"), ("uml", "linux.uml")],
)
@pytest.mark.usefixtures("before")
def test_a_killed_part_takes_all_the_others_with_it_and_the_harness_is_told(kind: str, word: str) -> None:
    box = start_box(kind, fresh_run_dir("life"))
    try:
        box.spawn("box", ["setsid", "sleep", "392"], log="logs/b.log")
        os.kill(head(box.run_dir, word), signal.SIGKILL)
        ends(box.run_dir)
        with pytest.raises(LineEnded):
            box.run("box", ["true"])
    finally:
        box.close()
    assert not box.run_dir.exists()


def test_two_boxes_stand_side_by_side_and_the_end_of_one_is_not_the_others() -> None:
    one, other = start_box("uml", fresh_run_dir("life")), start_box("namespaces", fresh_run_dir("life"))
    try:
        for box in (one, other):
            box.add_network("node1", {})
            box.add_host("node1")
        one.put("node1", "/etc/whose", "one")
        assert other.run("node1", ["ls", "/etc/whose"], check=False).rc != 0
        one.close()
        assert other.run("node1", ["hostname"]).out == "node1\n"
    finally:
        one.close()
        other.close()


def test_twenty_boxes_in_a_row_leak_no_descriptor_and_no_child() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def boxes() -> set[str]:
        """Children that hold a box; a fixture's own may be among them."""
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return {pid for pid in children if "enter.py" in Path("/proc", pid, "cmdline").read_text()}

    start_box("namespaces", fresh_run_dir("life")).close()
    seen, before = descriptors(), boxes()
    for _ in range(20):
        start_box("namespaces", fresh_run_dir("life")).close()
    assert descriptors() == seen
    assert boxes() == before


def test_a_box_of_no_kind_is_the_callers_mistake() -> None:
    with pytest.raises(LabError, match=r"^--box: vm: no such box\n  hint: one of: auto, namespaces, uml$"):
        start_box("vm", Path("/nowhere"))


def test_a_box_that_cannot_make_its_world_says_what_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from tunlab.box import start

    run_dir = fresh_run_dir("life")
    monkeypatch.setattr(start, "interpreter", lambda: "/nonexistent/python")
    with pytest.raises(FileNotFoundError):
        start_box("namespaces", run_dir)
    assert not run_dir.exists()
    run_dir = fresh_run_dir("life")
    monkeypatch.undo()
    monkeypatch.setattr(start, "_first", lambda *_: ["/nonexistent/first"])
    with pytest.raises(WorldError) as raised:
        start_box("namespaces", run_dir)
    assert raised.value.message == (
        f"namespaces box {run_dir.name}: the box's program says hello: the box has ended: its last words: "
        "enter: /nonexistent/first: No such file or directory"
    )
    assert not run_dir.exists()


def test_a_guest_is_not_kept_where_it_sees_a_folder_of_its_own() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="life.", dir="/dev/shm") as folder,
        pytest.raises(WorldError, match=r"^uml box: keep its files in .*: a guest has a /dev of its own\n"),
    ):
        start_box("uml", Path(folder))


def test_a_leash_that_ends_ends_the_box_even_while_process_1_is_stopped(kind: str) -> None:
    box: OwnBox = start_box(kind, fresh_run_dir("life"))
    word = "linux.uml" if kind == "uml" else "first.py"
    lines = [line for line in owned_by(box.run_dir) if word in line and "enter.py" not in line]
    for line in lines:
        os.kill(int(line.split()[0]), signal.SIGSTOP)
    began = time.monotonic()
    box.close()
    assert time.monotonic() - began < 4  # by the leash, and not because somebody lost patience
    assert owned_by(box.run_dir) == []


def test_entering_waits_for_the_last_process_of_all() -> None:
    """`enter.py` itself: when it has ended, all in its pid namespace has, also what holds memory and dies slowly."""
    enter = ROOT / "tunlab/box/enter.py"
    held, holds = os.pipe()
    heavy = f"import os, time; heap = b'x' * (300 << 20); os.write({holds}, b'up\\n'); time.sleep(100)"
    process = subprocess.Popen(
        [sys.executable, "-ISE", str(enter), "root" if os.getuid() else "range", "pid,mount", "--", "sh", "-c",
         '(trap "" TERM HUP; exec "$@") & wait', "sh", sys.executable, "-ISc", heavy],
        stdin=subprocess.PIPE, pass_fds=[holds],
    )  # fmt: skip
    os.close(holds)
    assert os.read(held, 3) == b"up\n"
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(5) == 0
    assert select.select([held], [], [], 0)[0] and os.read(held, 1) == b""  # nobody has the other end any more
    os.close(held)
