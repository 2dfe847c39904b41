"""A real kernel to try things on: a world of its own that dies with its holder, and in it nodes, a router and etcd.

The world's own network namespace is the router and the store's host; each node has network, mount and pid namespaces
and its own /run, /etc and /var/lib, so that agents and BIRDs do not meet.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refnet.apply.process import Finished, run
from tunlab.wait import eventually

AGENT = Path(__file__).parents[3] / "refnet/bin/refnet-agent"
ENDPOINT = "http://172.16.0.250:2379"
# Both end at the first mount that fails: an agent must never find the machine's own /etc and /var/lib.
_WORLD = """
set -e
mount -t tmpfs tmpfs /run && mount -t proc proc /proc && mount -t sysfs sysfs /sys && mkdir -p /run/netns
ip link set lo up; echo 1 > /proc/sys/net/ipv4/ip_forward
for i in 0 1; do
  ip link add br$i type bridge; ip addr add 172.16.$i.254/24 dev br$i; ip link set br$i up
done
ip addr add 172.16.0.250/24 dev br0
echo ready; exec cat
"""
_NODE = """
set -e
mount -t proc proc /proc && mount -t tmpfs tmpfs /run && mkdir /run/up
for d in /etc /var/lib; do
  mkdir -p /run/up$d /run/work$d
  mount -t overlay overlay -o lowerdir=$d,upperdir=/run/up$d,workdir=/run/work$d $d
  test "$(stat -f -c %T $d)" = overlayfs
done
echo ready; exec cat
"""
_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child")


class Place:
    """Somewhere to run commands: the namespaces of one process, entered anew for each command."""

    def __init__(self, argv: Sequence[str], script: str) -> None:
        self.holder = subprocess.Popen(
            [*argv, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.holder.stdout
        said = self.holder.stdout.readline()
        if said != "ready\n":
            self.close()
        assert said == "ready\n", f"{argv}: a mount or a link was refused; nothing may run here"
        pid = _innermost(self.holder.pid)
        self.enter = ("nsenter", f"--target={pid}", "--user", "--net", "--mount", "--pid", "--preserve-credentials")

    def run(self, argv: Sequence[str], stdin: str = "") -> Finished:
        """What `refnet.apply` takes as its way to run tools."""
        return run((*self.enter, *argv), stdin)

    def must(self, *lines: str) -> str:
        """Run lines of shell; their output. Raises AssertionError when one fails."""
        done = self.run(["sh", "-e"], "".join(f"{line}\n" for line in lines))
        assert done.code == 0, f"{lines}: {done}"
        return done.out

    def json(self, line: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.must(line) or "[]")
        return found

    def start(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.enter, *argv], env={**os.environ, **(environment or {})}, stderr=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        self.holder.kill()
        self.holder.communicate()


class World(Place):
    """The whole. Nodes are `node(1)` …; `segment` 1 lies behind the router."""

    def __init__(self) -> None:
        super().__init__(("unshare", "--user", "--map-root-user", "--net", *_UNSHARE[1:]), _WORLD)
        self.places: list[Place] = []
        self.processes: list[subprocess.Popen[str]] = []

    def node(self, number: int, segment: int = 0) -> Place:
        """A host with eth0 172.16.SEGMENT.NUMBER/24 and a default route. IPv6 is off: it only makes noise."""
        name, device = f"n{number}", f"up{number}"
        self.must(
            f"ip netns add {name}",
            f"ip link add {device} type veth peer name eth0 netns {name}",
            f"ip link set {device} master br{segment} up",
            f"ip netns exec {name} sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
            f"ip -n {name} link set lo up",
            f"ip -n {name} addr add 172.16.{segment}.{number}/24 dev eth0",
            f"ip -n {name} link set eth0 up",
            f"ip -n {name} route add default via 172.16.{segment}.254",
        )
        place = Place((*self.enter, "ip", "netns", "exec", name, *_UNSHARE), _NODE)
        self.places.append(place)
        return place

    def etcd(self) -> Store:
        """A fresh etcd that listens on the first segment."""
        argv = [
            "etcd",
            "--data-dir",
            "/run/etcd",
            "--listen-client-urls",
            ENDPOINT,
            "--advertise-client-urls",
            ENDPOINT,
        ]
        argv += ["--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "error"]
        process = subprocess.Popen(
            [*self.enter, *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )
        self.processes.append(process)
        eventually(
            lambda: self.run(["curl", "-sf", f"{ENDPOINT}/version"]).code, lambda c: c == 0, within_s=10, what="etcd"
        )
        return Store(self)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        for place in self.places:
            place.close()
        super().close()


class Store:
    """Writes to the world's etcd, through its own JSON gateway as a person with curl would."""

    def __init__(self, world: World) -> None:
        self._world = world

    def put(self, key: str, value: object) -> None:
        self._call("put", {"key": _b64(key), "value": _b64(json.dumps(value))})

    def delete(self, key: str) -> None:
        self._call("deleterange", {"key": _b64(key)})

    def get(self, key: str) -> Any:
        found = self._call("range", {"key": _b64(key)}).get("kvs")
        return json.loads(base64.b64decode(found[0]["value"])) if found else None

    def _call(self, what: str, body: Mapping[str, str]) -> dict[str, Any]:
        done = self._world.run(["curl", "-sf", f"{ENDPOINT}/v3/kv/{what}", "-d", json.dumps(body)])
        assert done.code == 0, f"etcd: {what}: {done}"
        answer: dict[str, Any] = json.loads(done.out)
        return answer


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _innermost(pid: int) -> int:
    """The last of a chain of only children: nsenter and unshare fork once each."""
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    return pid


def last_pid(place: Place) -> int:
    """The number of the place's youngest process, this look's own two included."""
    return int(place.must("cut -d' ' -f5 /proc/loadavg"))
