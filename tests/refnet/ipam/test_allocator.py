"""IPAM against a real etcd: no address twice, no leak, whatever the history and however many take part."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from refnet.ctl.ipam_books import Books
from refnet.errors import AlreadyExists, NoAddress, StoreConflict, StoreCorrupt
from refnet.ipam import Ipam
from refnet.ipam.claims import Claims
from refnet.ipam.removal import release_node, release_pool
from refnet.ipam.walk import candidates, fnv32
from refnet.model.address import IPAddress, IPNetwork
from refnet.model.block import Block
from refnet.model.keys import (
    AFFINITIES,
    BLOCKS,
    HANDLES,
    IPAM_CONFIG,
    affinity_key,
    block_key,
    handle_key,
    pool_key,
    resource_key,
    status_key,
    workload_endpoint_key,
)
from refnet.model.pool import Pool
from refnet.model.selector import Selector
from refnet.store.etcd import Etcd, Stored

CHECKOUT = Path(__file__).parents[3]


def add_pool(store: Etcd, cidr: str, name: str = "default", block_size: int = 28, **changes: Any) -> Pool:
    pool = Pool(name, IPv4Network(cidr), block_size, **changes)
    store.put(pool_key(name), pool.to_resource())
    return pool


def books(store: Etcd) -> tuple[dict[str, set[str]], dict[str, str]]:
    """Addresses by handle, and nodes by block, after checking that blocks, handles and claims agree."""
    blocks = {
        kv.value["cidr"]: Block.from_value(IPv4Network(kv.value["cidr"]), kv.value)
        for kv in store.prefix(BLOCKS)[0].values()
    }
    given: dict[str, set[str]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for cidr, block in blocks.items():
        for ordinal, owner in block.owners.items():
            assert str(block.address(ordinal)) not in given.setdefault(owner.handle, set())
            given[owner.handle].add(str(block.address(ordinal)))
            counts[owner.handle, cidr] += 1
    handles = [kv.value for kv in store.prefix(HANDLES)[0].values()]
    said = {(value["handleID"], cidr): count for value in handles for cidr, count in value["block"].items()}
    assert said == dict(counts)
    claims = {
        key.rpartition("/")[2].replace("-", "/"): key[len(AFFINITIES) :].partition("/")[0]
        for key, kv in store.prefix(AFFINITIES)[0].items()
        if kv.value == {"state": "confirmed"}
    }
    assert claims == {cidr: block.node for cidr, block in blocks.items() if block.node}
    return given, claims


def everything(store: Etcd) -> dict[str, Any]:
    return {key: kv.value for key, kv in store.prefix("/calico/ipam/")[0].items()}


def test_a_node_fills_its_own_block_before_it_claims_another(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24", block_size=30)
    ipam = Ipam(store, "node1")
    given = [ipam.auto_assign(f"net.c{i}", {"node": "node1"}) for i in range(6)]
    first = IPv4Network((given[0], 30), strict=False)
    assert given[:4] == list(first)
    assert len({IPv4Network((address, 30), strict=False) for address in given}) == 2
    _, claims = books(store)
    assert set(claims.values()) == {"node1"}


def test_a_freed_address_is_the_last_to_be_given_again(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24", block_size=30)
    ipam = Ipam(store, "node1")
    first = ipam.auto_assign("net.a", {})
    assert ipam.release_handle("net.a") == (first,)
    following = [ipam.auto_assign(f"net.c{i}", {}) for i in range(4)]
    assert following[-1] == first


def test_releasing_is_exact_and_repeatable(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24")
    ipam = Ipam(store, "node1")
    one = ipam.auto_assign("net.a", {"interface": "eth0"})
    two = ipam.auto_assign("net.a", {"interface": "eth1"})
    other = ipam.auto_assign("net.b", {"interface": "eth0"})
    assert ipam.addresses_of("net.a") == (one, two)
    assert ipam.release_handle("net.a", interface="eth1") == (two,)
    assert ipam.release_address(one, "net.b") is False
    assert ipam.release_address(one, "net.a") is True
    assert ipam.release_handle("net.a") == ()
    assert books(store)[0] == {"net.b": {str(other)}}


def test_a_given_address_is_assigned_exactly_and_once(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24")
    ipam, wanted = Ipam(store, "node1"), IPv4Address("10.65.0.77")
    assert ipam.assign(wanted, "net.a", {}) == wanted
    before = everything(store)
    with pytest.raises(AlreadyExists, match=r"^address 10\.65\.0\.77: in use by net\.a$"):
        ipam.assign(wanted, "net.b", {})
    assert everything(store) == before


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("10.66.0.1", "ipam: address 10.66.0.1: lies in no enabled pool for workloads"),
        ("10.67.0.1", "ipam: address 10.67.0.1: lies in no enabled pool for workloads"),
        (
            "10.65.0.1",
            "ipam: address 10.65.0.1: lies in block 10.65.0.0/28 of node2, and strictAffinity forbids to borrow",
        ),
    ],
    ids=["no pool", "disabled pool", "another node's block"],
)
def test_an_address_that_cannot_be_ours_is_refused_and_nothing_changes(
    store: Etcd, address: str, complaint: str
) -> None:
    add_pool(store, "10.65.0.0/24")
    add_pool(store, "10.67.0.0/24", "off", disabled=True)
    Ipam(store, "node2").claim_block(IPv4Network("10.65.0.0/28"))
    store.put(IPAM_CONFIG, {"strict_affinity": True})
    before = everything(store)
    with pytest.raises(NoAddress) as caught:
        Ipam(store, "node1").assign(IPv4Address(address), "net.a", {})
    assert caught.value.message == complaint
    assert everything(store) == before


def test_a_full_pool_is_a_clear_error_and_leaks_nothing(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/29", block_size=30)
    first, second = Ipam(store, "node1"), Ipam(store, "node2")
    for i in range(4):
        first.auto_assign(f"net.a{i}", {})
    for i in range(4):
        second.auto_assign(f"net.b{i}", {})
    before = everything(store)
    with pytest.raises(NoAddress) as caught:
        first.auto_assign("net.late", {})
    assert caught.value.message == (
        "ipam: node1: no free address in default (10.65.0.0/29): own blocks are full, all others are claimed, "
        "nobody has one to lend"
    )
    assert everything(store) == before


def test_a_node_may_have_so_many_blocks_and_no_more(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24", block_size=32)
    store.put(IPAM_CONFIG, {"strict_affinity": True, "maxBlocksPerHost": 2})
    ipam = Ipam(store, "node1")
    for i in range(2):
        ipam.auto_assign(f"net.a{i}", {})
    reason = "all 2 own blocks are full, and 2 is the limit, and strictAffinity forbids to borrow"
    with pytest.raises(NoAddress) as caught:
        ipam.auto_assign("net.late", {})
    assert caught.value.message == f"ipam: node1: no free address in default (10.65.0.0/24): {reason}"


@pytest.mark.parametrize(
    ("pools", "use", "complaint"),
    [
        ((), "Tunnel", "ipam: no enabled IPPool gives addresses to a Tunnel"),
        (("other",), "Workload", "ipam: no enabled IPPool other gives addresses to a Workload"),
        (("off",), "Workload", "ipam: no enabled IPPool off gives addresses to a Workload"),
    ],
    ids=["use", "unknown", "disabled"],
)
def test_a_pool_that_may_not_serve_does_not(store: Etcd, pools: tuple[str, ...], use: str, complaint: str) -> None:
    add_pool(store, "10.65.0.0/24", allowed_uses=("Workload",))
    add_pool(store, "10.67.0.0/24", "off", disabled=True)
    with pytest.raises(NoAddress) as caught:
        Ipam(store, "node1").auto_assign("net.a", {}, use=use, pools=pools)
    assert caught.value.message == complaint


def test_a_manual_pool_serves_only_who_names_it(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24")
    add_pool(store, "10.67.0.0/24", "by-hand", assignment_mode="Manual")
    ipam = Ipam(store, "node1")
    assert ipam.auto_assign("net.a", {}) in IPv4Network("10.65.0.0/24")
    for i, name in enumerate(("by-hand", "10.67.0.0/24")):
        assert ipam.auto_assign(f"net.b{i}", {}, pools=(name,)) in IPv4Network("10.67.0.0/24")


class Dying(Etcd):
    """A store whose user dies before its nth write from now on."""

    writes_left = 1000

    def _commit(self, guards: Any, writes: Any) -> tuple[bool, int]:
        if self.writes_left == 0:
            raise InterruptedError
        self.writes_left -= 1
        return super()._commit(guards, writes)


@pytest.fixture
def dying(etcd_endpoint: str) -> Iterator[Dying]:
    with closing(Dying([etcd_endpoint])) as client:
        yield client


@pytest.mark.parametrize("after", range(4))
def test_a_death_at_any_moment_leaks_no_address_and_the_next_attempt_ends_it(
    store: Etcd, dying: Dying, after: int
) -> None:
    """The writes of a first assignment are: claim, block with confirmed claim, address with handle."""
    add_pool(store, "10.65.0.0/24")
    dying.writes_left = after
    if after < 3:
        with pytest.raises(InterruptedError):
            Ipam(dying, "node1").auto_assign("net.a", {})
        assert books(store)[0] == {}
    else:
        Ipam(dying, "node1").auto_assign("net.a", {})
    Ipam(store, "node1").auto_assign("net.b", {})
    given, claims = books(store)
    assert len(claims) == 1
    assert all(kv.value == {"state": "confirmed"} for kv in store.prefix(AFFINITIES)[0].values())
    assert given.keys() == ({"net.a", "net.b"} if after == 3 else {"net.b"})


def test_a_claim_that_lost_its_block_to_another_node_is_given_up(store: Etcd) -> None:
    pool = add_pool(store, "10.65.0.0/24")
    wanted = next(candidates(pool, "node1"))
    store.put(affinity_key("node1", wanted), {"state": "pending"})
    Ipam(store, "node2").claim_block(wanted)
    address = Ipam(store, "node1").auto_assign("net.a", {})
    assert address not in wanted
    assert store.get(affinity_key("node1", wanted)) is None
    assert books(store)[1][str(wanted)] == "node2"


def test_a_block_is_claimed_by_one_node_and_by_it_again(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24")
    block = IPv4Network("10.65.0.16/28")
    first = Ipam(store, "node1").claim_block(block)
    assert Ipam(store, "node1").claim_block(block) == first
    with pytest.raises(AlreadyExists, match=r"^ipam: block 10\.65\.0\.16/28: belongs to node1$"):
        Ipam(store, "node2").claim_block(block)
    assert books(store)[1] == {"10.65.0.16/28": "node1"}


@pytest.mark.parametrize(
    ("block", "legal"),
    [("10.65.0.0/26", "those of 10.65.0.0/24 are /28"), ("10.66.0.0/28", "no pool contains it")],
    ids=["size", "elsewhere"],
)
def test_what_is_no_block_of_a_pool_cannot_be_claimed(store: Etcd, block: str, legal: str) -> None:
    add_pool(store, "10.65.0.0/24")
    with pytest.raises(NoAddress) as caught:
        Ipam(store, "node1").claim_block(IPv4Network(block))
    assert caught.value.message == f"ipam: block {block}: is not a block of an enabled pool: {legal}"
    assert everything(store) == {}


BROKEN = {"cidr": "10.65.0.0/28", "affinity": "host:node1"}


def test_a_misshapen_block_stops_nobody_and_stays_as_it_is(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24")
    ipam, broken = Ipam(store, "node1"), IPv4Network("10.65.0.0/28")
    ipam.claim_block(broken)
    ipam.auto_assign("net.a", {"node": "node1"})
    store.put(block_key(broken), BROKEN)
    address = ipam.auto_assign("net.a", {"node": "node1"})
    assert address not in broken and ipam.addresses_of("net.a") == (address,)
    assert ipam.release_handle("net.a") == (address,)
    assert ipam.auto_assign("net.b", {"node": "node1"}) not in broken
    store.put(affinity_key("node1", IPv4Network("10.65.0.32/28")), "half a claim")
    assert ipam.auto_assign("net.c", {"node": "node1"})
    with pytest.raises(StoreCorrupt, match=r"^block 10\.65\.0\.0/28: misshapen: KeyError: 'allocations'$"):
        ipam.assign(IPv4Address("10.65.0.1"), "net.d", {})
    release_node(store, "node1")
    left = everything(store)
    assert [key for key in left if key.startswith((AFFINITIES, BLOCKS))] == [block_key(broken)]
    assert left[block_key(broken)] == BROKEN
    assert "block 10.65.0.0/28: misshapen: KeyError: 'allocations'" in Books(store).problems()


def test_a_pool_that_selects_the_node_no_more_and_has_a_misshapen_block_stops_nobody(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24", node_selector=Selector.parse("rack == 'a'"))
    add_pool(store, "10.66.0.0/24", "other")
    Ipam(store, "node1").claim_block(IPv4Network("10.65.0.0/28"))
    store.put(block_key(IPv4Network("10.65.0.0/28")), BROKEN)
    assert Ipam(store, "node1").auto_assign("net.a", {}) in IPv4Network("10.66.0.0/24")


def test_who_asks_for_an_address_borrows_it_from_a_block_that_was_claimed_meanwhile(
    store: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_pool(store, "10.65.0.0/24")
    claim = Claims.claim

    def late(self: Claims, cidr: IPNetwork) -> Block:
        if self.node == "node1":
            claim(Claims(store, "node2"), cidr)
        return claim(self, cidr)

    monkeypatch.setattr(Claims, "claim", late)
    wanted = IPv4Address("10.65.0.1")
    assert Ipam(store, "node1").assign(wanted, "net.a", {}) == wanted


def test_the_walk_visits_every_block_once_from_a_place_of_the_nodes_own() -> None:
    pool = Pool("p", IPv4Network("10.65.0.0/24"), 28)
    assert fnv32("") == 0x811C9DC5
    assert fnv32("a") == 0x050C5D7E
    walks = {node: list(candidates(pool, node)) for node in ("node1", "node2", "node3")}
    assert all(sorted(walk) == list(pool.cidr.subnets(new_prefix=28)) for walk in walks.values())
    assert len({walk[0] for walk in walks.values()}) > 1


def test_a_deleted_node_gives_everything_back(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24")
    Ipam(store, "node1").auto_assign("net.a", {"node": "node1"})
    kept = Ipam(store, "node2").auto_assign("net.b", {"node": "node2"})
    release_node(store, "node1")
    given, claims = books(store)
    assert given == {"net.b": {str(kept)}}
    assert set(claims.values()) == {"node2"}


def test_what_was_set_for_a_deleted_node_goes_with_it(store: Etcd) -> None:
    own = [
        resource_key("bgppeers", "its-own"),
        resource_key("felixconfigurations", "node.node1"),
        resource_key("bgpconfigurations", "node.node1"),
        status_key("node1"),
    ]
    others = {resource_key("bgppeers", "another"): {"spec": {"node": "node2"}}, resource_key("bgppeers", "odd"): "x"}
    others |= {resource_key("felixconfigurations", "node.node2"): {}, handle_key("net.a"): {}}
    for key, value in {**{key: {"spec": {"node": "node1"}} for key in own}, **others}.items():
        store.put(key, value)
    for half in ("half", {"spec": "half"}):
        store.put(workload_endpoint_key("default", "e"), half)
        release_node(store, "node1")
    left = {key: kv.value for key, kv in store.prefix("/calico/")[0].items()}
    assert left == {**others, workload_endpoint_key("default", "e"): {"spec": "half"}}


@pytest.mark.parametrize("value", ["text", {}, {"spec": "x"}, {"spec": {"cidr": "nonsense"}}], ids=str)
def test_a_pool_that_means_nothing_has_nothing_to_give_back(store: Etcd, value: object) -> None:
    store.put(pool_key("odd"), value)
    stored = store.get(pool_key("odd"))
    assert stored and release_pool(store, stored) == stored.revision


def test_a_pool_that_somebody_else_changes_meanwhile_is_not_overwritten(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24")
    stored = store.get(pool_key("default"))
    add_pool(store, "10.65.0.0/24", nat_outgoing=True)
    with pytest.raises(StoreConflict):
        release_pool(store, stored)  # type: ignore[arg-type]


def test_a_deleted_pool_gives_its_blocks_back_but_keeps_what_is_in_use(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24")
    used = Ipam(store, "node1").auto_assign("net.a", {})
    Ipam(store, "node2").claim_block(IPv4Network("10.65.0.0/28"))
    stored = store.get(pool_key("default"))
    assert isinstance(stored, Stored)
    release_pool(store, stored)
    given, claims = books(store)
    assert (given, claims) == ({"net.a": {str(used)}}, {})
    Ipam(store, "node1").release_handle("net.a")
    assert everything(store) == {}


def test_threads_of_several_nodes_never_get_the_same_address(store: Etcd, etcd_endpoint: str) -> None:
    add_pool(store, "10.65.0.0/24")
    seen: list[IPAddress] = []
    troubles: list[BaseException] = []

    def take(node: str, name: str) -> None:
        try:
            with closing(Etcd([etcd_endpoint])) as own:
                for i in range(8):
                    seen.append(Ipam(own, node).auto_assign(f"net.{name}-{i}", {"node": node}))
        except BaseException as trouble:
            troubles.append(trouble)
            raise

    threads = [threading.Thread(target=take, args=(f"node{n % 4}", f"t{n}")) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert len(seen) == len(set(seen)) == 128
    given, claims = books(store)
    assert {address for addresses in given.values() for address in addresses} == {str(address) for address in seen}
    assert Counter(claims.values()) == {f"node{n}": 2 for n in range(4)}


WORKER = """
import sys
sys.path.insert(0, sys.argv[1])
from refnet.ipam import Ipam
from refnet.store.etcd import Etcd
endpoint, node, name = sys.argv[2:]
ipam = Ipam(Etcd([endpoint]), node)
for i in range(10):
    print(ipam.auto_assign(f"net.{name}-{i}", {"node": node}))
    if i % 2:
        ipam.release_handle(f"net.{name}-{i}")
"""


def test_processes_that_take_and_give_at_once_leave_straight_books(store: Etcd, etcd_endpoint: str) -> None:
    add_pool(store, "10.65.0.0/24")
    command = [sys.executable, "-ISEc", WORKER, str(CHECKOUT), etcd_endpoint]
    processes = [
        subprocess.Popen([*command, f"node{n % 3}", f"p{n}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for n in range(9)
    ]
    ends = [process.communicate(timeout=30) for process in processes]
    assert [(process.returncode, end[1]) for process, end in zip(processes, ends, strict=True)] == [(0, b"")] * 9
    given, _ = books(store)
    addresses = [address for held in given.values() for address in held]
    assert len(addresses) == len(set(addresses)) == 45
    assert store.get(handle_key("net.p0-1")) is None
