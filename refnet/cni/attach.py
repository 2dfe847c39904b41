"""ADD, DEL and CHECK of one interface of one pod. An ADD that fails takes back everything it did, in reverse."""

# pathlib costs 8 ms of start-up:
# ruff: noqa: PTH103, PTH120

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from refnet.cni import wiring
from refnet.cni.failure import NOT_AS_PROMISED, CniFailure
from refnet.cni.request import Attachment, Configuration
from refnet.errors import InvalidResource, RefnetError, StoreConflict
from refnet.ipam import Ipam
from refnet.model.address import IPAddress, read_address, single
from refnet.model.block import timestamp
from refnet.model.endpoint import WorkloadEndpoint
from refnet.model.keys import resource_key, workload_endpoint_key
from refnet.model.names import host_veth_name
from refnet.model.reading import API_VERSION
from refnet.store.etcd import Etcd, Stored

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any

    Result = dict[str, Any]
    Undo = list[tuple[str, Callable[[], object]]]

LOCK_FILE = "/var/run/calico/ipam.lock"
_LOCK_WAIT_S = 5
_DELETE_ATTEMPTS = 5
_ROUTES = {
    4: ({"dst": f"{wiring.GATEWAY}/32"}, {"dst": "0.0.0.0/0", "gw": str(wiring.GATEWAY)}),
    6: ({"dst": "::/0", "gw": str(wiring.GATEWAY6)},),
}


def add(pod: Attachment, conf: Configuration) -> Result:
    """Connect the pod; the CNI result. Raises RefnetError, and then nothing of the attempt is left."""
    node, mtu_bytes = conf.node(), conf.mtu_bytes()
    store = Etcd(conf.etcd_endpoints)
    undo: Undo = []
    try:
        return _add(pod, conf, store, node, mtu_bytes, undo)
    except BaseException as error:
        left = _take_back(undo)
        if left and isinstance(error, RefnetError):
            error.hint = "; ".join(filter(None, (error.hint, *left)))
        raise
    finally:
        store.close()


def _add(pod: Attachment, conf: Configuration, store: Etcd, node: str, mtu_bytes: int, undo: Undo) -> Result:
    ipam, handle = Ipam(store, node), handle_of(pod, conf)
    host, rank = _free_host_name(pod, store, node)
    with _host_lock():
        addresses = _take_addresses(ipam, handle, pod, conf, undo)
    wiring.create_veth(host, pod.netns, pod.ifname, mtu_bytes, [address.version for address in addresses])
    undo.append((f"interface {host} stays", lambda: wiring.remove_link(host)))
    wiring.raise_host_end(host, addresses)
    mac = wiring.raise_pod_end(pod.netns, pod.ifname, addresses, forward=conf.allow_ip_forwarding, rank=rank)
    endpoint = WorkloadEndpoint(
        name=pod.endpoint_name(node),
        namespace=pod.namespace,
        node=node,
        orchestrator=pod.orchestrator,
        endpoint=pod.ifname,
        container_id=pod.container_id,
        interface=host,
        addresses=addresses,
        mac=mac,
        pod=pod.pod,
        workload="" if pod.pod else pod.container_id,
        profiles=_profiles(pod, conf),
        labels=conf.labels,
        ports=conf.ports,
    )
    if conf.policy_type != "k8s":
        _make_network_profile(store, conf.network)
    key = workload_endpoint_key(endpoint.namespace, endpoint.name)
    undo.append((f"{key} stays", lambda: _forget_endpoint(store, key, pod.container_id)))
    store.put(key, endpoint.to_resource())
    return _result(pod, conf, endpoint, mtu_bytes)


def delete(pod: Attachment, conf: Configuration) -> None:
    """Disconnect the pod and release its address, whatever of it is there: what is gone already is fine.

    The interface goes even when the store cannot be reached; that error comes afterwards.
    """
    try:
        node = conf.node()
    except CniFailure:
        node = ""  # the agent has never run here, so there is no endpoint either
    store = Etcd(conf.etcd_endpoints)
    trouble: list[RefnetError] = []
    try:
        host = "" if pod.pod else pod.host_veth
        try:
            key = workload_endpoint_key(pod.namespace, pod.endpoint_name(node))
            endpoint = _forget_endpoint(store, key, pod.container_id) if node else None
            host = endpoint.interface if endpoint else host
        except RefnetError as error:
            trouble.append(error)
        try:
            _unplug(pod, host)
        except RefnetError as error:
            trouble.append(error)
        with _host_lock():
            Ipam(store, node).release_handle(handle_of(pod, conf), interface=pod.ifname)
    except RefnetError as error:
        trouble.append(error)
    finally:
        store.close()
    if trouble:
        raise trouble[0]


