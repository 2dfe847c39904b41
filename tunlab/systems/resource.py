"""A resource of Calico's API, as a user would write it."""

from __future__ import annotations

from typing import Any


def resource(kind: str, name: str, **spec: object) -> dict[str, Any]:
    """Of `projectcalico.org/v3`, without a namespace."""
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec}
