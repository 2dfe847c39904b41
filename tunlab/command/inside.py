"""The tasks that go into a standing lab: exec, shell, ping."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence

from tunlab.box.box import Stream
from tunlab.errors import LabError
from tunlab.live.lab import LiveLab
from tunlab.live.standing import find_standing

_RC = "PS1='{prompt}'; unset PROMPT_COMMAND; PATH=/run/bin:/opt/cni/bin:$PATH"


def exec(lab: str, place: str, argv: Sequence[str]) -> int:  # the task's own word
    """Run a command in a place exactly as typed, connected to the caller; its exit code."""
    live, name = _find(lab, place)
    if not argv:
        raise LabError(f"exec {place}: no command", hint=f"./lab exec {place} -- ip route")
    return _connected(live, name, argv, terminal=sys.stdin.isatty() and sys.stdout.isatty())


def shell(lab: str, place: str) -> int:
    """A shell in a place, whose prompt says where one is."""
    live, name = _find(lab, place)
    prompt = f"{live.topology.name}/{name}# "
    argv = ["bash", "--noprofile", "--norc", "-i"] if sys.stdin.isatty() else ["bash", "--noprofile", "--norc"]
    return _connected(live, name, argv, terminal=sys.stdin.isatty(), env={"PS1": prompt})


def ping(lab: str, a: str, b: str, count: int = 3) -> int:
    """Ping from a pod or host to another (or to an address), as `ping` prints it."""
    live, source = _find(lab, a)
    address = _address(live, b)
    return _connected(live, source, ["ping", "-c", str(count), "-i", "0.5", "-W", "2", address], terminal=False)


# ------------------------------------------------------------------ inner workings
def _find(lab: str, place: str) -> tuple[LiveLab, str]:
    live = find_standing(lab or None).live()
    if place in live.workloads:
        return live, place
    if any(pod.name == place for pod in live.topology.pods):
        raise LabError(f"{place}: this pod is not up", hint=f"./lab launch {place} --lab {live.topology.name}")
    return live, live.topology.place(place)


def _address(live: LiveLab, target: str) -> str:
    if target in live.workloads:
        return str(live.workloads[target].address)
    if target.replace(".", "").isdigit():
        return target
    host = live.topology.host(_find_name(live, target))
    return str(host.attachments[0].address.ip)


def _find_name(live: LiveLab, target: str) -> str:
    if any(pod.name == target for pod in live.topology.pods):
        raise LabError(f"{target}: this pod is not up", hint=f"./lab launch {target} --lab {live.topology.name}")
    return live.topology.place(target)


def _connected(
    live: LiveLab, place: str, argv: Sequence[str], *, terminal: bool, env: dict[str, str] | None = None
) -> int:
    """Run with this terminal's (or pipe's) input and output; signals and window changes go along."""
    recipe = live.installation.recipe if live.system is not None else None
    own = dict(recipe.shell_env.get(place, {})) if recipe is not None else {}
    columns, rows = shutil.get_terminal_size()
    term = os.environ.get("TERM", "dumb")
    stream = live.box.stream(
        place, argv, tty=terminal, env={**own, **(env or {})}, rows=rows, columns=columns, term=term
    )
    with _raw(terminal), _input_to(stream, terminal):
        for name, data in stream.chunks(every_s=0.05):
            target = sys.stderr if name == "err" else sys.stdout
            if data:
                target.buffer.write(data)
                target.buffer.flush()
    code = stream.rc if stream.rc is not None else 2
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _raw(terminal: bool) -> Iterator[None]:
    """The terminal passes every key on untouched, and is itself again afterwards, whatever happens."""
    if not terminal:
        yield
        return
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _input_to(stream: Stream, terminal: bool) -> Iterator[None]:
    """A thread carries what is typed; window changes and Ctrl-C of a plain pipe go to the program inside."""
    import threading

    over = threading.Event()

    def carry() -> None:
        while not over.is_set():
            if stream.pid and select.select([0], [], [], 0.1)[0]:
                data = os.read(0, 4096)
                stream.write(data or None)
                if not data:
                    return
            elif not stream.pid:
                over.wait(0.01)

    def resized(*_: object) -> None:
        columns, rows = shutil.get_terminal_size()
        stream.resize(rows, columns)

    before = signal.signal(signal.SIGWINCH, resized) if terminal else None
    threading.Thread(target=carry, daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        stream.signal("INT")
        raise
    finally:
        over.set()
        if terminal:
            signal.signal(signal.SIGWINCH, before)