def check(pod: Attachment, conf: Configuration) -> None:
    """Compare pod, node and store with prevResult. Raises CniFailure, code 104, naming every difference."""
    node, previous = conf.node(), conf.previous or {}
    host, mac, addresses = _promised(pod, previous)
    faults: list[str] = []
    store = Etcd(conf.etcd_endpoints)
    try:
        faults += wiring.faults(host, pod.netns, pod.ifname, mac, addresses)
        faults += _allocation_faults(store, handle_of(pod, conf), addresses)
        kept = store.get(workload_endpoint_key(pod.namespace, pod.endpoint_name(node)))
    finally:
        store.close()
    endpoint = _endpoint(kept)
    if endpoint is None or endpoint.container_id != pod.container_id or set(endpoint.addresses) != set(addresses):
        faults.append(f"workload endpoint {pod.endpoint_name(node)}: missing, or of another container or address")
    if faults:
        raise CniFailure(NOT_AS_PROMISED, "; ".join(dict.fromkeys(faults)))


def handle_of(pod: Attachment, conf: Configuration) -> str:
    """Under what the addresses of a container are filed; which interface has which, their attributes say."""
    return f"{conf.network}.{pod.container_id}"


def _take_addresses(ipam: Ipam, handle: str, pod: Attachment, conf: Configuration, undo: Undo) -> tuple[IPAddress, ...]:
    """One address of each family that is assigned, or the one that the pod asks for."""
    attributes = {"node": ipam.node, "timestamp": timestamp(), "interface": pod.ifname, "network": conf.network}
    if pod.pod:
        attributes.update(pod=pod.pod, namespace=pod.namespace)
    taken: list[IPAddress] = []
    for version, pools in conf.pools.items() if not pod.wanted_address else ():
        address = ipam.auto_assign(handle, attributes, pools=pools, version=version)
        undo.append((f"address {address} stays allocated", _release(ipam, address, handle)))
        taken.append(address)
    if pod.wanted_address:
        taken.append(ipam.assign(pod.wanted_address, handle, attributes))
        undo.append((f"address {taken[0]} stays allocated", _release(ipam, taken[0], handle)))
    return tuple(taken)


def _release(ipam: Ipam, address: IPAddress, handle: str) -> Callable[[], object]:
    return lambda: ipam.release_address(address, handle)


def _free_host_name(pod: Attachment, store: Etcd, node: str) -> tuple[str, int]:
    """The name for the node's end, free to use (a leftover of that name goes), and how many interfaces the pod has.

    A pod's second interface would get the name of its first (only pod or container go into it); where the first one
    is there, the second one's name is made of its own name as well.
    """
    host = pod.host_veth
    if not wiring.exists(host):
        return host, 0
    wiring.refuse_if_in_pod(pod.netns, pod.ifname)
    prefix = workload_endpoint_key(pod.namespace, pod.endpoint_name(node).removesuffix(pod.ifname.replace("-", "--")))
    siblings = [e for e in map(_endpoint, store.prefix(prefix)[0].values()) if e and e.endpoint != pod.ifname]
    siblings = [e for e in siblings if e.container_id == pod.container_id]
    if any(e.interface == host for e in siblings):
        host = host_veth_name(pod.namespace, f"{pod.workload}.{pod.ifname}")
    wiring.remove_link(host)
    return host, len(siblings)


def _profiles(pod: Attachment, conf: Configuration) -> tuple[str, ...]:
    if conf.policy_type == "k8s":
        return (f"kns.{pod.namespace}", f"ksa.{pod.namespace}.default")
    return (conf.network,)


def _make_network_profile(store: Etcd, network: str) -> None:
    """Where no Kubernetes keeps profiles, the network's own one: its pods may talk to each other. Made once, then its
    owner's to change."""
    ingress = [{"action": "Allow", "source": {"selector": f"has({network})"}}]
    spec = {"ingress": ingress, "egress": [{"action": "Allow"}], "labelsToApply": {network: ""}}
    profile = {"apiVersion": API_VERSION, "kind": "Profile", "metadata": {"name": network}, "spec": spec}
    with contextlib.suppress(StoreConflict):
        store.create(resource_key("profiles", network), profile)


