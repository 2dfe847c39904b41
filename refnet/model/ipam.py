"""What rules the giving of addresses besides pools: the cluster's IPAM settings, and addresses that nobody gets."""

from __future__ import annotations

from refnet.errors import InvalidResource
from refnet.model.address import IPNetwork
from refnet.model.reading import API_VERSION, Metadata
from refnet.model.value import value

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any

DEFAULT_BLOCKS_PER_NODE = 20
MAX_BLOCKS = 1_000_000


@value
class IPReservation:
    """Addresses that are never given by themselves; whoever asks for one by name still gets it."""

    KIND = "IPReservation"
    KNOWN = dict.fromkeys(["reservedCIDRs"])

    name: str
    reserved: tuple[IPNetwork, ...]

    @classmethod
    def from_resource(cls, resource: object) -> IPReservation:
        """Raises InvalidResource with every mistake."""
        frame = Metadata(resource, cls.KIND)
        reservation = cls(frame.name, frame.spec.networks("reservedCIDRs"))
        frame.finish()
        return reservation

    def to_resource(self) -> dict[str, Any]:
        spec = {"reservedCIDRs": [str(cidr) for cidr in self.reserved]}
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": {"name": self.name}, "spec": spec}


@value
class IPAMConfiguration:
    """The cluster's IPAM settings; only the one named `default` counts.

    `strict_affinity`: no node takes an address from another's block. `max_blocks_per_host` 0 means the default.
    """

    KIND = "IPAMConfiguration"
    KNOWN = dict.fromkeys(["strictAffinity", "autoAllocateBlocks", "maxBlocksPerHost"])

    name: str = "default"
    strict_affinity: bool = False
    auto_allocate_blocks: bool = True
    max_blocks_per_host: int = 0

    @classmethod
    def from_resource(cls, resource: object) -> IPAMConfiguration:
        """Raises InvalidResource with every mistake. Source of the rules: Calico's IPAMConfiguration reference."""
        frame = Metadata(resource, cls.KIND)
        spec = frame.spec
        if frame.name and frame.name != "default":
            frame.top.child("metadata").wrong("name", "default", "there is one for the whole cluster")
        settings = cls(
            frame.name,
            spec.flag("strictAffinity", False),
            spec.flag("autoAllocateBlocks", True),
            spec.integer("maxBlocksPerHost", 0, 0, MAX_BLOCKS),
        )
        if not settings.strict_affinity and not settings.auto_allocate_blocks:
            spec.wrong("autoAllocateBlocks", "true", "without it only strictAffinity: true makes sense")
        if not settings.strict_affinity and settings.max_blocks_per_host:
            spec.wrong("maxBlocksPerHost", "0", "a limit needs strictAffinity: true, else nodes borrow beyond it")
        frame.finish()
        return settings

    @classmethod
    def from_config(cls, config: object) -> IPAMConfiguration:
        """Read Calico's own key for them (`/calico/ipam/v2/config`); what it does not say is as by default."""
        fields = config if isinstance(config, dict) else {}
        blocks = fields.get("maxBlocksPerHost")
        return cls(
            strict_affinity=fields.get("strict_affinity") is True,
            auto_allocate_blocks=fields.get("auto_allocate_blocks") is not False,
            max_blocks_per_host=blocks if isinstance(blocks, int) and 0 < blocks <= MAX_BLOCKS else 0,
        )

    def to_config(self) -> dict[str, Any]:
        """As Calico's own key has them."""
        return {
            "strict_affinity": self.strict_affinity,
            "auto_allocate_blocks": self.auto_allocate_blocks,
            "maxBlocksPerHost": self.max_blocks_per_host,
        }

    def to_resource(self) -> dict[str, Any]:
        spec = {
            "strictAffinity": self.strict_affinity,
            "autoAllocateBlocks": self.auto_allocate_blocks,
            "maxBlocksPerHost": self.max_blocks_per_host,
        }
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": {"name": self.name}, "spec": spec}

    @property
    def block_limit(self) -> int:
        """How many blocks of one family a node may have."""
        return self.max_blocks_per_host or DEFAULT_BLOCKS_PER_NODE


def read_settings(resource: object, config: object) -> IPAMConfiguration:
    """The settings in force: the resource's if it is there and right, else those of Calico's own key."""
    try:
        return IPAMConfiguration.from_resource(resource)
    except InvalidResource:
        return IPAMConfiguration.from_config(config)
