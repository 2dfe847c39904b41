"""What is done to a converged lab so that there is something to judge: who is pinged, how large, from where to where.

All of it is decided here, before anything is sent; `tunlab.check.observe` sends it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from tunlab.check.matrix import Expected, Question
from tunlab.lab.topology import UPLINK, Topology
from tunlab.oracle.network import Carriage, Oracle
from tunlab.wait import time_factor

PORT = 7777
SMALL_BYTES = 56
TCP_FULL_BYTES = 20_000
IP_AND_ICMP_BYTES = 28
IP_AND_UDP_BYTES = 28
BIG_POD = "bigpod"
# An answer that is wanted may take its time on a busy machine; a silence costs all of its time on every machine.
ECHO_WITHIN_S, ANSWER_WITHIN_S, SILENCE_S = 3.0, 10.0, 1.0
START, GATEWAY, PAIRS, HOSTS, LIMITS = "start", "gateway", "pairs", "hosts", "limits"


@dataclass(frozen=True, slots=True)
class Echo:
    """One ICMP echo of a window: every packet of it, in any capture, bears `identifier`.

    `source` and `target` are pods or nodes; `size` is the payload in bytes; `df` says not to fragment; `fits`, that
    nothing on the way is too narrow for it.
    """

    window: str
    source: str
    target: str
    address: IPv4Address
    identifier: int
    size: int = SMALL_BYTES
    df: bool = False
    fits: bool = True

    @property
    def token(self) -> str:
        """The probe's id, which its payload begins with."""
        return f"{self.window}:{self.source}>{self.target}/{self.size}"

    def as_probe(self) -> dict[str, object]:
        """For the role `probes`."""
        return {
            "id": self.token,
            "from": self.source,
            "to": str(self.address),
            "protocol": "icmp",
            "size": self.size,
            "df": self.df,
            "timeout_s": ECHO_WITHIN_S * time_factor(),
            "identifier": self.identifier,
            "sequence": 1,
        }


@dataclass(frozen=True, slots=True)
class Crossing:
    """The way of one packet of an echo between two pods: the request's from its source, or the reply's back.

    `kind` is the ICMP type (8 request, 0 reply); source and target are the packet's own.
    """

    echo: Echo
    kind: int
    source: str
    target: str
    source_node: str
    target_node: str
    carriage: Carriage
    reaches: bool
    wire_taps: tuple[str, ...]

    @property
    def is_local(self) -> bool:
        """Whether both pods are on one node."""
        return self.source_node == self.target_node

    def passages(self) -> tuple[Passage, ...]:
        """Where its packet is seen on the wires, in order; no tap where both pods are on one node."""
        last = len(self.wire_taps) - 1
        return tuple(
            Passage(
                crossing=self,
                tap=tap,
                direction="in" if number % 2 else "out",
                routers_passed=number // 2,
                is_first=number == 0,
                is_last=number == last,
            )
            for number, tap in enumerate(self.wire_taps)
        )


@dataclass(frozen=True, slots=True)
class Passage:
    """One tap that a crossing packet passes: out of its node, into and out of each router, into the other node."""

    crossing: Crossing
    tap: str
    direction: str
    routers_passed: int
    is_first: bool
    is_last: bool


