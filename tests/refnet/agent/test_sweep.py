"""Leaked addresses and spare blocks go back after the grace period, and nothing that is in use."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from refnet.agent.sweep import Sweep
from refnet.calc.litter import leaks, spare_blocks
from refnet.calc.world import World, read_world
from refnet.ipam import Ipam
from refnet.model.controllers import KubeControllersConfiguration
from refnet.model.keys import BLOCKS, pool_key, resource_key, workload_endpoint_key
from refnet.model.pool import Pool
from refnet.store.etcd import Etcd

ME = "node1"


@pytest.fixture
def ipam(store: Etcd) -> Ipam:
    """A pool of small blocks, and a grace period of a minute."""
    store.put(pool_key("p"), Pool("p", IPv4Network("10.65.0.0/24"), 30).to_resource())
    settings = KubeControllersConfiguration(leak_grace_s=60.0)
    store.put(resource_key("kubecontrollersconfigurations", "default"), settings.to_resource())
    return Ipam(store, ME)


def use(store: Etcd, pod: str, address: object) -> None:
    spec = {
        "orchestrator": "k8s",
        "node": ME,
        "pod": pod,
        "endpoint": "eth0",
        "containerID": pod,
        "interfaceName": f"cali{pod}",
        "ipNetworks": [f"{address}/32"],
    }
    name = f"{ME}-k8s-{pod}-eth0"
    resource = {"apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint", "spec": spec}
    store.put(workload_endpoint_key("default", name), {**resource, "metadata": {"name": name, "namespace": "default"}})


def world_of(store: Etcd) -> World:
    return read_world({key: kv.value for key, kv in store.prefix("/calico/")[0].items()}, ME)


def logged(lines: list[str]) -> Any:
    return lambda level, message, **fields: lines.append(f"{message} {' '.join(map(str, fields.values()))}")


def test_only_an_address_without_a_user_leaks(store: Etcd, ipam: Ipam) -> None:
    used = ipam.auto_assign("net.used", {"node": ME})
    use(store, "used", used)
    leaked = ipam.auto_assign("net.leaked", {"node": ME})
    ipam.auto_assign(f"vxlan-tunnel-addr-{ME}", {"node": ME, "type": "vxlanTunnelAddress"})
    Ipam(store, "node2").auto_assign("net.elsewhere", {"node": "node2"})
    assert [(leak.address, leak.handle) for leak in leaks(world_of(store), ME)] == [(leaked, "net.leaked")]
    store.put(workload_endpoint_key("default", "half"), {"spec": {"node": ME}})
    assert list(leaks(world_of(store), ME)) == []


def test_a_node_keeps_its_last_block(store: Etcd, ipam: Ipam) -> None:
    blocks = [IPv4Network(f"10.65.0.{n}/30") for n in (0, 4, 8)]
    for block in blocks:
        ipam.claim_block(block)
    assert list(spare_blocks(world_of(store), ME)) == blocks[1:]
    ipam.assign(blocks[2][1], "net.used", {"node": ME})
    assert list(spare_blocks(world_of(store), ME)) == blocks[:2]
    assert list(spare_blocks(world_of(store), "node2")) == []


def test_what_lies_about_for_the_grace_period_goes_back(store: Etcd, ipam: Ipam) -> None:
    leaked = ipam.auto_assign("net.leaked", {"node": ME})
    used = ipam.auto_assign("net.used", {"node": ME})
    use(store, "used", used)
    spare = next(c for c in IPv4Network("10.65.0.0/24").subnets(new_prefix=30) if leaked not in c)
    ipam.claim_block(spare)
    lines: list[str] = []
    sweep = Sweep(logged(lines))
    for now in (100.0, 159.0):
        sweep.look(store, world_of(store), ME, now)
        assert (lines, sweep.deadline()) == ([], 160.0)
    sweep.look(store, world_of(store), ME, 160.0)
    assert lines == [f"leaked address released {leaked} net.leaked", f"spare block given back {spare}"]
    assert ipam.addresses_of("net.leaked") == ()
    assert ipam.addresses_of("net.used") == (used,)
    assert len(store.prefix(BLOCKS)[0]) == 1
    sweep.look(store, world_of(store), ME, 161.0)
    assert sweep.deadline() == float("inf")


def test_what_is_used_again_or_given_anew_stays(store: Etcd, ipam: Ipam) -> None:
    address = ipam.auto_assign("net.a", {"node": ME})
    sweep, old = Sweep(logged([])), world_of(store)
    sweep.look(store, old, ME, 100.0)
    ipam.release_handle("net.a")
    ipam.assign(address, "net.a", {"node": ME})
    sweep.look(store, old, ME, 200.0)
    assert ipam.addresses_of("net.a") == (address,)
    sweep.look(store, world_of(store), ME, 200.0)
    assert sweep.deadline() == 260.0


def test_a_grace_period_of_nothing_means_never(store: Etcd, ipam: Ipam) -> None:
    settings = KubeControllersConfiguration(leak_grace_s=0.0)
    store.put(resource_key("kubecontrollersconfigurations", "default"), settings.to_resource())
    address = ipam.auto_assign("net.a", {"node": ME})
    sweep = Sweep(logged([]))
    for now in (0.0, 1e9):
        sweep.look(store, world_of(store), ME, now)
    assert sweep.deadline() == float("inf")
    assert ipam.addresses_of("net.a") == (address,)
