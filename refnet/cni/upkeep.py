"""STATUS and GC: what a runtime asks of the whole network on this node rather than of one pod (CNI spec 1.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from refnet.cni import attach
from refnet.cni.failure import UNAVAILABLE, CniFailure
from refnet.cni.request import Attachment, Configuration
from refnet.errors import InvalidResource, RefnetError
from refnet.ipam import Ipam
from refnet.ipam.claims import all_blocks
from refnet.model.block import Block
from refnet.model.endpoint import WorkloadEndpoint
from refnet.model.keys import POOLS, WORKLOAD_ENDPOINTS, BlockKey, parse_key
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
    prefix, found = f"{conf.network}.", set[Attached]()
    for key, kept in all_blocks(store).items():
        place = parse_key(key)
        if not isinstance(place, BlockKey):
            continue
        for owner in Block.from_value(place.cidr, kept.value).owners.values():
            about = dict(owner.attributes)
            if owner.handle.startswith(prefix) and about.get("node") == node and about.get("interface"):
                found.add((owner.handle.removeprefix(prefix), about["interface"]))
    return found


def _endpoints(store: Etcd, node: str) -> Iterator[Attachment]:
    """The attachments that are registered for this node, as the DEL of each would name them."""
    for kept in store.prefix(WORKLOAD_ENDPOINTS)[0].values():
        try:
            one = WorkloadEndpoint.from_resource(kept.value)
        except InvalidResource:
            continue  # nothing of ours
        if one.node == node:
            yield Attachment(one.container_id, "", one.endpoint, one.pod, one.namespace)
