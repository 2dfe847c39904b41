"""The pools that a cluster without any gets from its first agent: Calico's CALICO_IPV4POOL_…, CALICO_IPV6POOL_…"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from refnet.errors import InvalidResource, Mistake
from refnet.model.address import IPNetwork, read_network
from refnet.model.pool import Pool
from refnet.model.reading import API_VERSION

_UNIQUE_LOCAL, _CHANCE_BITS = IPv6Network("fd00::/8"), 40  # RFC 4193, 3.1
_FIRST_CHOICE = IPv4Network("192.168.0.0/16")
_OTHER_CHOICES = tuple(IPv4Network(f"172.{second}.0.0/16") for second in range(16, 32))
_MODES = {"": "Never", "off": "Never", "never": "Never", "always": "Always", "crosssubnet": "CrossSubnet",
          "cross-subnet": "CrossSubnet"}  # fmt: skip
_FLAGS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
_SIZES = {4: "26", 6: "122"}
_FIELDS = {"cidr": "CIDR", "blockSize": "BLOCK_SIZE", "ipipMode": "IPIP", "vxlanMode": "VXLAN",
           "nodeSelector": "NODE_SELECTOR"}  # fmt: skip
_OTHERS = ("NAT_OUTGOING", "DISABLE_BGP_EXPORT")


@dataclass(frozen=True)
class DefaultPool:
    """What the default pool shall be; without a `cidr` it is one that the node's own subnet does not overlap."""

    spec: Mapping[str, Any]
    version: int = 4

    def resource(self, subnet: IPNetwork, chance: int = 0) -> dict[str, Any]:
        """The pool, for a host on this subnet; `chance` is a random number, for IPv6. Source: calico/node's startup."""
        if self.version == 4:
            free = (net for net in (_FIRST_CHOICE, *_OTHER_CHOICES) if not net.overlaps(subnet))
            found: IPNetwork = next(free, _FIRST_CHOICE)
        else:
            bits = chance % (1 << _CHANCE_BITS)
            found = IPv6Network((int(_UNIQUE_LOCAL.network_address) | bits << 80, 48))
        return Pool.from_resource(_resource({"cidr": str(found), **self.spec}, self.version)).to_resource()


def variables_read() -> frozenset[str]:
    """Every variable that is understood here."""
    names = (*_FIELDS.values(), *_OTHERS)
    return frozenset(_prefix(version) + name for version in (4, 6) for name in names if version == 4 or name != "IPIP")


def _prefix(version: int) -> str:
    return f"CALICO_IPV{version}POOL_"


def read_default_pool(environment: Mapping[str, str], mistakes: list[Mistake], version: int = 4) -> DefaultPool | None:
    """The pool that the variables describe, noting what is wrong with them; None if none is wanted."""
    prefix = _prefix(version)

    def given(name: str) -> str:
        return environment.get(name, "").strip()

    def flag(name: str, default: str) -> bool:
        text = given(name) or default
        if text.lower() not in _FLAGS:
            mistakes.append(Mistake(name, text, "true, false"))
        return _FLAGS.get(text.lower(), False)

    def mode(name: str) -> str:
        text = given(prefix + name)
        if text.lower() not in _MODES:
            mistakes.append(Mistake(prefix + name, text, "Always, CrossSubnet, Never (also off, cross-subnet)"))
        return _MODES.get(text.lower(), "Never")

    if flag("NO_DEFAULT_POOLS", "false") or given(prefix + "CIDR").lower() == "none":
        return None
    size = given(prefix + "BLOCK_SIZE") or _SIZES[version]
    spec: dict[str, Any] = {
        "blockSize": int(size) if re.fullmatch(r"\d{1,3}", size) else size,
        "ipipMode": mode("IPIP") if version == 4 else "Never",
        "vxlanMode": mode("VXLAN"),
        "natOutgoing": flag(prefix + "NAT_OUTGOING", "true" if version == 4 else "false"),
        "nodeSelector": given(prefix + "NODE_SELECTOR") or "all()",
        "disableBGPExport": flag(prefix + "DISABLE_BGP_EXPORT", "false"),
    }
    cidr = given(prefix + "CIDR")
    if cidr and not _is_network(cidr, version):
        example = "192.168.0.0/16" if version == 4 else "fd00:10:244::/48"
        mistakes.append(Mistake(prefix + "CIDR", cidr, f"an IPv{version} network such as {example}"))
    elif cidr:
        spec["cidr"] = cidr
    try:
        usual = str(_FIRST_CHOICE if version == 4 else _UNIQUE_LOCAL)
        Pool.from_resource(_resource({"cidr": usual, **spec}, version))
    except InvalidResource as error:
        mistakes += _about_variables(error.mistakes, environment, prefix)
    return DefaultPool(spec, version)


def _is_network(text: str, version: int) -> bool:
    """Whether this is a network of that family without host bits."""
    try:
        return str(read_network(text)) == text and read_network(text).version == version
    except ValueError:
        return False


def _resource(spec: Mapping[str, Any], version: int) -> dict[str, Any]:
    metadata = {"name": f"default-ipv{version}-ippool"}
    return {"apiVersion": API_VERSION, "kind": Pool.KIND, "metadata": metadata, "spec": dict(spec)}


def _about_variables(mistakes: Iterable[Mistake], environment: Mapping[str, str], prefix: str) -> list[Mistake]:
    """The pool's mistakes, named after the variables that made them."""
    found = []
    for mistake in mistakes:
        variable = prefix + _FIELDS.get(mistake.path.removeprefix("spec."), "CIDR")
        found.append(Mistake(variable, environment.get(variable, "missing"), mistake.legal, mistake.hint))
    return found
