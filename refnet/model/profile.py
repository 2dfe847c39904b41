"""Profiles: rules that count for an endpoint where no policy does, and labels that its endpoints inherit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from refnet.model.policy import INGRESS
from refnet.model.reading import API_VERSION, Metadata
from refnet.model.rule import KNOWN_RULE, Rule, read_rules

ALLOWS_ALL = "projectcalico-default-allow"
_LABEL = r"[a-zA-Z0-9_./-]{1,512}"


@dataclass(frozen=True)
class Profile:
    """A profile: `labels` go to every endpoint that names it, unless the endpoint has them itself."""

    KIND = "Profile"
    KNOWN: ClassVar[dict[str, Any]] = {"ingress": KNOWN_RULE, "egress": KNOWN_RULE, "labelsToApply": None}

    name: str
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_resource(cls, resource: object) -> Profile:
        """Raises InvalidResource with every mistake."""
        frame = Metadata(resource, cls.KIND)
        spec = frame.spec
        if frame.name == ALLOWS_ALL:
            frame.top.child("metadata").wrong("name", "another name", "this profile is built in")
        labels = spec.child("labelsToApply").fields
        if not all(
            isinstance(key, str) and re.fullmatch(_LABEL, key) and isinstance(label, str)
            for key, label in labels.items()
        ):
            spec.wrong("labelsToApply", "labels: a name and a text each")
        profile = cls(
            name=frame.name,
            ingress=read_rules(spec, "ingress"),
            egress=read_rules(spec, "egress"),
            labels=dict(labels),
            written=dict(spec.fields),
        )
        frame.finish()
        return profile

    def rules(self, direction: str) -> tuple[Rule, ...]:
        return self.ingress if direction == INGRESS else self.egress

    def to_resource(self) -> dict[str, Any]:
        spec = dict(self.written)
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": {"name": self.name}, "spec": spec}


def built_in_profile(name: str) -> Profile | None:
    """The profiles that exist though nobody stored them: what Kubernetes' datastore would say of a namespace and of a
    service account, and the one that allows everything."""
    allow = (Rule("Allow"),)
    if name == ALLOWS_ALL:
        return Profile(name, allow, allow)
    if name.startswith("kns."):
        return Profile(name, allow, allow, {"pcns.projectcalico.org/name": name.removeprefix("kns.")})
    if name.startswith("ksa.") and (account := name.rpartition(".")[2]):
        return Profile(name, labels={"pcsa.projectcalico.org/name": account})
    return None
