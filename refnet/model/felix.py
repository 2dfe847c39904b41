"""FelixConfiguration: the agents' settings, for all nodes or for one; each also has a variable, which wins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, ClassVar

from refnet.errors import Mistake
from refnet.model.failsafe import FailsafePort, of_variable, read_failsafe, written
from refnet.model.reading import API_VERSION, NAME_PATTERN, Metadata, Reader, shown

PREFIX = "FELIX_"
DEFAULT, NODE_PREFIX = "default", "node."
ACTIONS = ("Drop", "Return", "Accept")
MAX_PATTERN = 200
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

Read = Callable[[Reader, str], Any]


def _setting(name: str, variable: str, read: Read, decode: Callable[[str], object] = str) -> Any:
    """One setting: the resource's field, the variable without FELIX_, how either is read; None means not said.

    `decode` makes of a variable's text what would stand in the field.
    """
    return field(default=None, metadata={"field": name, "variable": PREFIX + variable, "read": read, "decode": decode})


def _whole(text: str) -> object:
    """A number as a number; anything else stays what it is, and is found wrong by who reads it."""
    return int(text) if re.fullmatch(r"\d{1,10}", text) else text


def _action(text: str) -> str:
    return text.capitalize()


def _truth(text: str) -> object:
    """As Go's ParseBool, which reads Felix's variables, in any letter case; anything else is found wrong."""
    return {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}.get(text.lower(), text)


def _seconds(text: str) -> str:
    """Variables give durations in plain seconds."""
    return f"{text}s" if re.fullmatch(r"\d+(\.\d+)?", text) else text


def _number(lowest: int, highest: int) -> Read:
    def read(reader: Reader, name: str) -> int | None:
        return reader.integer(name, lowest, lowest, highest) if reader.has(name) else None

    return read


def _flag(reader: Reader, name: str) -> bool | None:
    return reader.flag(name, default=False) if reader.has(name) else None


def read_duration(reader: Reader, name: str) -> float | None:
    """Seconds of a duration such as 90s or 1m30s."""
    if not reader.has(name):
        return None
    value = reader.fields[name]
    parts = _DURATION.findall(value) if isinstance(value, str) else []
    if not parts or "".join(number + unit for number, unit in parts) != value:
        reader.wrong(name, "a duration such as 90s or 1m30s")
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _pattern(reader: Reader, name: str) -> str | None:
    if not reader.has(name):
        return None
    text = reader.text(name, legal="a regular expression")
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        text = ""
    if not text or len(text) > MAX_PATTERN:
        if not any(mistake.path == reader.at(name) for mistake in reader.mistakes):
            reader.wrong(name, f"a regular expression of at most {MAX_PATTERN} characters")
        return None
    return text


def _one_of(legal: tuple[str, ...]) -> Read:
    def read(reader: Reader, name: str) -> str | None:
        return reader.choice(name, legal, legal[0]) if reader.has(name) else None

    return read


_MTU = _number(0, 65535)


@dataclass(frozen=True)
class FelixConfiguration:
    """Settings as far as somebody said them. MTUs of 0 mean: work it out, which is also what None comes to."""

    KIND = "FelixConfiguration"
    KNOWN: ClassVar[dict[str, Any]] = {}

    name: str = DEFAULT
    ipip_mtu_bytes: int | None = _setting("ipipMTU", "IPINIPMTU", _MTU, _whole)
    vxlan_mtu_bytes: int | None = _setting("vxlanMTU", "VXLANMTU", _MTU, _whole)
    vxlan6_mtu_bytes: int | None = _setting("vxlanMTUV6", "VXLANMTUV6", _MTU, _whole)
    vxlan_port: int | None = _setting("vxlanPort", "VXLANPORT", _number(1, 65535), _whole)
    vxlan_vni: int | None = _setting("vxlanVNI", "VXLANVNI", _number(1, 16777215), _whole)
    mtu_pattern: str | None = _setting("mtuIfacePattern", "MTUIFACEPATTERN", _pattern)
    endpoint_to_host: str | None = _setting(
        "defaultEndpointToHostAction", "DEFAULTENDPOINTTOHOSTACTION", _one_of(ACTIONS), _action
    )
    ipv6_support: bool | None = _setting("ipv6Support", "IPV6SUPPORT", _flag, _truth)
    refresh_s: float | None = _setting("routeRefreshInterval", "ROUTEREFRESHINTERVAL", read_duration, _seconds)
    filter_refresh_s: float | None = _setting(
        "iptablesRefreshInterval", "IPTABLESREFRESHINTERVAL", read_duration, _seconds
    )
    failsafe_in: tuple[FailsafePort, ...] | None = _setting(
        "failsafeInboundHostPorts", "FAILSAFEINBOUNDHOSTPORTS", read_failsafe, of_variable
    )
    failsafe_out: tuple[FailsafePort, ...] | None = _setting(
        "failsafeOutboundHostPorts", "FAILSAFEOUTBOUNDHOSTPORTS", read_failsafe, of_variable
    )

    @classmethod
    def from_resource(cls, resource: object) -> FelixConfiguration:
        """Raises InvalidResource with every mistake."""
        frame = Metadata(resource, cls.KIND)
        if frame.name != DEFAULT and not re.fullmatch(re.escape(NODE_PREFIX) + NAME_PATTERN, frame.name):
            frame.top.child("metadata").wrong("name", "default, or node. and the name of a node")
        said = {f.name: f.metadata["read"](frame.spec, f.metadata["field"]) for f in _settings()}
        frame.finish()
        return cls(frame.name, **said)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> tuple[FelixConfiguration, list[Mistake]]:
        """What FELIX_ variables say, and what is wrong with them. Empty ones say nothing."""
        mistakes: list[Mistake] = []
        said = {}
        for f in _settings():
            variable = f.metadata["variable"]
            text = environment.get(variable, "").strip()
            if text:
                reader = Reader({variable: f.metadata["decode"](text)}, mistakes=mistakes)
                said[f.name] = f.metadata["read"](reader, variable)
        return cls("environment", **said), [_quoted(mistake, environment) for mistake in mistakes]

    def over(self, other: FelixConfiguration) -> FelixConfiguration:
        """These settings, and the other's where these say nothing."""
        said = {f.name: getattr(self, f.name) for f in _settings() if getattr(self, f.name) is not None}
        return replace(other, **said)

    def to_resource(self) -> dict[str, Any]:
        spec: dict[str, Any] = {}
        for f in _settings():
            value = getattr(self, f.name)
            if isinstance(value, tuple):
                spec[f.metadata["field"]] = written(value)
            elif value is not None:
                spec[f.metadata["field"]] = f"{value:g}s" if isinstance(value, float) else value
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": {"name": self.name}, "spec": spec}


def _quoted(mistake: Mistake, environment: Mapping[str, str]) -> Mistake:
    """The same mistake, quoting the variable as it was set."""
    variable = mistake.path.partition("[")[0]
    return Mistake(variable, shown(environment[variable]).strip('"'), mistake.legal, mistake.hint)


def unknown_variables(environment: Mapping[str, str], others: tuple[str, ...] = ()) -> tuple[str, ...]:
    """FELIX_ variables that have no effect here; `others` are those that somebody else reads."""
    known = {f.metadata["variable"] for f in _settings()} | set(others)
    return tuple(sorted(name for name in environment if name.startswith(PREFIX) and name not in known))


def _settings() -> Iterator[Field[Any]]:
    return (f for f in fields(FelixConfiguration) if "field" in f.metadata)


FelixConfiguration.KNOWN.update({f.metadata["field"]: None for f in _settings()})
FelixConfiguration.KNOWN.update(
    dict.fromkeys(("failsafeInboundHostPorts", "failsafeOutboundHostPorts"), dict.fromkeys(("protocol", "port", "net")))
)
