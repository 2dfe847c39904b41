"""What a box promises to everybody above it, the same for each kind: running, spawning, streaming, files, errors."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunlab.box.box import CommandFailed, OwnBox
from tunlab.box.line import SPILL_BYTES
from tunlab.box.link import LineEnded, MissingProgram
from tunlab.errors import Bug, WorldError
from tunlab.wait import eventually


def says(box: OwnBox, place: str, script: str, **options: str) -> str:
    return box.run(place, ["sh", "-c", script], **options).out.strip()  # type: ignore[arg-type]


def processes_of(box: OwnBox, place: str, word: str) -> str:
    """The pids of the processes whose command line holds `word`, which must not name itself in the asking."""
    return box.run(place, ["pgrep", "-f", f"[{word[0]}]{word[1:]}"], check=False).out.strip()


# ---------------------------------------------------------------------- run
def test_a_command_says_what_it_said_where_it_ran_and_how_it_ended(box: OwnBox) -> None:
    done = box.run("node1", ["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.place, done.argv, done.rc) == ("node1", ("sh", "-c", "echo out; echo err >&2; exit 3"), 3)
    assert (done.out, done.err) == ("out\n", "err\n")
    assert 0 < done.seconds < 10
    assert str(done) == "node1$ sh -c 'echo out; echo err >&2; exit 3'"


def test_a_code_other_than_0_is_an_error_that_ends_with_the_last_words(box: OwnBox) -> None:
    with pytest.raises(CommandFailed, match=r"^pod1: sh -c .*: exit code 3: the last word$") as raised:
        box.run("pod1", ["sh", "-c", "echo one; echo two >&2; echo the last word >&2; exit 3"])
    assert raised.value.done.rc == 3


def test_it_follows_more_connections_than_the_questions_of_many_minutes_make(box: OwnBox) -> None:
    """Beyond its limit a kernel drops new packets at random, and a guest's own limit is small."""
    limit = Path("/proc/sys/net/netfilter/nf_conntrack_max")  # on a machine whose module is not loaded yet: none
    if box.kind == "uml" or limit.exists():
        assert int(box.run("box", ["cat", str(limit)]).out) >= 65536


def test_a_command_killed_by_a_signal_has_its_number_below_zero(box: OwnBox) -> None:
    assert box.run("box", ["sh", "-c", "kill -SEGV $$"], check=False).rc == -signal.SIGSEGV


