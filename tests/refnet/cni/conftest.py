"""A node in a world of its own: user, pid, mount and net namespaces with an etcd, an uplink and a default route."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[3]
PLUGIN = CHECKOUT / "refnet" / "bin" / "refnet-cni"
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
ETCD = "http://127.0.0.1:2379"
TOOLS = {
    "etcd": "etcd-server",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "ping": "iputils-ping",
}

BUILD = """
set -e
mount -t tmpfs none /run; mount -t proc none /proc; mount -t tmpfs none /var/lib
mkdir -p /run/netns /var/lib/calico /var/lib/etcd
echo node1 >/var/lib/calico/nodename
echo 1450 >/var/lib/calico/mtu
ip link set lo up
ip link add uplink type veth peer name wire
ip address add 192.0.2.1/24 dev uplink
ip link set uplink up; ip link set wire up
ip route add default via 192.0.2.254
etcd --data-dir /var/lib/etcd --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 --log-level error >/var/lib/etcd.log 2>&1 &
echo built
wait
"""

STORE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from refnet.errors import StoreUnavailable
from refnet.store.etcd import Etcd
deadline = time.monotonic() + 15
while True:
    try:
        store = Etcd(["http://127.0.0.1:2379"])
        for key in store.prefix("/calico/")[0] if "reset" in sys.argv else ():
            store.delete(key)
        for key, value in json.loads(sys.argv[2]).items():
            store.delete(key) if value is None else store.put(key, value)
        print(json.dumps({key: kv.value for key, kv in store.prefix("/calico/")[0].items()}))
        break
    except StoreUnavailable:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.02)
"""


Environment = Mapping[str, "str | None"]
"""Changes to the plugin's environment; None leaves a variable out."""


@dataclass(frozen=True)
class Answer:
    """What the plugin said."""

    code: int
    text: str
    log: str

    @property
    def document(self) -> dict[str, Any]:
        document = json.loads(self.text)
        assert isinstance(document, dict)
        return document


@dataclass
class World:
    """Commands run in it as its root; `pods` counts the namespaces made so far."""

    pid: int
    pods: int = 0
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})

    def start(self, argv: Sequence[str], **environment: str) -> subprocess.Popen[str]:
        enter = ["nsenter", "-t", str(self.pid), "-U", "-m", "-n", "-p", "--preserve-credentials", "--"]
        pipe = subprocess.PIPE
        env = {**self.environment, **environment}
        return subprocess.Popen([*enter, *argv], stdin=pipe, stdout=pipe, stderr=pipe, env=env, text=True)

    def run(self, *argv: str) -> str:
        process = self.start(argv)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0, f"{argv}: {err}"
        return out

    def json(self, *argv: str) -> Any:
        return json.loads(self.run(*argv) or "[]")

    def store(self) -> dict[str, Any]:
        return self.store_with({})

    def store_with(self, changes: Mapping[str, Any], *words: str) -> dict[str, Any]:
        """Put (or, for None, delete) keys, with the word `reset` after all others are gone; then the whole store."""
        found = self.json(PYTHON, "-ISEc", STORE, str(CHECKOUT), json.dumps(dict(changes)), *words)
        assert isinstance(found, dict)
        return found

    def new_pod(self) -> str:
        """A new network namespace; its name."""
        self.pods += 1
        name = f"pod{self.pods}"
        self.run("ip", "netns", "add", name)
        return name

    def trace(self) -> dict[str, Any]:
        """Everything that an attachment leaves on the node and in the store, except claimed blocks and counters."""
        links = sorted(link["ifname"] for link in self.json("ip", "-j", "link"))
        routes = sorted((route["dst"], route.get("dev", "")) for route in self.json("ip", "-j", "route"))
        store = self.store()
        kept = {key: value for key, value in store.items() if "/block/" not in key}
        blocks = {key: value for key, value in store.items() if "/assignment/" in key}
        allocated = {key: [a["handle_id"] for a in value["attributes"]] for key, value in blocks.items()}
        return {"links": links, "routes": routes, "store": kept, "allocated": {k: v for k, v in allocated.items() if v}}


