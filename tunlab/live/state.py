"""What is written down of a standing lab, so that a later command finds its way: everything else is in its box."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tunlab.box.folder import write_whole
from tunlab.errors import WorldError

FILE = "lab.json"


@dataclass(frozen=True, slots=True)
class State:
    """`doing` is the step under way; whoever finds one and holds the lab's lock knows that it was cut short.

    `declared` are the pods of the lab's file, up or not; `pods` those that are up. `places` maps every other name and
    alias to the place it means, `addresses` places to their address, `environments` places to what programs there find
    in their environment.
    """

    lab: str
    box: str
    system: str | None = None
    mode: str | None = None
    doing: str = ""
    replaced: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    declared: tuple[str, ...] = ()
    pods: tuple[Mapping[str, Any], ...] = ()

    @property
    def pod_addresses(self) -> dict[str, str]:
        """Every pod that is up."""
        return {str(pod["sandbox"]["pod"]): str(pod["address"]) for pod in self.pods}


def read_state(folder: Path) -> State:
    """The state of the lab in this folder. Raises WorldError when it is not one."""
    path = folder / FILE
    try:
        found = json.loads(path.read_text())
        _check(found)
        return State(**{**found, "declared": tuple(found["declared"]), "pods": tuple(found["pods"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        why = error.strerror if isinstance(error, OSError) else "not what this program wrote"
        raise WorldError(
            f"{folder.name}: {path}: {why}", hint=f"./lab down {folder.name} ends and forgets it"
        ) from error


def write_state(folder: Path, state: State) -> None:
    """Write it, whole or not at all."""
    write_whole(folder / FILE, json.dumps(asdict(state), indent=1))


def _check(found: Any) -> None:
    """Raises ValueError unless every field is there and of its kind."""
    if not isinstance(found, dict) or set(found) != {each.name for each in fields(State)}:
        raise ValueError("its fields")
    texts = all(isinstance(found[name], str) for name in ("lab", "box", "doing"))
    choices = all(isinstance(found[name], str | None) for name in ("system", "mode"))
    tables = all(isinstance(found[name], dict) for name in ("replaced", "places", "addresses", "environments"))
    rows = isinstance(found["pods"], list) and isinstance(found["declared"], list) and all(
        isinstance(pod, dict) and {"sandbox", "result", "address"} <= set(pod) and isinstance(pod["sandbox"], dict)
        and {"pod", "node"} <= set(pod["sandbox"]) and isinstance(pod["result"], dict)
        for pod in found["pods"]
    )  # fmt: skip
    if not (texts and choices and tables and rows):
        raise ValueError("the kind of a field")
