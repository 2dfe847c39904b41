"""The shape of a lab file, as pydantic models: the edge where people write. Also the JSON schema for their editors.

A leaf that is wrong is told once and then becomes None, a hole, so that the checks in `tunlab.lab.checks` still see
the rest of the file and all mistakes come out at once. That is why required leaves say `| None`, although nobody may
write nothing there.
"""

from __future__ import annotations

import json
import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, NetmaskValueError
from typing import Annotated, Any, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from tunlab.lab.mistakes import KeyPath, Mistake, meant, shown, written
from tunlab.lab.topology import BRIDGE, MODES, NODE_SPEAKERS, ROUTER_SPEAKERS, Mode

LONGEST_NAME = 11
NAME = r"^[a-z]([a-z0-9-]*[a-z0-9])?$"
# Names that `ip`, sysctl's conf tree, the bridge of a segment and the box itself already use.
# The last two are pods that the judge launches for itself.
RESERVED = ("all", "box", "default", "lo", BRIDGE, "bigpod", "guestpod")
AS_NUMBER_MAX = 4_294_967_295
# A hole is only for this module's second reading of a file; a person who writes nothing gets told.
HOLES_ALLOWED = {"holes": True}


def wrong(what: str, legal: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("lab", "{what}", {"what": what, "legal": legal, "hint": hint})


def _is_hole(value: object, info: ValidationInfo) -> bool:
    return value is None and info.context is HOLES_ALLOWED


def _name(value: object, info: ValidationInfo) -> object:
    if _is_hole(value, info):
        return value
    legal = f"a lower-case letter, then letters, digits and dashes; at most {LONGEST_NAME} characters"
    if not isinstance(value, str) or not re.fullmatch(NAME, value):
        raise wrong(f"{shown(value)}: not a name", legal, "such as node1, router2 or lan")
    if len(value) > LONGEST_NAME:
        hint = "devices are named after hosts, and the kernel holds 15 bytes for a device name"
        raise wrong(f"{shown(value)}: a name of {len(value)} characters", legal, hint)
    if value in RESERVED:
        raise wrong(f"{value}: a reserved name", legal, f"anything but {', '.join(RESERVED)}")
    return value


def _text(value: object, info: ValidationInfo) -> object:
    if _is_hole(value, info) or (isinstance(value, str) and value.strip()):
        return value
    raise wrong(f"{shown(value)}: not a text", "a text of one character or more", "put it in quotes")


def _label(value: object, info: ValidationInfo) -> object:
    if _is_hole(value, info) or (isinstance(value, str) and re.match(r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$", value)):
        return value
    legal = "lower-case letters, digits, dashes and dots; at most 63 characters"
    raise wrong(f"{shown(value)}: not a resource name", legal, "such as default-ipv4-ippool")


def _labels(value: object, info: ValidationInfo) -> object:
    if _is_hole(value, info):
        return value
    legal = "keys of letters, digits and _./- with a text behind each"
    if not isinstance(value, dict):
        raise wrong(f"{shown(value)}: not labels", legal, "such as {app: web}")
    for key, text in value.items():
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_./-]{0,250}[A-Za-z0-9])?", key):
            raise wrong(f"{shown(key)}: not a label's key", legal, "such as {app: web}")
        if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{0,63}", text):
            raise wrong(f"{key}: {shown(text)}: not a label's value", legal, "put numbers, yes and no in quotes")
    return value


def _address(value: object, info: ValidationInfo) -> object:
    if _is_hole(value, info):
        return value
    legal = "four numbers from 0 to 255 with dots between them"
    if isinstance(value, str):
        try:
            return IPv4Address(value)
        except AddressValueError:
            if re.match(r"^[0-9.]+/[0-9]+$", value):
                hint = f"write {value.partition('/')[0]}; the prefix length is the segment's"
                raise wrong(f"{shown(value)}: not an IPv4 address", legal, hint) from None
    raise wrong(f"{shown(value)}: not an IPv4 address", legal, "such as 192.168.1.10")


def _network(value: object, info: ValidationInfo) -> object:
    if _is_hole(value, info):
        return value
    legal = "an address and a prefix length, host bits all zero"
    if isinstance(value, str) and "/" in value:
        try:
            return IPv4Network(value)
        except (AddressValueError, NetmaskValueError):
            pass  # told below
        except ValueError:
            hint = f"did you mean {IPv4Network(value, strict=False)}?"
            raise wrong(f"{shown(value)}: has host bits set", legal, hint) from None
    raise wrong(f"{shown(value)}: not an IPv4 network", legal, "such as 192.168.1.0/24")


def _address6(value: object, info: ValidationInfo) -> object:
    if _is_hole(value, info):
        return value
    hint = "such as fd00:1::10"
    if isinstance(value, str):
        try:
            # A zone (fe80::1%eth0) belongs to a host, not to a network.
            if (address := IPv6Address(value)).scope_id is None:
                return address
        except AddressValueError:
            if re.match(r"^[0-9a-f:]+/[0-9]+$", value):
                hint = f"write {value.partition('/')[0]}; the prefix length is the segment's"
    raise wrong(f"{shown(value)}: not an IPv6 address", "eight groups of hexadecimal digits, or fewer and `::`", hint)


def _network6(value: object, info: ValidationInfo) -> object:
    if _is_hole(value, info):
        return value
    legal = "an IPv6 address and a prefix length, host bits all zero"
    if isinstance(value, str) and "/" in value:
        try:
            return IPv6Network(value)
        except (AddressValueError, NetmaskValueError):
            pass  # told below
        except ValueError:
            hint = f"did you mean {IPv6Network(value, strict=False)}?"
            raise wrong(f"{shown(value)}: has host bits set", legal, hint) from None
    raise wrong(f"{shown(value)}: not an IPv6 network", legal, "such as fd00:1::/64")


def _mode(value: object, info: ValidationInfo) -> object:
    if _is_hole(value, info) or value in MODES:
        return value
    hint = meant(str(value), MODES, "the way a system carries pod traffic between nodes")
    raise wrong(f"{shown(value)}: not a mode", ", ".join(MODES), hint)


def _speaker(value: object, info: ValidationInfo) -> object:
    # `bgp:` with nothing behind it means yes to its writer and null to YAML.
    if value is None and not _is_hole(value, info):
        raise wrong("nothing: not a mapping", "a mapping with as_number", "write `bgp: {}` to get AS 64512")
    return value


def _one_of(legal: tuple[str, ...], hint: str) -> BeforeValidator:
    def check(value: object, info: ValidationInfo) -> object:
        if _is_hole(value, info) or value in legal:
            return value
        raise wrong(f"{shown(value)}: not a BGP speaker", ", ".join(legal), meant(str(value), legal, hint))

    return BeforeValidator(check)


def _whole(low: int, high: int, unit: str) -> BeforeValidator:
    def check(value: object, info: ValidationInfo) -> object:
        # bool is an int to Python, and `mtu: yes` is not a number to anybody else.
        if _is_hole(value, info) or (type(value) is int and low <= value <= high):
            return value
        hint = "without quotes" if isinstance(value, str) and value.isdecimal() else "leave it out to get the default"
        raise wrong(f"{shown(value)}: not {unit}", f"a whole number from {low} to {high}", hint)

    return BeforeValidator(check)


def _integer(low: int, high: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "integer", "minimum": low, "maximum": high})