@pytest.fixture(scope="module")
def shared_world() -> Iterator[World]:
    for tool, package in TOOLS.items():
        if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            pytest.fail(f"{tool} is missing: apt-get install {package}", pytrace=False)
    command = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    process = subprocess.Popen(
        [*command, "bash", "-c", BUILD],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    try:
        assert process.stdout and process.stderr
        if process.stdout.readline() != "built\n":
            pytest.fail(f"no world for a node: {process.stderr.read()}", pytrace=False)
        inner = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield World(int(inner[0]))
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def world(shared_world: World) -> World:
    """The node with one pool and nothing else in the store, and without interfaces of earlier tests."""
    for link in shared_world.json("ip", "-j", "link"):
        if link["ifname"].startswith("cali"):
            shared_world.run("ip", "link", "del", link["ifname"])
    pool = {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "default"}}
    key = "/calico/resources/v3/projectcalico.org/ippools/default"
    shared_world.store_with({key: {**pool, "spec": {"cidr": "10.65.0.0/24"}}}, "reset")
    return shared_world


@dataclass
class Cni:
    """The plugin as a runtime calls it, for one container."""

    world: World
    pod: str
    container: str = "0123456789abcdef"
    ifname: str = "eth0"
    kubernetes: bool = True
    version: str = "1.0.0"
    arguments: str = ""

    @property
    def netns(self) -> str:
        return f"/run/netns/{self.pod}"

    def environment(self, command: str) -> dict[str, str]:
        arguments = f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={self.pod}" if self.kubernetes else ""
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.ifname,
            "CNI_ARGS": ";".join(filter(None, (arguments, self.arguments))),
            "CNI_PATH": "/opt/cni/bin",
        }

    def configuration(self, **changes: Any) -> dict[str, Any]:
        conf = {
            "cniVersion": self.version,
            "name": "k8s-pod-network",
            "type": "calico",
            "etcd_endpoints": ETCD,
            "ipam": {"type": "calico-ipam"},
            "policy": {"type": "k8s"},
            **changes,
        }
        return {key: value for key, value in conf.items() if value is not None}

    def start(
        self,
        command: str,
        environment: Environment | None = None,
        stdin: str | None = None,
        **changes: Any,
    ) -> tuple[subprocess.Popen[str], str]:
        wanted = {**self.environment(command), **(environment or {})}
        env = {key: value for key, value in wanted.items() if value is not None}
        text = json.dumps(self.configuration(**changes)) if stdin is None else stdin
        return self.world.start([PYTHON, "-ISE", str(PLUGIN)], **env), text

    def call(
        self,
        command: str,
        environment: Environment | None = None,
        stdin: str | None = None,
        **changes: Any,
    ) -> Answer:
        process, text = self.start(command, environment, stdin, **changes)
        out, err = process.communicate(text, timeout=30)
        return Answer(process.returncode, out, err)

    def add(self, **changes: Any) -> dict[str, Any]:
        answer = self.call("ADD", **changes)
        assert answer.code == 0, answer.text
        return answer.document

    def delete(self, environment: Environment | None = None, **changes: Any) -> None:
        answer = self.call("DEL", environment, **changes)
        assert (answer.code, answer.text) == (0, ""), answer.text

    def refused(self, command: str, environment: Environment | None = None, **changes: Any) -> dict[str, Any]:
        """The error object of a call that must fail."""
        answer = self.call(command, environment, **changes)
        assert answer.code == 1, answer.text
        document = answer.document
        assert document.keys() == {"cniVersion", "code", "msg", "details"}
        return document


@pytest.fixture
def cni(world: World) -> Cni:
    return Cni(world, world.new_pod())
