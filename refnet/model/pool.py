"""IP pools: the ranges that pod and tunnel addresses come from, and how traffic to them is carried."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network

from refnet.model.address import IPAddress, IPNetwork, slice_of
from refnet.model.reading import API_VERSION, Metadata, Reader
from refnet.model.selector import EVERYTHING, Selector
from refnet.model.value import value

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any

MODES = ("Never", "Always", "CrossSubnet")
USES = ("Workload", "Tunnel")
LINK_LOCAL: dict[int, IPNetwork] = {4: IPv4Network("169.254.0.0/16"), 6: IPv6Network("fe80::/10")}
BLOCK_SIZES = {4: (26, 20, 32), 6: (122, 116, 128)}
"""For each family the default prefix length of a block, the shortest and the longest."""


@value
class Pool:
    """An IPPool. `ipip_mode` and `vxlan_mode` are Never, Always or CrossSubnet; at most one is not Never."""

    KIND = "IPPool"
    KNOWN = dict.fromkeys(
        [
            "cidr",
            "blockSize",
            "ipipMode",
            "vxlanMode",
            "natOutgoing",
            "disabled",
            "disableBGPExport",
            "nodeSelector",
            "allowedUses",
            "assignmentMode",
        ]
    )

    name: str
    cidr: IPNetwork
    block_size: int = 26
    ipip_mode: str = "Never"
    vxlan_mode: str = "Never"
    nat_outgoing: bool = False
    disabled: bool = False
    disable_bgp_export: bool = False
    node_selector: Selector = EVERYTHING
    allowed_uses: tuple[str, ...] = USES
    assignment_mode: str = "Automatic"

    @classmethod
    def from_resource(cls, resource: object) -> Pool:
        """Raises InvalidResource with every mistake. Source of the rules: Calico's IPPool reference."""
        frame = Metadata(resource, cls.KIND)
        spec = frame.spec
        cidr = spec.network("cidr")
        version = 6 if ":" in str(spec.fields.get("cidr", "")) else 4
        block_size = spec.integer("blockSize", *BLOCK_SIZES[version])
        if cidr and cidr.prefixlen > block_size and not spec.fields.get("disabled"):
            spec.wrong("cidr", f"a network of /{block_size} or larger, one block at least")
        if cidr and cidr.overlaps(LINK_LOCAL[version]):
            spec.wrong("cidr", f"a network outside {LINK_LOCAL[version]}", "the pods' gateway is link-local")
        ipip, vxlan = (spec.choice(field, MODES, "Never") for field in ("ipipMode", "vxlanMode"))
        if version == 6 and ipip != "Never":
            spec.wrong("ipipMode", "Never", "IPIP carries IPv4 alone")
        if ipip != "Never" and vxlan != "Never":
            spec.wrong("vxlanMode", "Never", "ipipMode and vxlanMode cannot both be enabled")
        pool = cls(
            name=frame.name,
            cidr=cidr or IPv4Network("0.0.0.0/0"),
            block_size=block_size,
            ipip_mode=ipip,
            vxlan_mode=vxlan,
            nat_outgoing=spec.flag("natOutgoing", False),
            disabled=spec.flag("disabled", False),
            disable_bgp_export=spec.flag("disableBGPExport", False),
            node_selector=_node_selector(spec),
            allowed_uses=spec.texts("allowedUses", USES, legal=USES),
            assignment_mode=spec.choice("assignmentMode", ("Automatic", "Manual"), "Automatic"),
        )
        frame.finish()
        return pool

    def to_resource(self) -> dict[str, Any]:
        spec = {
            "cidr": str(self.cidr),
            "blockSize": self.block_size,
            "ipipMode": self.ipip_mode,
            "vxlanMode": self.vxlan_mode,
            "natOutgoing": self.nat_outgoing,
            "disabled": self.disabled,
            "disableBGPExport": self.disable_bgp_export,
            "nodeSelector": self.node_selector.text,
            "allowedUses": list(self.allowed_uses),
            "assignmentMode": self.assignment_mode,
        }
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": {"name": self.name}, "spec": spec}

    def gives(self, use: str) -> bool:
        """Whether new addresses for `use` (Workload, Tunnel) may be taken from here."""
        return not self.disabled and use in self.allowed_uses

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether nodes with these labels take addresses from here by themselves."""
        return self.node_selector.matches(labels)

    def is_encapsulated(self) -> bool:
        return self.ipip_mode != "Never" or self.vxlan_mode != "Never"

    def block_of(self, address: IPAddress) -> IPNetwork:
        """The block of this pool that an address lies in."""
        return slice_of(address, self.block_size)


def _node_selector(spec: Reader) -> Selector:
    selector = spec.selector("nodeSelector")
    if "global()" in selector.text:
        spec.wrong("nodeSelector", "a selector about nodes' labels", "global() is about policies' namespaces")
    return selector


def pool_of(pools: tuple[Pool, ...], address: IPAddress) -> Pool | None:
    """The pool an address lies in; pools never overlap."""
    return next((pool for pool in pools if address in pool.cidr), None)
