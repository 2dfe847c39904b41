"""Who reaches whom: every pair, every protocol, small and full-size, and who must not."""

from tunlab.check.cell import LabCell
from tunlab.check.matrix import Matrix
from tunlab.check.requirement import requirement
from tunlab.check.stimuli import HOSTS, PAIRS
from tunlab.errors import WorldError
from tunlab.oracle.where import has_stranded_pair, has_two_pods


def _part(cell: LabCell, *, between_pods: bool) -> Matrix:
    """The cells of the matrix between pods alone, or between pods and nodes."""
    matrix = cell.seen.matrix
    if matrix is None:
        raise WorldError(f"{cell.name}: the matrix was not asked")
    pods = set(cell.workloads)
    part = {q: seen for q, seen in matrix.seen.items() if ({q.source, q.target} <= pods) == between_pods}
    return Matrix(part)


@requirement("CONN-01", where=has_two_pods, source="Kubernetes network model: pods can communicate with all other pods")
def test_every_pod_reaches_every_other_pod_that_it_should(cell: LabCell) -> None:
    """Each pod gets the right pod's answer by ICMP, TCP and UDP, small and full-size, and is seen by its own address.

    Where a router in between knows no pods (mode none), there is no answer at all.
    """
    _part(cell, between_pods=True).check()


@requirement("CONN-02", source="Kubernetes network model: agents on a node can communicate with all pods on that node")
def test_pods_and_nodes_reach_each_other(cell: LabCell) -> None:
    """Each node gets an answer from each pod, and each pod from each node, by ICMP, TCP, UDP, small and full-size."""
    _part(cell, between_pods=False).check()


@requirement("CONN-03", modes=("none",), where=has_stranded_pair, source="RFC 1812 section 5.2.7.1")
def test_a_bare_pod_packet_dies_at_a_router_that_knows_no_pods(cell: LabCell) -> None:
    """Without encapsulation a packet for a pod behind a plain router arrives at that router and never leaves it."""
    window = cell.seen.capture.window(PAIRS)
    stranded = cell.stranded()
    if not stranded:
        raise WorldError(f"{cell.name}: the lab has no pair that cannot talk")
    for crossing in stranded:
        own, arrival, *beyond = crossing.wire_taps
        packet = window.echo(crossing.echo.identifier)
        packet.on(own).going("out").with_stack("eth ip icmp").some(f"{crossing.source} → {crossing.target} leaves")
        arrived = packet.on(arrival).going("in").with_stack("eth ip icmp")
        arrived.some(f"{crossing.source} → {crossing.target} arrives at the router")
        for tap in beyond:
            packet.on(tap).none(
                f"{crossing.source} → {crossing.target} goes on",
                witness=arrived,
                elsewhere="between two such routers nothing comes by right",
            )
        assert cell.outcome(crossing.echo) != "answered", f"{crossing.source} → {crossing.target}: answered"


@requirement("CONN-04", modes=("none",), where=has_stranded_pair, source="RFC 792, RFC 1812 section 5.2.7.1")
def test_the_router_tells_a_node_that_it_knows_no_pods(cell: LabCell) -> None:
    """A node that pings a pod behind a plain router gets that router's ICMP `net unreachable`."""
    oracle = cell.seen.oracle
    told = 0
    for echo in cell.seen.stimuli.hosts:
        workload = cell.workloads.get(echo.target)
        if workload is None or workload.node == echo.source or oracle.reaches(echo.source, workload.node):
            continue
        gateway = str(cell.topology.next_hop(echo.source, workload.node))
        result = cell.seen.result(echo)
        said = result.get("icmp") or {}
        seen = (result["outcome"], said.get("kind"), said.get("code"), said.get("from"))
        assert seen == ("unreachable", 3, 0, gateway), (
            f"{echo.source} → {echo.target}: seen {seen}, wanted ICMP 3/0 from {gateway}"
        )
        window = cell.seen.capture.window(HOSTS).on(f"{echo.source}/eth0").going("in")
        window.with_stack("eth ip icmp").matching(icmp__kind=3, icmp__code=0).some("the router's ICMP on the wire")
        told += 1
    if not told:
        raise WorldError(f"{cell.name}: no node pinged a pod that it cannot reach")
