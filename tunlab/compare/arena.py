"""One lab per mode, all up at once and all in the same kind of box; one at a time is measured, the others rest."""

from __future__ import annotations

import json
import os
import re
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunlab.box.box import Box, Completed, OwnBox
from tunlab.box.folder import fresh_run_dir
from tunlab.box.start import start_box
from tunlab.check.convergence import wait_converged
from tunlab.compare.figures import Headers
from tunlab.compare.processor import cpu_seconds
from tunlab.errors import LabError, WorldError
from tunlab.lab.topology import Mode, Pod, Topology
from tunlab.live.lab import LiveLab
from tunlab.systems.recipe import System
from tunlab.trace.tracing import PORT, Packet, trace
from tunlab.wait import eventually
from tunlab.wire.pcapng import read_file

IPERF3 = "iperf3"
_IP_AND_UDP_BYTES = 28
_SMALL_BYTES = 16  # iperf3's own numbers fill them
_PINGS = 500
_PAYLOAD_BYTES = 1000
_CONVERGED_WITHIN_S = 60.0
_ANSWER_WITHIN_S = 15.0
_PATIENCE_S = 60.0
_TIME = re.compile(r" time=([0-9.]+) ms$", re.MULTILINE)


def chosen_pair(topology: Topology) -> tuple[Pod, Pod]:
    """The lab's first pod and the first one on another node. Raises LabError where there is none."""
    first = topology.pods[0] if topology.pods else None
    other = next((pod for pod in topology.pods if first is not None and pod.node != first.node), None)
    if first is None or other is None:
        raise LabError(f"--lab: {topology.name}: has no two pods on two nodes", hint="./lab labs")
    return first, other


@dataclass
class Arena:
    """A lab in one mode on its feet, and an iperf3 that waits in the second pod."""

    mode: Mode
    live: LiveLab
    box: OwnBox
    source: str
    target: str
    address: str
    mtu_bytes: int

    @classmethod
    def open(cls, topology: Topology, system: System, mode: Mode, kind: str) -> Arena:
        """Build, install, launch, converge. Raises SystemFault, WorldError."""
        source, target = chosen_pair(topology)
        box = start_box(kind, fresh_run_dir(topology.name))
        try:
            live = LiveLab(topology, box)
            live.build()
            live.install(system, mode)
            live.launch_all()
            wait_converged(live, _CONVERGED_WITHIN_S)
            address = str(live.workloads[target.name].address)
            arena = cls(mode, live, box, source.name, target.name, address, _mtu_bytes(box, source.name))
            arena._begin()
        except BaseException:
            box.close()
            raise
        return arena

    def _begin(self) -> None:
        """Wait for a first answer; start the iperf3 that answers from then on."""
        ask = ["ping", "-n", "-c", "1", "-W", "1", self.address]
        eventually(
            lambda: self.box.run(self.source, ask, check=False),
            lambda done: done.rc == 0,
            within_s=_ANSWER_WITHIN_S,
            what=f"{self.mode}: {self.target} answers {self.source}",
        )
        log = f"logs/{IPERF3}.log"
        self.box.spawn(self.target, [IPERF3, "-s", "--forceflush"], log=log)
        eventually(
            lambda: (self.box.run_dir / log).read_text() if (self.box.run_dir / log).exists() else "",
            lambda text: "listening" in text,
            within_s=_ANSWER_WITHIN_S,
            what=f"{self.mode}: {IPERF3} listens in {self.target}",
            blame="lab",
        )

    def close(self) -> None:
        """The box and everything in it is gone."""
        self.box.close()

    # ------------------------------------------------------------------ measuring
    def headers(self) -> Headers:
        """One datagram, as it left the first node. Raises WorldError when no tap saw it there."""
        with tempfile.TemporaryDirectory() as folder:
            keep = Path(folder, "headers.pcapng")
            packet = Packet(self.source, self.target, self.address, "udp", _PAYLOAD_BYTES, PORT)
            told = trace(self.live, packet, keep)
            node = self.live.workloads[self.source].node
            frames = [hop.last for hop in told.journey.there if hop.place == node and hop.left_by is not None]
            if not frames:
                raise WorldError(f"{self.mode}: {node}: the datagram was not seen leaving", hint="./lab trace")
            lengths = {one.number: one.length for one in read_file(keep).packets}
        return Headers(frames[0].stack, _PAYLOAD_BYTES, lengths[frames[0].number])

    def round(self, seconds: int) -> Mapping[str, float]:
        """One reading of every measure, by its key."""
        cpu_s = self._cpu_seconds()
        tcp = self._iperf("-t", str(seconds))
        cpu_s = self._cpu_seconds() - cpu_s
        udp = self._flood(seconds, self.mtu_bytes - _IP_AND_UDP_BYTES)
        small = self._flood(seconds, _SMALL_BYTES)
        trips = self._round_trips()
        received = tcp["end"]["sum_received"]
        return {
            "tcp_bit_per_s": float(received["bits_per_second"]),
            "udp_bit_per_s": float(udp["end"]["sum_received"]["bits_per_second"]),
            "packets_per_s": arrived_per_s(small),
            "latency_median_s": statistics.median(trips),
            "latency_p99_s": quantile(trips, 0.99),
            "cpu_s_per_byte": cpu_s / float(received["bytes"]),
        }

    def congestion_control(self) -> str:
        """What TCP the first pod speaks."""
        return self.box.run(self.source, ["sysctl", "-n", "net.ipv4.tcp_congestion_control"]).out.strip()

    def _flood(self, seconds: int, size_bytes: int) -> Mapping[str, Any]:
        return self._iperf("-t", str(seconds), "-u", "-b", "0", "-l", str(size_bytes))

    def _iperf(self, *words: str) -> Mapping[str, Any]:
        argv = [IPERF3, "-J", "--connect-timeout", "10000", "-c", self.address, *words]
        return read_iperf(self.box.run(self.source, argv, timeout_s=_PATIENCE_S + int(words[1]), check=False))

    def _round_trips(self) -> list[float]:
        """Seconds of each of many echoes, one after the other: the next leaves when the answer has come."""
        argv = ["ping", "-A", "-n", "-c", str(_PINGS), self.address]
        done = self.box.run(self.source, argv, timeout_s=_PATIENCE_S)
        return [float(text) / 1e3 for text in _TIME.findall(done.out)]

    def _cpu_seconds(self) -> float:
        return cpu_seconds(self.box.pid, with_kernel=self.box.kind == "namespaces")


def read_iperf(done: Completed) -> Mapping[str, Any]:
    """What iperf3 printed. Raises WorldError with its own words when it could not measure."""
    try:
        told: Mapping[str, Any] = json.loads(done.out)
        why = str(told.get("error", ""))
        if not why and float(told["end"]["sum_received"]["bytes"]) <= 0:
            why = "nothing arrived"
    except (ValueError, KeyError, TypeError) as error:
        said = (done.err.strip() or done.out.strip() or "it printed nothing").splitlines()[-1]
        raise WorldError(f"{done}: no result: {said}") from error
    if why:
        raise WorldError(f"{done}: {why}")
    return told


def arrived_per_s(told: Mapping[str, Any]) -> float:
    """Datagrams that arrived, a second: the receiver's count, without what it missed."""
    end = told["end"]["sum_received"]
    return (float(end["packets"]) - float(end["lost_packets"])) / float(end["seconds"])


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _mtu_bytes(box: Box, pod: str) -> int:
    links = json.loads(box.run(pod, ["ip", "-j", "link", "show", "dev", "eth0"]).out)
    return int(links[0]["mtu"])


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0))
