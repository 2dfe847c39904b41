"""A cluster to watch agents in: etcd, nodes with agents, and the questions that tests ask of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refnet.apply.process import Finished
from tests.refnet.apply.sandbox import AGENT, ENDPOINT, Place, Store, World
from tests.refnet.calc import situations as s
from tunlab.wait import eventually

STATUS_KEY = "/calico/felix/v2/no-region/host/{}/status"


class Member:
    """One node and the agent on it."""

    def __init__(self, name: str, place: Place, number: int, segment: int) -> None:
        self.name = name
        self.place = place
        self.address = f"172.16.{segment}.{number}"
        self.agent: subprocess.Popen[str] | None = None

    def start(self, **environment: str) -> None:
        """Start the agent; `IP` and the like as keywords."""
        told = {"NODENAME": self.name, "ETCD_ENDPOINTS": ENDPOINT, **environment}
        self.agent = self.place.start(["python3", "-ISE", str(AGENT)], told)

    def ask(self, *arguments: str, **environment: str) -> Finished:
        """Run the agent's executable to its end."""
        words = [f"{name}={value}" for name, value in environment.items()]
        return self.place.run(["env", *words, "python3", "-ISE", str(AGENT), *arguments])

    @property
    def pid(self) -> int:
        """The agent's process number outside: nsenter's only child."""
        assert self.agent
        number = self.agent.pid
        children = Path(f"/proc/{number}/task/{number}/children")
        return int(eventually(children.read_text, bool, within_s=20, what=f"{self.name}: agent runs").split()[0])

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)
        if number == signal.SIGCONT and self.agent:
            self.agent.send_signal(number)  # nsenter stops itself when its child is stopped

    def kill(self) -> None:
        assert self.agent
        self.signal(signal.SIGKILL)
        self.agent.communicate(timeout=5)
        self.agent = None

    def stop(self) -> str:
        """SIGTERM; the agent's log."""
        assert self.agent
        self.signal(signal.SIGTERM)
        _, log = self.agent.communicate(timeout=5)
        self.agent = None
        return log

    def status(self) -> dict[str, Any]:
        done = self.place.run(["cat", "/run/calico/agent-status.json"])
        found: dict[str, Any] = json.loads(done.out) if done.code == 0 else {}
        return found

    def is_ready(self) -> bool:
        return bool(self.status().get("ready"))

    def routes(self) -> frozenset[str]:
        """The routes that matter: not the default one, not the uplink's own."""
        lines = self.place.must("ip route").splitlines()
        return frozenset(
            " ".join(line.split()) for line in lines if not line.startswith("default") and "proto kernel" not in line
        )

    def tables(self) -> str:
        return self.place.must("ip route", "ip -br addr", "ip neigh show nud permanent") + (
            self.place.run(["bridge", "fdb", "show", "dev", "vxlan.calico"]).out
        )

    def processes(self) -> list[str]:
        return self.place.must("ps -eo stat,comm | awk '$1 !~ /Z/ {print $2}'").split()


class Cluster:
    """The world with its store; `member(2)` is node2 on segment 0."""

    def __init__(self) -> None:
        self.world = World()
        self.store: Store = self.world.etcd()
        self.members: list[Member] = []

    def member(self, number: int, segment: int = 0) -> Member:
        member = Member(f"node{number}", self.world.node(number, segment), number, segment)
        self.members.append(member)
        return member

    def put(self, content: Mapping[str, Any]) -> None:
        for key, value in content.items():
            self.store.put(key, value)

    def pool(self, **modes: str) -> None:
        self.put(s.pool(**modes))

    def claim(self, owner: str, cidr: str) -> None:
        self.put(s.block(owner, cidr))

    def ready(self, *members: Member) -> None:
        for member in members:
            eventually(member.status, lambda status: status.get("ready"), within_s=20, what=f"{member.name} ready")

    def close(self) -> None:
        for member in self.members:
            if member.agent and member.agent.poll() is None:
                member.kill()
        self.world.close()
