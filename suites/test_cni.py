"""The life of an attachment: what DEL takes away, what a failed ADD leaves, what CHECK notices.

Each test makes a pod of its own and takes it away again. Source: CNI specification 1.0.0, section 2.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tunlab.check import claims
from tunlab.check.cell import LabCell
from tunlab.check.guest import document
from tunlab.check.requirement import requirement
from tunlab.errors import WorldError
from tunlab.lab.topology import Pod
from tunlab.live.lab import Workload
from tunlab.node.tables import Tables, read_tables
from tunlab.runtime.cni import PluginFailed, Sandbox

GUEST = "guestpod"


def _now(cell: LabCell, node: str) -> Tables:
    return read_tables(cell.host(node), node)


@contextmanager
def _guest(cell: LabCell) -> Iterator[Workload]:
    """One more pod on the first node, gone afterwards whatever happens."""
    live = cell.live
    workload = live.launch(Pod(GUEST, cell.topology.nodes[0].name))
    try:
        yield workload
    finally:
        live.runtime.delete(workload.sandbox, check=False)
        live.runtime.drop_network(GUEST)
        live.workloads.pop(GUEST, None)


def _same_as_before(cell: LabCell, before: Tables, allocations: set[object]) -> None:
    node = before.place
    after = _now(cell, node)
    claims.same_set(node, "devices after", set(after.links), set(before.links))
    claims.same_set(node, "routes after", after.routes, before.routes)
    claims.same_set(node, "addresses after", after.addresses, before.addresses)
    claims.same_set("store", "allocations after", set(cell.live.installation.read_ipam().allocations), allocations)


@requirement("CNI-01", source="CNI specification 1.0.0, section 2, DEL")
def test_del_takes_everything_away(cell: LabCell) -> None:
    """DEL removes the pod's device, its route on the node, its address and its allocation."""
    before = _now(cell, cell.topology.nodes[0].name)
    allocations: set[object] = set(cell.live.installation.read_ipam().allocations)
    with _guest(cell) as guest:
        there = _now(cell, guest.node)
        assert guest.host_device in there.links, f"{guest.node}: ADD made no device {guest.host_device}"
        cell.live.runtime.delete(guest.sandbox)
        left = cell.host(GUEST).run("ip -o link show eth0")
        assert left.rc != 0, f"{GUEST}: eth0 is still there after DEL"
        _same_as_before(cell, before, allocations)


@requirement("CNI-02", source="CNI specification 1.0.0, section 2, DEL: plugins should complete without error")
def test_del_may_come_twice_and_without_its_namespace(cell: LabCell) -> None:
    """A second DEL succeeds, and so does one whose namespace is gone or was never named."""
    runtime = cell.live.runtime
    with _guest(cell) as guest:
        config = {**runtime.first_config(guest.node), "prevResult": dict(guest.result)}
        for _ in range(2):
            runtime.delete(guest.sandbox)
        runtime.drop_network(GUEST)
        for env in ({}, {"CNI_NETNS": ""}, {"CNI_NETNS": None}):
            done = runtime.call("DEL", guest.sandbox, config, env)
            assert done.rc == 0, f"{guest.node}: DEL with {env or 'a namespace that is gone'}: {done.out or done.err}"


