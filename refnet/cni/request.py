"""What the runtime asks: the CNI_* environment and the configuration on stdin, checked (CNI spec, section 2)."""

# pathlib costs 8 ms of start-up:
# ruff: noqa: PTH116, PTH123

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping

from refnet.cni.failure import CONFIGURATION, DECODING, ENVIRONMENT, INCOMPATIBLE_VERSION, TRY_LATER, CniFailure
from refnet.errors import InvalidResource
from refnet.model.address import FAMILIES, FAMILY_WORDS, IPAddress, read_address
from refnet.model.names import host_veth_name, host_veth_name_of_container, workload_endpoint_name
from refnet.model.port import NamedPort, read_named_ports
from refnet.model.reading import NAME_PATTERN, Reader
from refnet.model.value import value
from refnet.store.http import split_endpoint

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
COMMANDS = ("ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION")
OF_NO_POD = ("GC", "STATUS", "VERSION")
_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
NODENAME_FILE = "/var/lib/calico/nodename"
MTU_FILE = "/var/lib/calico/mtu"
LOG_LEVELS = ("debug", "info", "warning", "error")
MAX_MTU, MIN_MTU = 65535, 68

_IDENTIFIER = r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*"
_LABEL = r"[a-zA-Z0-9_./-]{1,512}"
_REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
}


@value
class Attachment:
    """Which interface of which pod."""

    container_id: str
    netns: str
    ifname: str
    pod: str = ""
    namespace: str = "default"
    wanted_address: IPAddress | None = None

    @property
    def host_veth(self) -> str:
        return host_veth_name(self.namespace, self.pod) if self.pod else host_veth_name_of_container(self.container_id)

    @property
    def orchestrator(self) -> str:
        return "k8s" if self.pod else "cni"

    @property
    def workload(self) -> str:
        return self.pod or self.container_id

    def endpoint_name(self, node: str) -> str:
        return workload_endpoint_name(node, self.orchestrator, self.workload, self.ifname)


@value
class Configuration:
    """The plugin's part of the conflist, as it arrives on stdin.

    `mtu` 0 means: what the agent has found. `pools` has an entry for each family of which a pod gets an address: the
    pools that it may come from, none for any.
    """

    version: str
    network: str
    etcd_endpoints: tuple[str, ...]
    nodename: str
    nodename_file: str
    nodename_file_optional: bool
    mtu: int
    pools: Mapping[int, tuple[str, ...]]
    allow_ip_forwarding: bool
    policy_type: str
    labels: Mapping[str, str]
    ports: tuple[NamedPort, ...]
    log_level: str
    log_file: str
    dns: Mapping[str, Any] | None
    previous: Mapping[str, Any] | None
    valid_attachments: frozenset[tuple[str, str]]

    def node(self) -> str:
        """This node's name. Raises CniFailure (try later) when the agent has not written it yet."""
        if self.nodename:
            return self.nodename
        try:
            with open(self.nodename_file) as file:
                name = file.read().strip()
        except OSError as error:
            name, reason = "", error.strerror
        else:
            reason = "empty"
        if name:
            return name
        if self.nodename_file_optional:
            return os.uname().nodename.lower()
        hint = "is refnet-agent running on this node? It writes that file"
        raise CniFailure(TRY_LATER, f"node name: {self.nodename_file}: {reason}", hint=hint)

    def mtu_bytes(self) -> int:
        """The MTU for both ends of the veth; 0 (the kernel's default) when neither configuration nor agent says."""
        if self.mtu:
            return self.mtu
        try:
            with open(MTU_FILE) as file:
                text = file.read().strip()
        except FileNotFoundError:
            return 0
        if not text.isdecimal() or not MIN_MTU <= int(text) <= MAX_MTU:
            raise CniFailure(TRY_LATER, f"{MTU_FILE}: {text[:20]!r} is no MTU", hint="restart refnet-agent")
        return int(text)


def read_command(environment: Mapping[str, str]) -> str:
    command = environment.get("CNI_COMMAND", "")
    if command not in COMMANDS:
        raise CniFailure(ENVIRONMENT, f"CNI_COMMAND: {command or 'missing'}; legal: {', '.join(COMMANDS)}")
    return command


