"""get, apply, create, replace, delete: what they do in the store, and what they say afterwards."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from refnet.ctl.documents import Document
from refnet.ctl.pools import refuse_bad_pools
from refnet.ctl.tables import columns
from refnet.errors import AlreadyExists, NotFound, RefnetError, StoreConflict
from refnet.ipam.removal import release_node, release_pool
from refnet.model.bgp import DEFAULT_AS
from refnet.model.keys import NODES, POOLS, RESOURCES, bgp_configuration_key, resource_key
from refnet.model.kinds import Kind
from refnet.model.names import printable
from refnet.model.pool import Pool
from refnet.model.reading import API_VERSION
from refnet.store.etcd import Etcd, Stored

_ATTEMPTS = 10

Row = Mapping[str, str]


class Partial(RefnetError):
    """Some documents of a manifest were done before one was refused."""


def get(store: Etcd, kind: Kind, name: str, namespace: str) -> list[dict[str, Any]]:
    """The resources of a kind, by name; all of them without a name. Raises NotFound for a name that is none."""
    if name:
        stored = store.get(_key(kind, name, namespace))
        if stored is None:
            raise NotFound(f"resource does not exist: {kind.name}({_full(kind, name, namespace)})")
        return [_with_revision(stored)]
    prefix = f"{RESOURCES}{kind.plural}/" + (f"{namespace}/" if kind.namespaced and namespace else "")
    return [_with_revision(stored) for _, stored in sorted(store.prefix(prefix)[0].items())]


def write(store: Etcd, verb: str, documents: Sequence[Document], *, skip_existing: bool = False) -> str:
    """apply, create or replace them all; one sentence on it. What is wrong with a pool among others is found first."""
    refuse_bad_pools(store, [d.value for d in documents if isinstance(d.value, Pool)])
    past = {"apply": "applied", "create": "created", "replace": "replaced"}[verb]
    kinds = [document.kind.name for document in documents]
    done = 0
    try:
        for document in documents:
            with contextlib.suppress(*([AlreadyExists] if skip_existing else [])):
                _write_one(store, verb, document)
            done += 1
    except RefnetError as error:
        raise _partly(error, done, kinds, past) from error
    return _sentence(kinds, past)


def delete(store: Etcd, targets: Sequence[tuple[Kind, str, str]], *, skip_missing: bool = False) -> str:
    """Delete by kind, name, namespace; one sentence on it. A node or a pool gives its blocks back first."""
    kinds = [kind.name for kind, _, _ in targets]
    done = 0
    try:
        for kind, name, namespace in targets:
            with contextlib.suppress(*([NotFound] if skip_missing else [])):
                _delete_one(store, kind, name, namespace)
            done += 1
    except RefnetError as error:
        raise _partly(error, done, kinds, "deleted") from error
    return _sentence(kinds, "deleted")


def target_of(document: Document) -> tuple[Kind, str, str]:
    """What a manifest's resource is called."""
    namespace = document.value.to_resource()["metadata"].get("namespace", "")
    return document.kind, document.value.name, namespace


def cluster_as(store: Etcd) -> str:
    """The AS number of nodes that have none of their own."""
    stored = store.get(bgp_configuration_key())
    spec = stored.value.get("spec") if stored and isinstance(stored.value, Mapping) else None
    return (_text(spec, "asNumber") if isinstance(spec, Mapping) else "") or str(DEFAULT_AS)


def rendered(
    found: Sequence[dict[str, Any]],
    kind: Kind,
    form: str,
    *,
    single: bool,
    namespaces: bool = False,
    as_number: str = str(DEFAULT_AS),
) -> str:
    """As yaml, json, name or a table (wide or not). `as_number` is that of nodes without one, shown in parentheses."""
    if form == "name":
        return "".join(f"{printable(str(resource['metadata']['name']))}\n" for resource in found)
    if form in ("yaml", "json"):
        listing = {"apiVersion": API_VERSION, "kind": f"{kind.name}List", "items": list(found)}
        document = found[0] if single else listing
        return yaml.safe_dump(document) if form == "yaml" else json.dumps(document, indent=2) + "\n"
    names, cells = _TABLES[kind.name][form == "wide"], [_cells(kind, resource, as_number) for resource in found]
    if namespaces and kind.namespaced:
        names = ("NAMESPACE", *names)
    return columns(names, [[row[name] for name in names] for row in cells])