@requirement("CNI-03", needs=("fixed-address",), source="CNI specification 1.0.0, section 4: clean up after failed ADD")
def test_an_add_that_fails_leaves_nothing(cell: LabCell) -> None:
    """ADD with an address that no pool has, and ADD into a namespace that is not there, fail and leave nothing."""
    node = cell.topology.nodes[0].name
    runtime = cell.live.runtime
    before = _now(cell, node)
    allocations: set[object] = set(cell.live.installation.read_ipam().allocations)
    stranger = Sandbox(GUEST, node, arguments={"IP": "203.0.113.7"})
    runtime.make_network(GUEST)
    untouched = set(read_tables(cell.host(GUEST), GUEST).links)  # loaded modules put devices into every namespace
    try:
        for what, sandbox, env in (
            ("an address of no pool", stranger, {}),
            ("a namespace that is not there", Sandbox(GUEST, node), {"CNI_NETNS": "/run/netns/nobody"}),
        ):
            done = runtime.call("ADD", sandbox, runtime.first_config(node), env)
            assert done.rc != 0, f"{node}: ADD with {what} succeeded: {done.out}"
            assert '"code"' in done.out, f"{node}: ADD with {what}: its error is no CNI error: {done.out!r}"
            _same_as_before(cell, before, allocations)
            inside = sorted(set(read_tables(cell.host(GUEST), GUEST).links) - untouched)
            assert not inside, f"{GUEST}: ADD with {what} left {', '.join(inside)}"
    finally:
        runtime.drop_network(GUEST)


@requirement("CNI-04", source="CNI specification 1.0.0, section 2, ADD: an existing interface name is an error")
def test_an_add_over_an_existing_interface_is_refused(cell: LabCell) -> None:
    """ADD for an interface name that the namespace already has is an error, and that interface stays as it is."""
    with _guest(cell) as guest:
        before = read_tables(cell.host(GUEST), GUEST)
        other = Sandbox(GUEST, guest.node, namespace="other")
        done = cell.live.runtime.call("ADD", other, cell.live.runtime.first_config(guest.node))
        cell.live.runtime.call("DEL", other, cell.live.runtime.first_config(guest.node), {"CNI_IFNAME": "eth9"})
        assert done.rc != 0, f"{guest.node}: ADD over {GUEST}'s eth0 succeeded"
        after = read_tables(cell.host(GUEST), GUEST)
        claims.same_set(GUEST, "addresses after", after.addresses, before.addresses)
        claims.same_set(GUEST, "routes after", after.routes, before.routes)


@requirement("CNI-05", needs=("check",), source="CNI specification 1.0.0, section 2, CHECK")
def test_check_notices_what_was_taken_away(cell: LabCell) -> None:
    """CHECK succeeds right after ADD, and fails once the pod's address is gone."""
    with _guest(cell) as guest:
        cell.live.runtime.check(guest.sandbox)
        done = cell.live.box.run(GUEST, ["ip", "addr", "flush", "dev", "eth0"], check=False)
        if done.rc != 0:
            raise WorldError(f"{GUEST}: take the address away: {done.err}")
        try:
            cell.live.runtime.check(guest.sandbox)
        except PluginFailed:
            return
        raise AssertionError(f"{guest.node}: CHECK of {GUEST} succeeds without its address")


@requirement("CNI-06", source="CNI specification 1.0.0, section 2, VERSION; section 5, Error")
def test_the_plugin_speaks_the_protocol(cell: LabCell) -> None:
    """VERSION lists the versions, a version from the future gets error 1, and a missing container id error 4."""
    node, runtime = cell.topology.nodes[0].name, cell.live.runtime
    sandbox, config = Sandbox(GUEST, node), runtime.first_config(node)
    runtime.make_network(GUEST)
    try:
        version = runtime.call("VERSION", sandbox, config)
        future = runtime.call("ADD", sandbox, {**config, "cniVersion": "99.0.0"})
        nameless = runtime.call("ADD", sandbox, config, {"CNI_CONTAINERID": None})
    finally:
        runtime.drop_network(GUEST)
    versions = document(version).get("supportedVersions", [])
    assert version.rc == 0, f"{node}: VERSION: exit code {version.rc}: {version.err}"
    assert config["cniVersion"] in versions, f"{node}: VERSION: {versions}, wanted {config['cniVersion']} among them"
    for what, done, code in (("version 99.0.0", future, 1), ("no container id", nameless, 4)):
        seen = (done.rc != 0, document(done).get("code"))
        assert seen == (True, code), (
            f"{node}: ADD with {what}: exit code {done.rc}, said {done.out!r}, wanted code {code}"
        )