def _result(pod: Attachment, conf: Configuration, endpoint: WorkloadEndpoint, mtu_bytes: int) -> Result:
    """The CNI result in the asked version, behind what earlier plugins of the chain have done."""
    previous = conf.previous or {}
    before = list(previous.get("interfaces") or ())
    inside: dict[str, Any] = {"name": pod.ifname, "mac": endpoint.mac, "sandbox": pod.netns}
    if mtu_bytes:
        inside["mtu"] = mtu_bytes
    given = [{"interface": len(before) + 1, "address": str(single(address))} for address in endpoint.addresses]
    if conf.version in ("0.3.1", "0.4.0"):
        given = [{**ip, "version": str(a.version)} for ip, a in zip(given, endpoint.addresses, strict=True)]
    routes = [route for address in endpoint.addresses for route in _ROUTES[address.version]]
    return {
        "cniVersion": conf.version,
        "interfaces": [*before, {"name": endpoint.interface, "mac": wiring.HOST_MAC}, inside],
        "ips": [*(previous.get("ips") or ()), *given],
        "routes": [*(previous.get("routes") or ()), *routes],
        "dns": dict(conf.dns or previous.get("dns") or {}),
    }


def _promised(pod: Attachment, previous: Mapping[str, Any]) -> tuple[str, str, list[IPAddress]]:
    """Host interface, MAC and addresses of this attachment according to prevResult."""
    try:
        interfaces = list(previous["interfaces"])
        own = next(i for i, x in enumerate(interfaces) if x["name"] == pod.ifname and x.get("sandbox"))
        hosts = [x["name"] for x in interfaces if not x.get("sandbox") and str(x["name"]).startswith("cali")]
        ips = [ip["address"] for ip in previous["ips"] if ip.get("interface", own) == own]
        addresses = [read_address(address.partition("/")[0]) for address in ips]
        host = hosts[-1]
    except (KeyError, IndexError, StopIteration, TypeError, ValueError, AttributeError) as error:
        legal = f"a result with interfaces and ips for {pod.ifname}"
        raise CniFailure(7, f"prevResult: does not describe {pod.ifname}; legal: {legal}") from error
    if not addresses:
        raise CniFailure(7, f"prevResult.ips: no address for {pod.ifname}")
    return host, str(interfaces[own].get("mac") or ""), addresses


def _allocation_faults(store: Etcd, handle: str, addresses: Sequence[IPAddress]) -> list[str]:
    """Whether the addresses are still allocated to the handle, in their blocks."""
    owned = Ipam(store, "").addresses_of(handle)
    return [f"{address}: is not allocated to {handle}" for address in addresses if address not in owned]


def _forget_endpoint(store: Etcd, key: str, container_id: str) -> WorkloadEndpoint | None:
    """Delete the endpoint if it is this container's; what it was. A newer container's is left alone."""
    for _ in range(_DELETE_ATTEMPTS):
        kept = store.get(key)
        endpoint = _endpoint(kept)
        if kept is None or endpoint is None or endpoint.container_id != container_id:
            return None
        try:
            store.delete(key, kept.revision)
        except StoreConflict:
            continue
        return endpoint
    raise StoreConflict(f"etcd: delete {key}: changed {_DELETE_ATTEMPTS} times meanwhile")


def _endpoint(kept: Stored | None) -> WorkloadEndpoint | None:
    try:
        return WorkloadEndpoint.from_resource(kept.value) if kept else None
    except InvalidResource:
        return None  # nothing of ours: we would not have written it


def _unplug(pod: Attachment, host: str) -> None:
    """Remove the cable: by the node's end where that is known to be this container's, else by the pod's."""
    if host and wiring.exists(host):
        wiring.remove_link(host)
    elif pod.netns and wiring.is_namespace(pod.netns):
        wiring.remove_from_pod(pod.netns, pod.ifname)


def _take_back(undo: Undo) -> list[str]:
    """Undo in reverse, all of it; what could not be undone, in words."""
    left = []
    for words, step in reversed(undo):
        try:
            step()
        except RefnetError as error:
            left.append(f"{words}: {error.message}")
    return left


@contextlib.contextmanager
def _host_lock() -> Iterator[None]:
    """Line up the plugins of this node, so that they do not race each other in the store. Best effort: correctness
    rests on the store's compare-and-swap alone, so a lock that cannot be had is done without."""
    import fcntl
    import os
    import signal

    def give_up(*_: object) -> None:
        raise TimeoutError

    try:
        os.makedirs(os.path.dirname(LOCK_FILE), exist_ok=True)
        lock = os.open(LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        before = signal.signal(signal.SIGALRM, give_up)
        signal.alarm(_LOCK_WAIT_S)
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
            signal.alarm(0)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        yield
    finally:
        os.close(lock)
