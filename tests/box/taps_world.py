"""The far end of the line for tests: the role of taps in a throw-away world of node1, node2 and pod1."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from socket import socketpair
from typing import Any

from tunlab.box.line import Decoder, encode
from tunlab.errors import WorldError

ROOT = Path(__file__).resolve().parents[2]
WORLD = """
mount -t tmpfs tmpfs /run; mkdir -p /run/netns /run/tunlab; mount --bind "$1" /run/tunlab; shift
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mkdir -p /run/tunlab/line
for place in node1 node2 pod1; do
  ip netns add $place; ip netns exec $place sysctl -qw net.ipv6.conf.default.disable_ipv6=1; ip -n $place link set lo up
done
ip -n node1 link add eth0 address 02:00:00:00:00:01 type veth peer name eth0 address 02:00:00:00:00:02 netns node2
ip -n node1 link add cali1 type veth peer name eth0 netns pod1
address() { ip -n $1 addr add $3 dev $2; ip -n $1 link set $2 up; }
address node1 eth0 10.0.0.1/24; address node2 eth0 10.0.0.2/24; address pod1 eth0 10.1.0.2/24; address node1 cali1 10.1.0.1/24
ip netns exec node1 ip tuntap add tun0 mode tun pi; ip -n node1 link set tun0 up
exec "$@"
"""  # noqa: E501 - shell
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"]
ROLE = """
import socket, subprocess, sys
sys.path.insert(0, sys.argv[1])
from tunlab.box.inside import taps

class WithCommands(taps.Taps):
    def on_run(self, request):
        argv = ["nsenter", f"--net=/run/netns/{request.arguments['place']}", "--", *request.arguments["argv"]]
        told = subprocess.run(argv, capture_output=True, text=True)
        return {"rc": told.returncode, "out": told.stdout + told.stderr}

    def on_start_running(self, request):
        argv = ["nsenter", f"--net=/run/netns/{request.arguments['place']}", "--", *request.arguments["argv"]]
        child = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        def look():
            if child.poll() is None:
                self.after(0.01, look)
            else:
                request.answer(rc=child.returncode)
        look()

WithCommands(socket.socket(fileno=int(sys.argv[2]))).serve()
"""


class World:
    """A box with one role: `ask` is what Wire needs; `run` runs a command in a place, `busy` while the role serves."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.line, theirs = socketpair()
        self.line.settimeout(30)
        program = [os.path.realpath(sys.executable), "-I", "-S", "-E", "-c", ROLE, str(ROOT), str(theirs.fileno())]
        self.process = subprocess.Popen(
            [*UNSHARE, "sh", "-euc", WORLD, "sh", str(run_dir), *program], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self._decoder = Decoder()
        self._answers: dict[int, dict[str, Any]] = {}
        self.events: dict[int, list[dict[str, Any]]] = {}
        self._next = 0
        self._lock = threading.Lock()
        self.collect(0)

    def tell(self, op: str, **arguments: Any) -> int:
        """Send a request."""
        self._next += 1
        self.line.sendall(encode({"id": self._next, "op": op, **arguments}))
        return self._next

    def collect(self, number: int, *, event: bool = False) -> dict[str, Any]:
        """Its answer (or its first event)."""
        while number not in self._answers and not (event and number in self.events):
            data = self.line.recv(65536)
            assert data, "the role ended"
            for frame in self._decoder.feed(data):
                if "event" in frame:
                    self.events.setdefault(frame["id"], []).append(frame["event"])
                else:
                    self._answers[frame["id"]] = frame
        return self.events[number][0] if event else self._answers.pop(number)

    def ask(self, role: str, op: str, **arguments: Any) -> dict[str, Any]:
        """As Box.ask."""
        assert role == "taps"
        frame = self.collect(self.tell(op, **arguments))
        if "error" in frame:
            raise WorldError(f"{frame['error']['kind']}: {frame['error']['text']}")
        ok: dict[str, Any] = frame["ok"]
        return ok

    def run(self, place: str, *argv: str) -> str:
        """A short command; its output."""
        told = self.ask("taps", "run", place=place, argv=argv)
        assert told["rc"] == 0, told["out"]
        return str(told["out"])

    def busy(self, place: str, *argv: str) -> None:
        """A command that runs beside the role, to its end."""
        assert self.ask("taps", "start_running", place=place, argv=argv)["rc"] == 0

    def close(self) -> None:
        """The world is gone when this returns."""
        self.line.close()
        self.process.kill()
        self.process.wait(10)