def read_attachment(command: str, environment: Mapping[str, str]) -> Attachment:
    """Check every variable of the command at once. Raises CniFailure, code 4, naming each wrong one."""
    container_id, ifname = environment.get("CNI_CONTAINERID", ""), environment.get("CNI_IFNAME", "")
    wrong = [f"{name}: missing" for name in _REQUIRED[command] if not environment.get(name)]
    if container_id and not re.fullmatch(_IDENTIFIER, container_id):
        wrong.append(f"CNI_CONTAINERID: {container_id[:80]!r} has characters other than letters, digits, _ . -")
    if ifname and (not re.fullmatch(r"[^/:\s]{1,15}", ifname) or ifname in (".", "..")):
        wrong.append(f"CNI_IFNAME: {ifname[:80]!r} is no interface name of at most 15 characters")
    arguments = _read_arguments(environment.get("CNI_ARGS", ""), wrong)
    if command == "ADD" and not re.fullmatch(NAME_PATTERN, arguments.get("K8S_POD_NAMESPACE") or "default"):
        wrong.append("CNI_ARGS: K8S_POD_NAMESPACE is no DNS name in lower case (RFC 1123)")
    wanted = _read_wanted_address(arguments, wrong)
    netns = environment.get("CNI_NETNS", "")
    if command != "DEL" and netns and (complaint := complain_about_netns(netns)):
        wrong.append(f"CNI_NETNS: {netns[:80]}: {complaint}")
    if wrong:
        raise CniFailure(ENVIRONMENT, "; ".join(wrong))
    pod = arguments.get("K8S_POD_NAME", "")
    namespace = arguments.get("K8S_POD_NAMESPACE", "") if pod else ""
    return Attachment(container_id, netns, ifname, pod, namespace or "default", wanted)