Name = Annotated[
    str | None,
    BeforeValidator(_name),
    WithJsonSchema({"type": "string", "pattern": NAME, "maxLength": LONGEST_NAME}),
]
Text = Annotated[str | None, BeforeValidator(_text), WithJsonSchema({"type": "string", "minLength": 1})]
Label = Annotated[str | None, BeforeValidator(_label), WithJsonSchema({"type": "string", "maxLength": 63})]
Labels = Annotated[
    dict[str, str] | None,
    BeforeValidator(_labels),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "string"}}),
]
Address = Annotated[IPv4Address | None, BeforeValidator(_address), WithJsonSchema({"type": "string", "format": "ipv4"})]
Network = Annotated[
    IPv4Network | None,
    BeforeValidator(_network),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+/[0-9]+$"}),
]
Address6 = Annotated[
    IPv6Address | None, BeforeValidator(_address6), WithJsonSchema({"type": "string", "format": "ipv6"})
]
Network6 = Annotated[
    IPv6Network | None,
    BeforeValidator(_network6),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9a-fA-F:.]+/[0-9]+$"}),
]
RouterProgram = Annotated[
    str | None,
    _one_of(ROUTER_SPEAKERS, "leave it out to get bird"),
    WithJsonSchema({"type": "string", "enum": list(ROUTER_SPEAKERS)}),
]
NodeProgram = Annotated[
    str | None,
    _one_of(NODE_SPEAKERS, "leave it out to get bird"),
    WithJsonSchema({"type": "string", "enum": list(NODE_SPEAKERS)}),
]
ModeName = Annotated[
    Mode | None, BeforeValidator(_mode), WithJsonSchema({"type": "string", "enum": list(get_args(Mode))})
]
# Below 576 IPv4 need not work (RFC 791, 3.1); above 65535 the veth refuses.
Mtu = Annotated[int | None, _whole(576, 65535, "an MTU in bytes"), _integer(576, 65535)]
BlockSize = Annotated[int | None, _whole(20, 32, "a block size"), _integer(20, 32)]
BlockSize6 = Annotated[int | None, _whole(116, 128, "a block size"), _integer(116, 128)]
Proxies = Annotated[int, _whole(0, 8, "a number of proxies"), _integer(0, 8)]
AsNumber = Annotated[int | None, _whole(1, AS_NUMBER_MAX, "an AS number"), _integer(1, AS_NUMBER_MAX)]


class Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SegmentText(Written):
    """One layer-2 network."""

    name: Name = Field(description="the segment's name", examples=["lan"])
    subnet: Network = Field(description="the subnet that lives on the segment", examples=["192.168.1.0/24"])
    gateway: Address = Field(None, description="the router that hosts send to; default: the subnet's first address")
    mtu: Mtu = Field(1500, description="bytes that an IP packet may have here")
    subnet6: Network6 = Field(None, description="the IPv6 subnet; every segment has one or none has")


class PortText(Written):
    """A router's leg on a segment. The first one becomes eth0."""

    segment: Text = Field(None, description="a segment's name; default: the segment whose subnet holds the address")
    address: Address = Field(description="the router's address there", examples=["192.168.1.1"])
    address6: Address6 = Field(None, description="default: the address's place in its subnet, in subnet6")


class SpeakerText(Written):
    """A router that takes pod routes from every node; over eBGP it also passes them on."""

    as_number: AsNumber = Field(64512, description="the router's AS; another one than the nodes' 64512 makes it eBGP")
    speaker: RouterProgram = Field("bird", description="the program that speaks: bird, or frr (for eBGP)")


class RouterText(Written):
    """A plain Linux router between segments."""

    name: Name = Field(description="the router's name", examples=["router1"])
    interfaces: list[PortText] = Field(
        description="the router's legs: a list of addresses, each on another segment",
        examples=["[{address: 192.168.1.1}]"],
    )
    bgp: Annotated[SpeakerText | None, BeforeValidator(_speaker)] = Field(
        None, description="makes the router a BGP speaker"
    )


class NodeText(Written):
    """A host that runs an agent and a CNI plugin."""

    name: Name = Field(description="the node's name", examples=["node1"])
    aliases: list[Name] = Field([], description="more names for the node, for those who type")
    segment: Text = Field(None, description="a segment's name; default: the segment whose subnet holds the address")
    address: Address = Field(description="the node's address on its segment", examples=["192.168.1.11"])
    address6: Address6 = Field(None, description="default: the address's place in its subnet, in subnet6")
    block: Network = Field(None, description="the IPAM block that this node must get; default: IPAM decides")
    speaker: NodeProgram = Field("bird", description="the node's own BGP speaker, where the system has several")


class StoreText(Written):
    """The host that runs etcd, on the first segment."""

    address: Address = Field(default=None, description="default: .250 of the first segment")
    proxies: Proxies = Field(0, description="a whole number, 0 to 8: gRPC proxies between the agents and the store")


class HostText(Written):
    """A host outside the pod network, such as a server on the Internet: no agent, no plugin, no route to a pod."""

    name: Name = Field(description="the host's name", examples=["outside"])
    segment: Text = Field(None, description="a segment's name; default: the segment whose subnet holds the address")
    address: Address = Field(description="the host's address on its segment", examples=["192.168.2.9"])


class PodText(Written):
    """A workload that `launch` starts."""

    name: Name = Field(description="the pod's name", examples=["pod1"])
    node: Text = Field(description="the name or alias of the node it runs on", examples=["node1"])
    namespace: Label = Field("default", description="its Kubernetes namespace")
    address: Address = Field(None, description="the address that it must get; default: IPAM decides")
    labels: Labels = Field({}, description="its labels, which policies select it by")


class PoolText(Written):
    """Addresses for pods."""

    name: Label = Field(None, description="default: default-ipv4-ippool, then pool2, pool3, …")
    cidr: Network = Field(description="all addresses of the pool", examples=["10.244.0.0/16"])
    block_size: BlockSize = Field(26, description="prefix length of the blocks that nodes get")


class Pool6Text(Written):
    """IPv6 addresses for pods, which then have one of each family."""

    name: Label = Field(None, description="default: default-ipv6-ippool, then pool6-2, pool6-3, …")
    cidr: Network6 = Field(description="all addresses of the pool", examples=["fd00:10:244::/64"])
    block_size: BlockSize6 = Field(122, description="prefix length of the blocks that nodes get")


