"""`patch`: change some fields of one resource, checked as a whole before it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from refnet.ctl.documents import Document
from refnet.ctl.resources import get, write
from refnet.errors import InvalidResource, Mistake, StoreConflict
from refnet.model.kinds import Kind
from refnet.model.reading import shown
from refnet.store.etcd import Etcd

_ATTEMPTS = 10
_LEGAL = 'a mapping in JSON, {"spec": {"ipipMode": "Never"}}'


def patch(store: Etcd, kind: Kind, name: str, namespace: str, text: str) -> str:
    """Merge what is written into the stored resource (RFC 7386); one sentence on it.

    calicoctl's strategic patches come to the same: none of the kinds says that its lists are to be merged.
    Raises InvalidResource (the patch, or what would come of it), NotFound, StoreConflict.
    """
    change = _read(text)
    for attempt in range(_ATTEMPTS):
        (present,) = get(store, kind, name, namespace)
        wanted = merge(present, change)
        wanted["metadata"] = {**_mapping(wanted.get("metadata")), "name": present["metadata"]["name"]}
        wanted["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"]
        document = Document(kind, wanted, kind.read(wanted), ())
        try:
            write(store, "replace", [document])
        except StoreConflict:
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        break
    return f"Successfully patched 1 '{kind.name}' resource\n"


def merge(present: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7386: mappings are merged, null removes, everything else takes the old one's place."""
    merged = dict(present)
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            merged[name] = merge(_mapping(merged.get(name)), value)
        else:
            merged[name] = value
    return merged


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _read(text: str) -> Mapping[str, Any]:
    """The patch; YAML is taken, too. Raises InvalidResource."""
    try:
        change = yaml.safe_load(text)
        json.dumps(change)
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise InvalidResource("patch", [Mistake("-p", shown(text), _LEGAL)]) from error
    if not isinstance(change, Mapping) or not change:
        raise InvalidResource("patch", [Mistake("-p", shown(text), _LEGAL)])
    return change
