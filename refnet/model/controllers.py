"""KubeControllersConfiguration: of what Calico's controllers do, refnet's agents tidy IPAM, each for its own node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from refnet.model.felix import read_duration
from refnet.model.reading import API_VERSION, Metadata

DEFAULT_GRACE_S = 15 * 60.0
SHORTEST_GRACE_S = 10.0
"""An ADD takes its address a moment before it registers the pod; nobody may call that a leak."""


@dataclass(frozen=True)
class KubeControllersConfiguration:
    """How long an address must be without a user, or a spare block without an address, to be given back; 0 = never."""

    KIND = "KubeControllersConfiguration"
    KNOWN: ClassVar[dict[str, Any]] = {"controllers": {"node": {"leakGracePeriod": None}}}

    name: str = "default"
    leak_grace_s: float = DEFAULT_GRACE_S

    @classmethod
    def from_resource(cls, resource: object) -> KubeControllersConfiguration:
        """Raises InvalidResource with every mistake."""
        frame = Metadata(resource, cls.KIND)
        if frame.name and frame.name != "default":
            frame.top.child("metadata").wrong("name", "default", "there is one for the whole cluster")
        node = frame.spec.child("controllers").child("node")
        given = read_duration(node, "leakGracePeriod")
        if given is not None and 0 < given < SHORTEST_GRACE_S:
            node.wrong("leakGracePeriod", f"0s (never), or {SHORTEST_GRACE_S:.0f}s and more")
        frame.finish()
        return cls(frame.name, DEFAULT_GRACE_S if given is None else given)

    def to_resource(self) -> dict[str, Any]:
        spec = {"controllers": {"node": {"leakGracePeriod": f"{self.leak_grace_s:g}s"}}}
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": {"name": self.name}, "spec": spec}