def _write_one(store: Etcd, verb: str, document: Document) -> None:
    kind, name, namespace = target_of(document)
    key, full = _key(kind, name, namespace), _full(kind, name, namespace)
    wanted = _merged(document.written, document.value.to_resource())
    asked = str(wanted["metadata"].pop("resourceVersion", ""))
    for _ in range(_ATTEMPTS):
        present = store.get(key)
        if present is None and verb == "replace":
            raise NotFound(f"resource does not exist: {kind.name}({full})")
        if present is not None and verb == "create":
            raise AlreadyExists(f"resource already exists: {kind.name}({full})")
        if present and asked and asked != str(present.revision):
            hint = "get it again, make the change in that, apply it"
            raise StoreConflict(f"update conflict: {kind.name}({full}): changed since revision {asked}", hint=hint)
        stamped = _stamped(wanted, present)
        try:
            if present is None:
                store.create(key, stamped)
            else:
                store.update(key, stamped, present.revision)
        except StoreConflict:
            continue
        return
    raise StoreConflict(f"update conflict: {kind.name}({full}): changed {_ATTEMPTS} times meanwhile")


def _delete_one(store: Etcd, kind: Kind, name: str, namespace: str) -> None:
    key, full = _key(kind, name, namespace), _full(kind, name, namespace)
    for _ in range(_ATTEMPTS):
        stored = store.get(key)
        if stored is None:
            raise NotFound(f"resource does not exist: {kind.name}({full})")
        if key.startswith(NODES):
            release_node(store, name)
        try:
            store.delete(key, release_pool(store, stored) if key.startswith(POOLS) else None)
        except StoreConflict:
            continue
        return
    raise StoreConflict(f"update conflict: {kind.name}({full}): changed {_ATTEMPTS} times meanwhile")


def _partly(error: RefnetError, done: int, kinds: Sequence[str], past: str) -> RefnetError:
    if not done:
        return error
    noun = f"'{kinds[0]}' " if len(set(kinds)) == 1 else ""
    message = f"Partial success: {past} the first {done} out of {len(kinds)} {noun}resources\n{error.message}"
    return Partial(message, hint=error.hint)


def _sentence(kinds: Sequence[str], past: str) -> str:
    noun = f"'{kinds[0]}' " if len(set(kinds)) == 1 else ""
    return f"Successfully {past} {len(kinds)} {noun}resource(s)\n"


def _key(kind: Kind, name: str, namespace: str) -> str:
    return resource_key(kind.plural, name, (namespace or "default") if kind.namespaced else "")


def _full(kind: Kind, name: str, namespace: str) -> str:
    return f"{namespace or 'default'}/{name}" if kind.namespaced else name


def _with_revision(stored: Stored) -> dict[str, Any]:
    resource = dict(stored.value) if isinstance(stored.value, Mapping) else {"spec": {}}
    metadata = {"name": stored.key.rpartition("/")[2], **_mapping(resource.get("metadata"))}
    return {**resource, "metadata": {**metadata, "resourceVersion": str(stored.revision)}}


def _merged(written: Mapping[str, Any], understood: Mapping[str, Any]) -> dict[str, Any]:
    """What was written, with defaults filled in: fields that have no effect here are kept for others."""
    out = dict(written)
    for name, value in understood.items():
        before = out.get(name)
        out[name] = _merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return out


def _stamped(wanted: Mapping[str, Any], present: Stored | None) -> dict[str, Any]:
    """With the identity that a resource keeps for life."""
    fresh = {"uid": str(uuid.uuid4()), "creationTimestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    before = _mapping(_mapping(present.value).get("metadata")) if present else {}
    kept = {field: before[field] for field in fresh if field in before}
    return {**wanted, "metadata": {**fresh, **wanted["metadata"], **kept}}


_TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "IPPool": (
        ("NAME", "CIDR", "SELECTOR"),
        ("NAME", "CIDR", "NAT", "IPIPMODE", "VXLANMODE", "DISABLED", "DISABLEBGPEXPORT", "SELECTOR"),
    ),
    "KubeControllersConfiguration": (("NAME",), ("NAME",)),
    "IPReservation": (("NAME", "CIDRS"), ("NAME", "CIDRS")),
    "IPAMConfiguration": (
        ("NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS", "MAXBLOCKSPERHOST"),
        ("NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS", "MAXBLOCKSPERHOST"),
    ),
    "Node": (("NAME",), ("NAME", "ASN", "IPV4", "IPV6")),
    "BGPFilter": (("NAME",), ("NAME",)),
    "BGPPeer": (("NAME", "PEERIP", "NODE", "ASN"), ("NAME", "PEERIP", "NODE", "ASN")),
    "BGPConfiguration": (
        ("NAME", "LOGSEVERITY", "MESHENABLED", "ASNUMBER"),
        ("NAME", "LOGSEVERITY", "MESHENABLED", "ASNUMBER"),
    ),
    "FelixConfiguration": (("NAME",), ("NAME",)),
    "NetworkPolicy": (("NAME",), ("NAME", "ORDER", "SELECTOR", "TIER")),
    "GlobalNetworkPolicy": (("NAME",), ("NAME", "ORDER", "SELECTOR", "TIER")),
    "Profile": (("NAME",), ("NAME", "LABELS")),
    "NetworkSet": (("NAME",), ("NAME", "NETS")),
    "GlobalNetworkSet": (("NAME",), ("NAME", "NETS")),
    "Tier": (("NAME", "ORDER"), ("NAME", "ORDER", "DEFAULTACTION")),
    "HostEndpoint": (("NAME", "NODE"), ("NAME", "NODE", "INTERFACE", "IPS", "PROFILES")),
    "WorkloadEndpoint": (
        ("WORKLOAD", "NODE", "NETWORKS", "INTERFACE"),
        ("NAME", "WORKLOAD", "NODE", "NETWORKS", "INTERFACE", "PROFILES", "NATS"),
    ),
}


