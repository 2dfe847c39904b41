"""Names that are computed, never chosen: every node derives the same ones, so nobody has to tell anybody."""

from __future__ import annotations

VETH_PREFIX = "cali"
_DIGITS = 11  # with the prefix 15 characters, the longest name Linux allows


def host_veth_name(namespace: str, pod: str) -> str:
    """The host end of a Kubernetes pod's veth: `cali` and 11 hex digits of SHA-1 over `namespace.pod`."""
    return VETH_PREFIX + _sha1(f"{namespace}.{pod}").hex()[:_DIGITS]


def host_veth_name_of_container(container_id: str) -> str:
    """The host end of any other container's veth: `cali` and the first 11 characters of its id."""
    return VETH_PREFIX + container_id[:_DIGITS]


def workload_endpoint_name(node: str, orchestrator: str, workload: str, endpoint: str) -> str:
    """`node-k8s-pod-eth0` with every dash inside a part doubled, so that the parts can be told apart again."""
    return "-".join(part.replace("-", "--") for part in (node, orchestrator, workload, endpoint))


def vtep_mac(node: str, version: int = 4) -> str:
    """The MAC of a node's `vxlan.calico`: 66 and the first five bytes of SHA-1 over its name.

    That of its `vxlan-v6.calico`: the same over `NAME-v6`.
    """
    return ":".join(f"{byte:02x}" for byte in b"\x66" + _sha1(node if version == 4 else f"{node}-v6")[:5])


def _sha1(text: str) -> bytes:
    import hashlib  # 3 ms of start-up that only some programs need

    return hashlib.sha1(text.encode(), usedforsecurity=False).digest()


def printable(text: str) -> str:
    """The text on one line; what is not printable is escaped."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