def read_json(text: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise CniFailure(DECODING, f"configuration on stdin: not JSON: {error}") from error
    if not isinstance(document, Mapping):
        raise CniFailure(DECODING, "configuration on stdin: not a JSON object")
    return document


def version_of(document: Mapping[str, Any]) -> str:
    """The version to answer in: the asked one if it is ours, else our newest."""
    version = document.get("cniVersion")
    return version if isinstance(version, str) and version in VERSIONS else VERSIONS[-1]


def read_configuration(command: str, document: Mapping[str, Any]) -> Configuration:
    """Raises CniFailure: code 1 for a version that is not ours, else 7 with every mistake at once."""
    version = document.get("cniVersion")
    if version not in VERSIONS:
        legal = ", ".join(VERSIONS)
        raise CniFailure(INCOMPATIBLE_VERSION, f"cniVersion: {json.dumps(version)}; supported: {legal}")
    since = _SINCE.get(command, VERSIONS[0])
    if VERSIONS.index(version) < VERSIONS.index(since):
        raise CniFailure(INCOMPATIBLE_VERSION, f"{command}: exists from cniVersion {since} on, this is {version}")
    reader = Reader(document)
    network = reader.text("name", required=True, pattern=_IDENTIFIER, legal="a name of letters, digits, _ . -")
    reader.choice("datastore_type", ("etcdv3",), "etcdv3")
    mtu = reader.integer("mtu", 0, 0, MAX_MTU)
    if 0 < mtu < MIN_MTU:
        reader.wrong("mtu", f"0 (automatic), or {MIN_MTU} to {MAX_MTU}")
    previous = document.get("prevResult")
    if command == "CHECK" and not isinstance(previous, Mapping):
        reader.wrong("prevResult", "the result of the ADD that is to be checked")
    configuration = Configuration(
        version=str(version),
        network=network,
        etcd_endpoints=_read_endpoints(reader),
        nodename=reader.text("nodename"),
        nodename_file=reader.text("nodename_file") or NODENAME_FILE,
        nodename_file_optional=reader.flag("nodename_file_optional", False),
        mtu=mtu,
        pools=_read_ipam(reader.child("ipam", required=True)),
        allow_ip_forwarding=reader.child("container_settings").flag("allow_ip_forwarding", False),
        policy_type=reader.child("policy").choice("type", ("k8s", ""), ""),
        labels=_read_labels(_about_pod(reader)),
        ports=read_named_ports(_about_pod(reader)),
        log_level=reader.text("log_level", "info").lower(),
        log_file=reader.text("log_file_path"),
        dns=reader.child("dns").fields or None,
        previous=previous if isinstance(previous, Mapping) else None,
        valid_attachments=_read_valid_attachments(reader) if command == "GC" else frozenset(),
    )
    if configuration.log_level not in LOG_LEVELS:
        reader.wrong("log_level", ", ".join(LOG_LEVELS))
    if reader.mistakes:
        invalid = InvalidResource("CNI configuration", reader.mistakes)
        raise CniFailure(CONFIGURATION, invalid.message)
    return configuration


def _about_pod(reader: Reader) -> Reader:
    """What the configuration says of this one pod, where no Kubernetes does (CNI conventions, `args`)."""
    return reader.child("args").child("org.projectcalico")


def _read_valid_attachments(reader: Reader) -> frozenset[tuple[str, str]]:
    """Container and interface of each that GC has to leave; to be told none is not the same as not to be told."""
    name = next((key for key in ("cni.dev/valid-attachments", "cni.dev/attachments") if key in reader.fields), "")
    if not name:
        reader.wrong("cni.dev/valid-attachments", "a list of {containerID, ifname}, which GC leaves alone")
        return frozenset()
    given = reader.mappings(name)
    return frozenset((one.text("containerID", required=True), one.text("ifname", required=True)) for one in given)


def _read_labels(about: Reader) -> Mapping[str, str]:
    labels = {}
    for pair in about.mappings("labels"):
        key = pair.text(
            "key", required=True, pattern=_LABEL, legal="a label's name, at most 512 letters, digits, _ . / -"
        )
        labels[key] = pair.text("value")
    return labels


def _read_endpoints(reader: Reader) -> tuple[str, ...]:
    legal = "http://HOST:PORT, several separated by commas"
    text = reader.text("etcd_endpoints", required=True, legal=legal)
    endpoints = tuple(part.strip() for part in text.split(",") if part.strip())
    for endpoint in endpoints:
        try:
            split_endpoint(endpoint)
        except InvalidResource as error:
            reader.wrong("etcd_endpoints", legal, error.mistakes[0].hint)
    return endpoints


def _read_ipam(ipam: Reader) -> dict[int, tuple[str, ...]]:
    """For each family that is assigned the pools it may come from."""
    if ipam.fields.get("type") != "calico-ipam":
        ipam.wrong("type", "calico-ipam")
    for name in ("subnet", "ranges"):
        if ipam.fields.get(name):
            ipam.wrong(name, "leave it out", "it belongs to host-local")
    pools = {}
    for family in FAMILIES:
        word = FAMILY_WORDS[family]
        given = ipam.fields.get(f"assign_{word}")
        is_assigned = str(family == 4 if given is None else given).lower()
        if is_assigned not in ("true", "false"):
            ipam.wrong(f"assign_{word}", '"true", "false"')
        named = ipam.texts(f"{word}_pools")
        if is_assigned == "true":
            pools[family] = named
    if not pools:
        ipam.wrong("assign_ipv4", '"true"', "a pod needs an address of one family at least")
    return pools


def _read_arguments(text: str, wrong: list[str]) -> dict[str, str]:
    arguments = {}
    for pair in filter(None, text.split(";")):
        key, equals, value = pair.partition("=")
        if not equals or not key:
            wrong.append(f"CNI_ARGS: {pair[:80]!r} is not of the form KEY=VALUE")
        arguments[key] = value
    return arguments


def _read_wanted_address(arguments: Mapping[str, str], wrong: list[str]) -> IPAddress | None:
    text = arguments.get("IP")
    if not text:
        return None
    try:
        return read_address(text)
    except ValueError:
        wrong.append(f"CNI_ARGS: IP={text[:80]} is no IP address")
        return None


def complain_about_netns(path: str) -> str:
    """Why that path is no namespace to attach to; empty if it is one."""
    try:
        there, here = os.stat(path), os.stat("/proc/self/ns/net")
    except OSError as error:
        return error.strerror or str(error)
    if there.st_dev != here.st_dev:  # every namespace file lies on the one nsfs
        return "is not a network namespace"
    return "is the node's own network namespace" if there.st_ino == here.st_ino else ""
