"""Which addresses pods get: from the lab's pools and blocks, and exactly those that the lab asks for."""

from tunlab.check.cell import LabCell
from tunlab.check.requirement import requirement
from tunlab.lab.topology import Topology


def _asks_for_addresses(topology: Topology, mode: str) -> bool:
    del mode
    return any(pod.address is not None for pod in topology.pods)


@requirement("IPAM-01", source="Calico: IPPool; Kubernetes network model: every pod has an address of its own")
def test_every_pod_has_an_address_of_its_own_from_a_pool(cell: LabCell) -> None:
    """Each pod's address is in one of the lab's pools and in a block of its node, and nobody else's."""
    addresses = [pod.address for pod in cell.workloads.values()]
    assert len(set(addresses)) == len(cell.topology.pods), f"{len(cell.topology.pods)} pods share {sorted(addresses)}"
    for pod in cell.workloads.values():
        pools = [pool for pool in cell.topology.pools if pod.address in pool.cidr]
        assert pools, f"{pod.name}: {pod.address} is in no pool of the lab"
        own = cell.seen.oracle.ipam.blocks.get(pod.node, frozenset())
        assert any(pod.address in block for block in own), (
            f"{pod.name}: {pod.address} is in no block of {pod.node}: {sorted(map(str, own))}"
        )


@requirement("IPAM-02", needs=("fixed-address",), where=_asks_for_addresses, source="CNI conventions: CNI_ARGS IP")
def test_a_pod_that_asks_for_an_address_gets_it(cell: LabCell) -> None:
    """A pod for which the lab asks for an address has exactly that one."""
    for pod in cell.topology.pods:
        seen = cell.workloads[pod.name].address
        assert pod.address in (None, seen), f"{pod.name}: has {seen}, wanted {pod.address}"


@requirement("IPAM-03", needs=("ipam-in-etcd",), source="Calico: IPPool.spec.blockSize, block affinities")
def test_blocks_are_of_the_pools_size_and_where_the_lab_pins_them(cell: LabCell) -> None:
    """Every block lies in a pool and has its block size; no two overlap; a node has the block that the lab pins."""
    blocks = [(block, node) for node, own in cell.seen.oracle.ipam.blocks.items() for block in own]
    for block, node in blocks:
        pools = [pool for pool in cell.topology.pools if block.subnet_of(pool.cidr)]
        assert pools, f"{node}: block {block} is in no pool of the lab"
        assert block.prefixlen == pools[0].block_size, f"{node}: block {block}, wanted a /{pools[0].block_size}"
        twins = [str(other) for other, owner in blocks if (other, owner) != (block, node) and other.overlaps(block)]
        assert not twins, f"{node}: block {block} overlaps {', '.join(twins)}"
    for pinned in cell.topology.nodes:
        own = cell.seen.oracle.ipam.blocks.get(pinned.name, frozenset())
        assert pinned.block is None or pinned.block in own, (
            f"{pinned.name}: has {sorted(map(str, own))}, wanted {pinned.block}"
        )
