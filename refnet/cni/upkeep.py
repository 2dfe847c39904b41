"""STATUS and GC: what a runtime asks of the whole network on this node rather than of one pod (CNI spec 1.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from refnet.cni import attach
from refnet.cni.failure import UNAVAILABLE, CniFailure
from refnet.cni.request import Attachment, Configuration
from refnet.errors import InvalidResource, RefnetError
from refnet.ipam import Ipam
from refnet.ipam.claims import all_blocks, readable_blocks
from refnet.model.endpoint import WorkloadEndpoint
from refnet.model.keys import POOLS, WORKLOAD_ENDPOINTS
from refnet.store.etcd import Etcd

Attached = tuple[str, str]  # container id and interface


def status(conf: Configuration) -> None:
    """Whether an ADD could be served now. Raises CniFailure, code 50, saying why not."""
    try:
        conf.node()
        conf.mtu_bytes()
        store = Etcd(conf.etcd_endpoints)
        try:
            pools = store.prefix(POOLS)[0]
        finally:
            store.close()
    except RefnetError as error:
        raise CniFailure(UNAVAILABLE, error.message, hint=error.hint) from error
    if not pools:
        raise CniFailure(UNAVAILABLE, "no pool to take addresses from")


def collect(conf: Configuration) -> None:
    """Delete this network's attachments on this node that are not listed: endpoint, cable and address of each.

    An error about one does not keep the others; the first is raised at the end.
    """
    node, trouble = conf.node(), list[RefnetError]()
    store = Etcd(conf.etcd_endpoints)
    try:
        stale = _given(store, conf, node) - conf.valid_attachments
        for pod in _endpoints(store, node):
            if (pod.container_id, pod.ifname) in stale:
                _attempt(trouble, attach.delete, pod, conf)
        ipam = Ipam(store, node)
        for container, ifname in sorted(stale):  # also those whose endpoint was gone already
            handle = attach.handle_of(Attachment(container, "", ifname), conf)
            _attempt(trouble, lambda name, own: ipam.release_handle(name, interface=own), handle, ifname)
    finally:
        store.close()
    if trouble:
        raise trouble[0]


def _attempt(trouble: list[RefnetError], deed: Callable[..., object], *arguments: object) -> None:
    try:
        deed(*arguments)
    except RefnetError as error:
        trouble.append(error)


def _given(store: Etcd, conf: Configuration, node: str) -> set[Attached]:
    """To whom this network has given addresses on this node."""
    found = set[Attached]()
    for block, _ in readable_blocks(all_blocks(store)):
        for owner in block.owners.values():
            about = dict(owner.attributes)
            container = _container(owner.handle, about, conf.network)
            if container and about.get("node") == node and about.get("interface"):
                found.add((container, about["interface"]))
    return found


def _container(handle: str, about: Mapping[str, str], network: str) -> str:
    """Whose handle it is if that network gave it, else empty.

    Names of networks and containers may hold dots, so that the handle alone does not tell where the one ends. Where no
    network is written (as by Calico), only a container without a dot is sure to be ours.
    """
    container = handle.removeprefix(f"{network}.")
    if container == handle or about.get("network", network) != network:
        return ""
    return container if "network" in about or "." not in container else ""


def _endpoints(store: Etcd, node: str) -> Iterator[Attachment]:
    """The attachments that are registered for this node, as the DEL of each would name them."""
    for kept in store.prefix(WORKLOAD_ENDPOINTS)[0].values():
        try:
            one = WorkloadEndpoint.from_resource(kept.value)
        except InvalidResource:
            continue  # nothing of ours
        if one.node == node:
            yield Attachment(one.container_id, "", one.endpoint, one.pod, one.namespace)