class Stimuli:
    """Every echo and question for one lab, from what the oracle knows."""

    def __init__(self, oracle: Oracle, identifiers: Iterator[int]) -> None:
        """`identifiers` are numbers that no echo of this lab has borne lately: to a kernel that tracks connections an
        echo with an old one belongs to a connection that it has let through, or translated, before."""
        self._oracle = oracle
        self._identifiers = numbers = identifiers
        self.pairs = tuple(self._echo(PAIRS, a, b, next(numbers)) for a, b in self._pod_pairs())
        self.hosts = tuple(self._echo(HOSTS, a, b, next(numbers)) for a, b in self._host_echoes())
        self.limits = tuple(self._limits())

    # ------------------------------------------------------------------ echoes
    def _pod_pairs(self) -> Iterator[tuple[str, str]]:
        return itertools.permutations(self._oracle.workloads, 2)

    def _host_pairs(self) -> Iterator[tuple[str, str]]:
        nodes = [node.name for node in self._oracle.topology.nodes]
        for pod, node in itertools.product(self._oracle.workloads, nodes):
            yield pod, node
            yield node, pod

    def _host_echoes(self) -> Iterator[tuple[str, str]]:
        """Without the pods that no answer can reach: the router complains to the node about each of those answers, and
        the kernel lets it complain five times in a row only; these complaints are for the nodes' own echoes."""
        for a, b in self._host_pairs():
            workload = self._oracle.workloads.get(a)
            if workload is None or self._oracle.reaches(workload.node, b):
                yield a, b

    def _echo(self, window: str, source: str, target: str, identifier: int) -> Echo:
        return Echo(window, source, target, self._address(target), identifier)

    def _at_limit(self, source: str, target: str, packet_bytes: int, *, fits: bool) -> Echo:
        size = packet_bytes - IP_AND_ICMP_BYTES
        return Echo(LIMITS, source, target, self._address(target), next(self._identifiers), size, True, fits)

    def _limits(self) -> Iterator[Echo]:
        """For every pair behind a tunnel or a bare hop: the largest echo that fits everywhere on the way, and one byte
        more than the pod itself may send."""
        for a, b in self._pod_pairs():
            crossing = self.crossing(self._echo(LIMITS, a, b, 0))
            if crossing.is_local or not crossing.reaches:
                continue
            here, there = crossing.source_node, crossing.target_node
            yield self._at_limit(a, b, self._oracle.path_mtu_bytes(here, there), fits=True)
            yield self._at_limit(a, b, self._oracle.mtu_bytes(here) + 1, fits=False)

    def big_pod_limits(self) -> tuple[Echo, ...]:
        """A pod whose own MTU is the uplink's sends, to each pod behind a tunnel, what fits, and one byte more than the
        tunnel takes."""
        node = self._oracle.topology.nodes[0].name
        echoes = []
        for name, workload in self._oracle.workloads.items():
            if workload.node == node or self._oracle.carriage(node, workload.node) == "none":
                continue
            largest = self._oracle.path_mtu_bytes(node, workload.node)
            echoes.append(self._at_limit(BIG_POD, name, largest, fits=True))
            echoes.append(self._at_limit(BIG_POD, name, self._oracle.mtu_bytes(node) + 1, fits=False))
        return tuple(echoes)

    def crossing(self, echo: Echo, *, reply: bool = False) -> Crossing:
        """The way of an echo request between two pods, or that of its reply."""
        source, target = (echo.target, echo.source) if reply else (echo.source, echo.target)
        a, b = self._oracle.workloads[source].node, self._oracle.workloads[target].node
        taps = () if a == b else wire_taps(self._oracle.topology, a, b)
        return Crossing(
            echo=echo,
            kind=0 if reply else 8,
            source=source,
            target=target,
            source_node=a,
            target_node=b,
            carriage="none" if a == b else self._oracle.carriage(a, b),
            reaches=self._oracle.reaches(a, b),
            wire_taps=taps,
        )

    def _node_of(self, name: str) -> str:
        workload = self._oracle.workloads.get(name)
        return workload.node if workload is not None else name

    def _address(self, name: str) -> IPv4Address:
        workload = self._oracle.workloads.get(name)
        return workload.address if workload is not None else self._oracle.node_ip(name)

    # ------------------------------------------------------------------ the matrix
    def questions(self) -> list[Question]:
        """Every ordered pair of pods, node to pod and pod to node; ICMP, TCP, UDP; small and full-size."""
        found: list[Question] = []
        for a, b in self._pod_pairs():
            found += self._ask(a, b, self._expected_between_pods(a, b))
        for a, b in self._host_pairs():
            found += self._ask(a, b, self._expected_with_host(a, b))
        return found

    def _ask(self, a: str, b: str, expected: Expected) -> Iterator[Question]:
        mtu = self._oracle.path_mtu_bytes(self._node_of(a), self._node_of(b))
        sizes = {
            "icmp": (SMALL_BYTES, mtu - IP_AND_ICMP_BYTES),
            "udp": (SMALL_BYTES, mtu - IP_AND_UDP_BYTES),
            "tcp": (SMALL_BYTES, TCP_FULL_BYTES),
        }
        timeout_s = time_factor() * (ANSWER_WITHIN_S if expected.outcomes == ("answered",) else SILENCE_S)
        for protocol, (small, full) in sizes.items():
            for size, name in ((small, "small"), (full, "full")):
                yield Question(
                    source=a,
                    target=b,
                    address=str(self._address(b)),
                    protocol=protocol,
                    size=size,
                    expected=expected,
                    size_name=name,
                    port=PORT,
                    timeout_s=timeout_s,
                )

    def _expected_between_pods(self, a: str, b: str) -> Expected:
        source, target = self._oracle.workloads[a], self._oracle.workloads[b]
        if self._oracle.reaches(source.node, target.node):
            return Expected.answer(by=b, saw=str(source.address))
        return Expected.no_answer()

    def _expected_with_host(self, a: str, b: str) -> Expected:
        """Between a pod and a node; where a router that knows no pods is in the way, whatever goes to the pod dies."""
        pod, node = (a, b) if a in self._oracle.workloads else (b, a)
        home = self._oracle.workloads[pod].node
        if self._oracle.reaches(home, node):
            saw = str(self._oracle.workloads[a].address) if a == pod else None
            return Expected.answer(by=b, saw=saw)
        return Expected.no_answer()


def wire_taps(topology: Topology, a: str, b: str) -> tuple[str, ...]:
    """The taps on hosts' own devices that a packet passes from node `a` to node `b`, in order."""
    segments = {segment.name for segment in topology.segments}
    return tuple(f"{port.host}/{port.device}" for port in topology.hops(a, b) if port.host not in segments)


def uplink_taps(topology: Topology) -> tuple[str, ...]:
    """A tap on every node's uplink and every router's device: every wire of the lab, seen from its ends."""
    nodes = [f"{node.name}/{UPLINK}" for node in topology.nodes]
    return (*nodes, *(f"{router.name}/{port.device}" for router in topology.routers for port in router.interfaces))