class PeerText(Written):
    """A BGP speaker outside the mesh, with which every node peers."""

    name: Label = Field(None, description="default: peer- and the router's name")
    peer_ip: Address = Field(description="an address of a router that speaks BGP", examples=["192.168.1.1"])
    as_number: AsNumber = Field(64512, description="the AS of that router")


class LabText(Written):
    """A tunlab lab: segments, routers, nodes, pods. The lab's name is the name of the file."""

    description: Text = Field(
        description="what the lab shows; its first sentence stands in `./lab labs`", examples=["…"]
    )
    modes: list[ModeName] = Field(
        description=f"the modes that `conform` runs here, of {', '.join(MODES)}", examples=["[ipip, vxlan, none]"]
    )
    segments: list[SegmentText] = Field(
        description="a list of segments; the store stands on the first one",
        examples=["[{name: lan, subnet: 192.168.1.0/24}]"],
    )
    routers: list[RouterText] = Field(
        description="a list of routers; every segment's gateway is one of them",
        examples=["[{name: router1, interfaces: [{address: 192.168.1.1}]}]"],
    )
    nodes: list[NodeText] = Field(description="a list of nodes", examples=["[{name: node1, address: 192.168.1.11}]"])
    pods: list[PodText] = Field([], description="a list of pods")
    pools: list[PoolText] = Field(description="a list of address pools for pods", examples=["[{cidr: 10.244.0.0/16}]"])
    pools6: list[Pool6Text] = Field([], description="a list of IPv6 address pools for pods")
    hosts: list[HostText] = Field([], description="a list of hosts that are neither node nor store")
    store: StoreText = Field(StoreText(proxies=0), description="the host that runs etcd")
    bgp_peers: list[PeerText] = Field([], description="a list of BGP speakers that every node peers with")


def schema_text() -> str:
    """The JSON schema of lab files, as `labs/schema.json` holds it."""
    schema = LabText.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def read_shape(data: dict[object, Any]) -> tuple[LabText, tuple[Mistake, ...]]:
    """What the file says, with holes where it is wrong, and those mistakes."""
    holed = _own_copy(data)
    try:
        return LabText.model_validate(holed), ()
    except ValidationError as error:
        details = error.errors()
    mistakes = tuple(_told(each) for each in details)
    while True:
        for each in details:
            _make_hole(holed, each)
        try:
            return LabText.model_validate(holed, context=HOLES_ALLOWED), mistakes
        except ValidationError as error:
            # A hole where a mapping was required lacks that mapping's own required keys: the next round makes those.
            details = error.errors()


def _own_copy(data: Any) -> Any:
    """Plain data without sharing (YAML's anchors share, and a hole is for one place only), all keys texts."""
    if isinstance(data, dict):
        return {str(key): _own_copy(value) for key, value in data.items()}
    return [_own_copy(value) for value in data] if isinstance(data, list) else data


def _make_hole(data: Any, error: ErrorDetails) -> None:
    *way, last = error["loc"]
    for key in way:
        data = data[key]
    if error["type"] == "extra_forbidden":
        del data[last]
    elif error["type"] == "list_type":
        data[last] = []
    elif error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        data[last] = {}
    else:
        data[last] = None


def _told(error: ErrorDetails) -> Mistake:
    path: KeyPath = tuple(error["loc"])
    kind, value = error["type"], error["input"]
    if kind == "lab":
        told = error["ctx"]
        return Mistake(path, told["what"], told["legal"], told["hint"])
    if kind == "extra_forbidden":
        keys = tuple(_model_at(path[:-1]).model_fields)
        hint = meant(str(path[-1]), keys, "delete it, or look for it in labs/schema.json")
        return Mistake(path, "unknown key", ", ".join(keys), hint)
    if kind == "missing":
        field = _model_at(path[:-1]).model_fields[str(path[-1])]
        example = field.examples[0] if field.examples else "…"
        return Mistake(path, "missing", str(field.description), f"add {path[-1]}: {example}")
    if kind == "list_type":
        return Mistake(path, f"{shown(value)}: not a list", "a YAML list", "start each item with a dash and a space")
    keys = tuple(_model_at(path).model_fields)
    hint = f"write keys and values below {written(path)}"
    return Mistake(path, f"{shown(value)}: not a mapping", f"a mapping with {', '.join(keys)}", hint)


def _model_at(path: KeyPath) -> type[Written]:
    """The model that stands at a path of the file."""
    model: type[Written] = LabText
    for key in path:
        if isinstance(key, str):
            annotation = model.model_fields[key].annotation
            found = [each for each in (annotation, *get_args(annotation)) if isinstance(each, type)]
            model = next(each for each in found if issubclass(each, Written))
    return model