def test_slowness_is_what_a_process_takes_now_over_what_it_takes_in_quiet(
    box: OwnBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 1.0 <= box.slowness() <= 10.0
    monkeypatch.setattr("tunlab.box.box._PROCESS_S", {box.kind: 1e-6})
    assert box.slowness() == 10.0
    monkeypatch.setattr("tunlab.box.box._PROCESS_S", {box.kind: 1e3})
    assert box.slowness() == 1.0


@pytest.mark.parametrize("size", [0, 1, 5000, SPILL_BYTES + 1, 1_000_000], ids="{}-bytes".format)
def test_input_comes_back_whole(box: OwnBox, size: int) -> None:
    text = ("ü0123456789abcdef\n" * (size // 18 + 1))[:size]
    assert box.run("node1", ["cat"], stdin=text).out == text


def test_input_that_nobody_reads_hurts_nobody(box: OwnBox) -> None:
    assert says(box, "node1", "exec 0<&-; echo fine", stdin="x" * 1_000_000) == "fine"


def test_large_answers_of_several_hosts_at_once_are_not_confused(box: OwnBox) -> None:
    """Each host's keeper is process 1 of its own pid namespace, so that pids do not tell them apart."""
    twins = ("twin1", "twin2")
    for place in twins:
        box.add_network(place, {})
        box.add_host(place)
        box.put(place, "/run/big", place[-1] * 60_000)
    folder = box.run_dir / "line"
    for _ in range(2):
        # The reading thread is held up until both answers lie there.
        is_held, gate = threading.Event(), threading.Event()

        def hold(_: object, is_held: threading.Event = is_held, gate: threading.Event = gate) -> None:
            is_held.set()
            gate.wait(10)

        box.line.begin("box", "stream", argv=["true"], env={}, tty=False, on_event=hold)
        assert is_held.wait(10)
        begun = [box.line.begin(place, "run", argv=["cat", "/run/big"]) for place in twins]
        eventually(lambda: list(folder.iterdir()), lambda seen: len(seen) == 2, within_s=5, what="two", blame="lab")
        gate.set()
        assert [set(box.line.answer_of(one, 10, "run")["out"]) for one in begun] == [{"1"}, {"2"}]
        done = box.gather([(place, ("cat", "/run/big")) for place in (*twins, *twins)])
        assert [set(one.out.strip()) for one in done] == [{"1"}, {"2"}, {"1"}, {"2"}]
        assert [len(one.out) for one in done] == [60000] * 4
    assert [path.name for path in (box.run_dir / "line").iterdir()] == []


def test_bytes_that_are_no_text_arrive_as_replacement_characters(box: OwnBox) -> None:
    done = box.run("box", ["printf", r"a\377\000b"])
    assert done.out == "a\ufffd\x00b"


def test_output_without_end_is_refused_before_it_fills_the_box(box: OwnBox) -> None:
    with pytest.raises(WorldError, match=r"box\$ yes: printed more than 8388608 bytes, killed$"):
        box.run("box", ["yes"])
    assert processes_of(box, "box", "yes") == ""


def test_too_late_kills_a_command_and_all_that_it_started(box: OwnBox) -> None:
    script = "sleep 331 & sh -c 'sleep 332; true' & echo begun; wait"
    with pytest.raises(CommandFailed, match=r"^node1: sh -c .*: still running after 0\.5 s, killed: begun$"):
        box.run("node1", ["sh", "-c", script], timeout_s=0.5)
    eventually(lambda: processes_of(box, "node1", "sleep 33"), lambda left: left == "", within_s=2, what="all die")


def test_the_time_factor_stretches_what_a_command_may_take(box: OwnBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNLAB_TIME_FACTOR", "3")
    with pytest.raises(CommandFailed, match=r": still running after 0\.3 s, killed$"):
        box.run("node1", ["sleep", "333"], timeout_s=0.1)


def test_a_daemon_that_keeps_the_pipes_open_keeps_nobody_waiting(box: OwnBox) -> None:
    done = box.run("node2", ["sh", "-c", "(trap '' TERM; sleep 341) & echo started"])
    assert (done.rc, done.out) == (0, "started\n")
    assert done.seconds < 5
    box.run("node2", ["pkill", "-f", "[s]leep 341"], check=False)


def test_a_daemon_that_writes_for_ever_keeps_nobody_waiting_either(box: OwnBox) -> None:
    done = box.run("node2", ["sh", "-c", "while :; do echo daemon; done & echo $!; exit 0"])
    assert done.rc == 0
    box.signal("node2", int(next(line for line in done.out.splitlines() if line.isdecimal())), "KILL")


@pytest.mark.parametrize("argv", [["nosuchprogram", "x"], ["/etc/hostname"], ["/nowhere/at/all"]], ids=lambda a: a[0])
def test_a_program_that_is_not_there_is_told_apart_from_one_that_fails(box: OwnBox, argv: list[str]) -> None:
    with pytest.raises(MissingProgram, match=rf"node1\$ .*: {argv[0]}: no such program in "):
        box.run("node1", argv)


def test_a_place_that_is_not_there_is_told_by_name(box: OwnBox) -> None:
    with pytest.raises(MissingProgram, match=r"pod9\$ true: pod9: there is no such place in this box$"):
        box.run("pod9", ["true"])


def test_environment_and_folder_are_the_boxs_own_and_what_is_given(box: OwnBox) -> None:
    os.environ["TUNLAB_TEST_LEAK"] = "1"
    try:
        seen = box.run("node1", ["env"], env={"GIVEN": "a b", "LANG": "de"}).out.splitlines()
    finally:
        del os.environ["TUNLAB_TEST_LEAK"]
    assert {"GIVEN=a b", "LANG=de", "HOME=/run/tunlab/home", "XDG_CACHE_HOME=/run/tunlab/home/.cache"} <= set(seen)
    assert {line.partition("=")[0] for line in seen} == {
        "GIVEN", "LANG", "HOME", "PATH", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR",
    }  # fmt: skip
    assert says(box, "node1", "pwd; cd && pwd") == "/\n/run/tunlab/home"


@pytest.mark.parametrize("place", ["box", "node1", "pod1"])
def test_a_program_inherits_nothing_but_its_three_descriptors_and_no_ignored_signal(box: OwnBox, place: str) -> None:
    assert says(box, place, "ls /proc/$$/fd").split() == ["0", "1", "2"]
    # `exec`: a shell that forks blocks all signals until its child has begun, and the child may look before it ends.
    ignored, blocked = (
        int(says(box, place, f"exec grep {word} /proc/self/status").split()[1], 16) for word in ("SigIgn", "SigBlk")
    )
    ours_of_libc = 1 << 31 | 1 << 32  # signals 32 and 33: posix_spawn leaves them to libc
    assert (ignored & ~ours_of_libc, blocked) == (0, 0)


def test_many_commands_at_once_come_back_in_the_order_they_were_given(box: OwnBox) -> None:
    places = ["node1", "node2", "pod1", "box"] * 5
    done = box.gather([(place, ("sh", "-c", f"echo {n}")) for n, place in enumerate(places)])
    assert [(one.place, one.out) for one in done] == [(place, f"{n}\n") for n, place in enumerate(places)]


def test_threads_may_run_commands_side_by_side(box: OwnBox) -> None:
    seen: dict[int, str] = {}

    def work(n: int) -> None:
        seen[n] = says(box, "node1", f"echo {n}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == {n: str(n) for n in range(10)}


def test_a_request_that_makes_no_sense_is_our_bug_and_ends_nothing(box: OwnBox) -> None:
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("box", "dance", {}),
        ("first", "dance", {}),
        ("box", "run", {"argv": []}),
    ]
    for role, op, arguments in requests:
        with pytest.raises(Bug):
            box.line.ask(role, op, **arguments)
    with pytest.raises(LineEnded, match=r"no role 'ghost' in this box"):
        box.ask("ghost", "hello")
    assert box.run("box", ["true"]).rc == 0


# ---------------------------------------------------------------------- spawn and signal
def test_a_spawned_program_runs_on_writes_to_its_log_and_can_be_stopped_and_continued(box: OwnBox) -> None:
    pid = box.spawn(
        "node1", ["sh", "-c", "echo up; echo $GIVEN >&2; sleep 351; echo never"], log="logs/s.log", env={"GIVEN": "g"}
    )
    log = box.run_dir / "logs" / "s.log"
    eventually(log.read_text, lambda text: text == "up\ng\n", within_s=5, what="it writes", blame="lab")
    assert box.exit_code("node1", pid) is None
    for signal_name, state in (("STOP", "T"), ("CONT", "S")):
        assert box.signal("node1", pid, signal_name)
        eventually(
            lambda: says(box, "node1", f"cut -d' ' -f3 /proc/{pid}/stat"),
            lambda seen, state=state: seen == state,  # type: ignore[misc]
            within_s=5,
            what=signal_name,
            blame="lab",
        )
    assert box.signal("node1", pid, "KILL")
    eventually(lambda: box.exit_code("node1", pid), lambda code: code == -9, within_s=5, what="it dies", blame="lab")
    assert not box.signal("node1", pid, "KILL")
    box.run("node1", ["pkill", "-f", "[s]leep 351"], check=False)


def test_the_exit_code_of_a_spawned_program_is_kept_and_a_strangers_is_not_known(box: OwnBox) -> None:
    pid = box.spawn("node2", ["sh", "-c", "exit 7"], log="logs/seven.log")
    eventually(lambda: box.exit_code("node2", pid), lambda code: code == 7, within_s=5, what="it ends", blame="lab")
    with pytest.raises(WorldError, match=r"node2: ended: 99999: no such program was started in the background here$"):
        box.exit_code("node2", 99999)


def test_nobody_stays_a_zombie(box: OwnBox) -> None:
    """Orphans go to process 1 of their pid namespace: a host's keeper, or the box's own process 1."""
    for place in ("node1", "box"):
        box.spawn(place, ["true"], log="logs/true.log")
        box.run(place, ["sh", "-c", "setsid sh -c 'true & exec sleep 0.05' & exit 0"])
        eventually(
            lambda place=place: says(box, place, "ps -eo stat,args | grep '^Z' || true"),  # type: ignore[misc]
            lambda left: left == "",
            within_s=5,
            what=f"{place} reaps",
            blame="lab",
        )


def test_a_spawned_program_that_is_not_there_is_told_at_once(box: OwnBox) -> None:
    with pytest.raises(MissingProgram, match=r"nosuchd: no such program in "):
        box.spawn("node1", ["nosuchd"], log="logs/no.log")


# ---------------------------------------------------------------------- stream
def collected(
    box: OwnBox, place: str, argv: list[str], *, tty: bool, typed: Callable[[str], list[bytes | None]]
) -> tuple[str, str, int | None]:
    stream = box.stream(place, argv, tty=tty, rows=33, columns=77, term="xterm")
    seen = {"out": "", "err": ""}
    done: set[bytes | None] = set()
    for name, data in stream.chunks(every_s=0.05):
        if name:
            seen[name] += data.decode()
        for text in typed(seen["out"]):
            if text not in done:
                done.add(text)
                stream.write(text)
    return seen["out"], seen["err"], stream.rc


def test_a_stream_carries_both_outputs_apart_and_the_exit_code(box: OwnBox) -> None:
    out, err, rc = collected(
        box, "node1", ["sh", "-c", "echo out; echo err >&2; cat; exit 5"], tty=False,
        typed=lambda seen: [b"typed\n", None] if "out" in seen else [],
    )  # fmt: skip
    assert (out, err, rc) == ("out\ntyped\n", "err\n", 5)


def test_a_stream_loses_nothing_in_either_direction_and_ends_with_its_input(box: OwnBox) -> None:
    stream = box.stream("node1", ["cat"], tty=False)
    size = 300_000
    lines = b"".join(b"%07d\n" % n for n in range(size // 8))

    def type_all() -> None:
        for at in range(0, len(lines), 4000):
            stream.write(lines[at : at + 4000])
        stream.write(None)

    writer = threading.Thread(target=type_all)
    seen = b""
    for name, data in stream.chunks(every_s=0.05):
        if stream.pid and not writer.ident:
            writer.start()
        seen += data if name == "out" else b""
    writer.join(10)
    assert seen == lines
    assert stream.rc == 0


def test_a_terminal_is_one_and_has_the_size_that_was_given(box: OwnBox) -> None:
    script = 'tty >/dev/null && stty size && echo $TERM && read line && echo "got:$line" && stty size; exit 4'
    stream = box.stream("node1", ["sh", "-c", script], tty=True, rows=33, columns=77, term="xterm")
    seen, resized = "", False
    for name, data in stream.chunks(every_s=0.05):
        seen += data.decode() if name == "out" else ""
        if "xterm" in seen and not resized:
            resized = True
            stream.resize(20, 60)
            stream.write(b"hello\r")
    assert seen.replace("\r", "").split("\n") == ["33 77", "xterm", "hello", "got:hello", "20 60", ""]
    assert stream.rc == 4


def test_ctrl_c_in_a_terminal_reaches_the_program_in_front(box: OwnBox) -> None:
    _, _, rc = collected(
        box, "pod1", ["sh", "-c", "trap 'exit 42' INT; echo ready; while :; do sleep 0.1; done"], tty=True,
        typed=lambda seen: [b"\x03"] if "ready" in seen else [],
    )  # fmt: skip
    assert rc == 42


def test_a_stream_whose_program_is_not_there_is_told_like_any_other(box: OwnBox) -> None:
    with pytest.raises(MissingProgram, match="nosuchprogram: no such program in "):
        list(box.stream("node1", ["nosuchprogram"], tty=False).chunks(every_s=0.05))


# ---------------------------------------------------------------------- files
def test_put_writes_a_file_whole_or_not_at_all(box: OwnBox) -> None:
    box.put("node1", "/etc/deep/in/file", "first\n", 0o640)
    assert says(box, "node1", "stat -c %a /etc/deep/in/file; cat /etc/deep/in/file") == "640\nfirst"
    before = says(box, "node1", "stat -c %i /etc/deep/in/file")
    box.put("node1", "/etc/deep/in/file", "second" * 10_000, 0o755)
    assert says(box, "node1", "stat -c %a /etc/deep/in/file; wc -c < /etc/deep/in/file") == "755\n60000"
    assert says(box, "node1", "stat -c %i /etc/deep/in/file") != before  # replaced, never half-written in place
    with pytest.raises(WorldError, match=r"node1: put: \[Errno \d+\] .*"):
        box.put("node1", "/proc/1/file", "x")
    with pytest.raises(WorldError, match=r"node1: put: \[Errno \d+\] "):
        box.put("node1", "/etc/deep/in", "a folder is there")
    assert says(box, "node1", "ls -A /etc/deep") == "in"  # and no half of one lies about


def test_link_makes_or_replaces_a_link_and_leaves_folders_alone(box: OwnBox) -> None:
    for target in ("one", "two"):
        box.link("node1", "/etc/linked/name", target)
        assert says(box, "node1", "readlink /etc/linked/name") == target
    with pytest.raises(WorldError, match=r"node1: link: "):
        box.link("node1", "/etc/linked", "two")
    assert says(box, "node1", "ls -A /etc/linked") == "name"


def test_a_full_run_folder_is_an_error_and_no_more(box: OwnBox) -> None:
    """What is too long for the line goes through that folder; here it cannot, because `line` is no folder any more."""
    line = box.run_dir / "line"
    line.rename(line.with_name("line.away"))
    try:
        with pytest.raises(WorldError, match=r"write \d+ bytes for the outside: \[Errno 2\]"):
            box.run("node1", ["head", "-c", "100000", "/dev/zero"])
    finally:
        line.with_name("line.away").rename(line)
    assert box.run("box", ["true"]).rc == 0


def test_the_machine_sees_nothing_of_what_was_put(box: OwnBox) -> None:
    box.put("node1", "/etc/tunlab-test", "x")
    assert not Path("/etc/tunlab-test").exists()
