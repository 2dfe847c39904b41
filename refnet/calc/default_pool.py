"""The pool that a cluster without any gets from its first agent: Calico's CALICO_IPV4POOL_… variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from refnet.errors import InvalidResource, Mistake
from refnet.model.address import IPNetwork
from refnet.model.pool import Pool
from refnet.model.reading import API_VERSION

NAME = "default-ipv4-ippool"
_FIRST_CHOICE = IPv4Network("192.168.0.0/16")
_OTHER_CHOICES = tuple(IPv4Network(f"172.{second}.0.0/16") for second in range(16, 32))
_PREFIX = "CALICO_IPV4POOL_"
_MODES = {"": "Never", "off": "Never", "never": "Never", "always": "Always", "crosssubnet": "CrossSubnet",
          "cross-subnet": "CrossSubnet"}  # fmt: skip
_FLAGS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
_FIELDS = {"cidr": "CIDR", "blockSize": "BLOCK_SIZE", "ipipMode": "IPIP", "vxlanMode": "VXLAN",
           "nodeSelector": "NODE_SELECTOR"}  # fmt: skip


@dataclass(frozen=True)
class DefaultPool:
    """What the default pool shall be; without a `cidr` it is one that the node's own subnet does not overlap."""

    spec: Mapping[str, Any]

    def resource(self, subnet: IPNetwork) -> dict[str, Any]:
        """The pool, for a host on this subnet. Source: calico/node's startup."""
        free = (net for net in (_FIRST_CHOICE, *_OTHER_CHOICES) if not net.overlaps(subnet))
        spec = {"cidr": str(next(free, _FIRST_CHOICE)), **self.spec}
        return Pool.from_resource(_resource(spec)).to_resource()


def read_default_pool(environment: Mapping[str, str], mistakes: list[Mistake]) -> DefaultPool | None:
    """The pool that the variables describe, noting what is wrong with them; None if none is wanted."""

    def given(name: str) -> str:
        return environment.get(name, "").strip()

    def flag(name: str, default: str) -> bool:
        text = given(name) or default
        if text.lower() not in _FLAGS:
            mistakes.append(Mistake(name, text, "true, false"))
        return _FLAGS.get(text.lower(), False)

    def mode(name: str) -> str:
        text = given(_PREFIX + name)
        if text.lower() not in _MODES:
            mistakes.append(Mistake(_PREFIX + name, text, "Always, CrossSubnet, Never (also off, cross-subnet)"))
        return _MODES.get(text.lower(), "Never")

    if flag("NO_DEFAULT_POOLS", "false") or given(_PREFIX + "CIDR").lower() == "none":
        return None
    size = given(_PREFIX + "BLOCK_SIZE") or "26"
    spec: dict[str, Any] = {
        "blockSize": int(size) if re.fullmatch(r"\d{1,3}", size) else size,
        "ipipMode": mode("IPIP"),
        "vxlanMode": mode("VXLAN"),
        "natOutgoing": flag(_PREFIX + "NAT_OUTGOING", "true"),
        "nodeSelector": given(_PREFIX + "NODE_SELECTOR") or "all()",
        "disableBGPExport": flag(_PREFIX + "DISABLE_BGP_EXPORT", "false"),
    }
    cidr = given(_PREFIX + "CIDR")
    if cidr and not _is_network(cidr):
        mistakes.append(Mistake(_PREFIX + "CIDR", cidr, "an IPv4 network such as 192.168.0.0/16"))
    elif cidr:
        spec["cidr"] = cidr
    try:
        Pool.from_resource(_resource({"cidr": str(_FIRST_CHOICE), **spec}))
    except InvalidResource as error:
        mistakes += _about_variables(error.mistakes, environment)
    return DefaultPool(spec)


def _is_network(text: str) -> bool:
    """Whether this is an IPv4 network without host bits."""
    try:
        return str(IPv4Network(text)) == text
    except ValueError:
        return False


def _resource(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": Pool.KIND, "metadata": {"name": NAME}, "spec": dict(spec)}


def _about_variables(mistakes: Iterable[Mistake], environment: Mapping[str, str]) -> list[Mistake]:
    """The pool's mistakes, named after the variables that made them."""
    found = []
    for mistake in mistakes:
        variable = _PREFIX + _FIELDS.get(mistake.path.removeprefix("spec."), "CIDR")
        found.append(Mistake(variable, environment.get(variable, "missing"), mistake.legal, mistake.hint))
    return found
