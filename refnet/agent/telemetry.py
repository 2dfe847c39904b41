"""The agent's two HTTP ports: health for whoever restarts it, metrics for whoever watches it."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from refnet.agent.health import health
from refnet.agent.listener import Listener
from refnet.agent.metrics import Metric, metrics
from refnet.errors import Mistake

_TRUE, _FALSE = ("true", "1", "yes", "y", "t"), ("false", "0", "no", "n", "f")
LEGAL_PORT = "a port, 1 to 65535"


@dataclass(frozen=True)
class Ports:
    """Where to listen, as host and port; None: not at all."""

    health: tuple[str, int] | None = None
    metrics: tuple[str, int] | None = None


NO_PORTS = Ports()
VARIABLES = tuple(
    f"FELIX_{port}{what}" for port in ("HEALTH", "PROMETHEUSMETRICS") for what in ("ENABLED", "HOST", "PORT")
)


def read_ports(environment: Mapping[str, str], mistakes: list[Mistake]) -> Ports:
    """Felix's variables. Both ports are shut unless asked for; metrics are for other hosts, health is for this one."""
    return Ports(
        _place(environment, "FELIX_HEALTH", "localhost", 9099, mistakes),
        _place(environment, "FELIX_PROMETHEUSMETRICS", "", 9091, mistakes),
    )


def _place(
    environment: Mapping[str, str], prefix: str, host: str, port: int, mistakes: list[Mistake]
) -> tuple[str, int] | None:
    given = environment.get(f"{prefix}ENABLED", "").strip().lower()
    if given not in ("", *_TRUE, *_FALSE):
        mistakes.append(Mistake(f"{prefix}ENABLED", given, "true or false"))
    number = environment.get(f"{prefix}PORT", "").strip() or str(port)
    if not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
        mistakes.append(Mistake(f"{prefix}PORT", number, LEGAL_PORT))
        return None
    host = environment.get(f"{prefix}HOST", "").strip() or host
    return ("127.0.0.1" if host == "localhost" else host, int(number)) if given in _TRUE else None


class Telemetry:
    """Listens where it was told to. `reasons` and `found` are asked at each request, for the state at that moment."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        ports: Ports,
        reasons: Callable[[], Mapping[str, str]],
        found: Callable[[], Iterator[Metric]],
    ) -> None:
        self._listeners = []
        if ports.health:
            self._listeners.append(Listener(selector, *ports.health, lambda path: health(path, reasons())))
        if ports.metrics:
            self._listeners.append(Listener(selector, *ports.metrics, lambda path: metrics(path, found())))

    def listen(self) -> list[str]:
        """Open what is not open yet; why some could not be opened. The node's work goes on meanwhile."""
        return [reason for listener in self._listeners if (reason := listener.listen())]