def _cells(kind: Kind, resource: Mapping[str, Any], as_number: str) -> Row:
    """Every column of the kind's tables. Resources of other programs are shown as far as they go."""
    metadata, spec = resource["metadata"], _mapping(resource.get("spec"))
    bgp = _mapping(spec.get("bgp"))
    cells = {"NAME": _text(metadata, "name"), "NAMESPACE": _text(metadata, "namespace") or "default"}
    if kind.name == "IPPool":
        fields = {"NAT": "natOutgoing", "DISABLED": "disabled", "DISABLEBGPEXPORT": "disableBGPExport"}
        cells |= {name: str(bool(spec.get(field))).lower() for name, field in fields.items()}
        cells |= {"CIDR": _text(spec, "cidr"), "SELECTOR": _text(spec, "nodeSelector") or "(global)"}
        cells |= {"IPIPMODE": _text(spec, "ipipMode") or "Never", "VXLANMODE": _text(spec, "vxlanMode") or "Never"}
    elif kind.name == "IPReservation":
        cells |= {"CIDRS": _joined(spec, "reservedCIDRs")}
    elif kind.name == "IPAMConfiguration":
        cells |= {"STRICTAFFINITY": str(bool(spec.get("strictAffinity"))).lower()}
        cells |= {"AUTOALLOCATEBLOCKS": str(bool(spec.get("autoAllocateBlocks", True))).lower()}
        cells |= {"MAXBLOCKSPERHOST": _text(spec, "maxBlocksPerHost") or "0"}
    elif kind.name == "Node":
        cells |= {"ASN": _text(bgp, "asNumber") or f"({as_number})"}
        cells |= {"IPV4": _text(bgp, "ipv4Address"), "IPV6": _text(bgp, "ipv6Address")}
    elif kind.name == "BGPPeer":
        cells |= {"PEERIP": _text(spec, "peerIP"), "ASN": _text(spec, "asNumber") or "0"}
        cells |= {"NODE": _text(spec, "node") or _text(spec, "nodeSelector") or "(global)"}
    elif kind.name == "BGPConfiguration":
        mesh = spec.get("nodeToNodeMeshEnabled", True)
        cells |= {"LOGSEVERITY": _text(spec, "logSeverityScreen") or "Info", "MESHENABLED": str(bool(mesh)).lower()}
        cells |= {"ASNUMBER": _text(spec, "asNumber") or str(DEFAULT_AS)}
    elif kind.name != "WorkloadEndpoint":
        cells |= _policy_cells(spec)
    else:
        cells |= {"WORKLOAD": _text(spec, "pod") or _text(spec, "workload"), "NODE": _text(spec, "node")}
        cells |= {"NETWORKS": _joined(spec, "ipNetworks"), "INTERFACE": _text(spec, "interfaceName")}
        cells |= {"PROFILES": _joined(spec, "profiles"), "NATS": ""}
    return cells


def _policy_cells(spec: Mapping[str, Any]) -> Row:
    """Every column of the kinds that policy is made of."""
    labels = _mapping(spec.get("labelsToApply"))
    return {
        "ORDER": _text(spec, "order") or "<none>",
        "SELECTOR": _text(spec, "selector") or "all()",
        "TIER": _text(spec, "tier") or "default",
        "LABELS": ",".join(f"{name}={label}" for name, label in labels.items()),
        "NETS": _joined(spec, "nets"),
        "DEFAULTACTION": _text(spec, "defaultAction") or "Deny",
        "NODE": _text(spec, "node"),
        "INTERFACE": _text(spec, "interfaceName"),
        "IPS": _joined(spec, "expectedIPs"),
        "PROFILES": _joined(spec, "profiles"),
    }


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return "" if value is None else str(value)


def _joined(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return ",".join(map(str, value)) if isinstance(value, list) else _text(fields, name)


def _mapping(value: object) -> Mapping[str, Any]:
    """Empty where there is none: what others have written may be anything."""
    return value if isinstance(value, Mapping) else {}
