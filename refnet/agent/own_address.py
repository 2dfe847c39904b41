"""The node's own address in one family: given, found on its devices, or as the Node object has it. It may change."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from refnet.agent.settings import Settings
from refnet.calc.autodetect import CAN_REACH, detect
from refnet.calc.changes import Have
from refnet.model.address import IPAddress, IPInterface, read_address

_ANY_PORT = 80


class OwnAddress:
    """`current` is the last one known: an address that goes away for a moment is no reason to forget who we are."""

    def __init__(self, settings: Settings, log: Callable[..., None], version: int = 4) -> None:
        settings = settings.seen_by(version)
        given = settings.address
        self.current = given if given and given.network.prefixlen < given.max_prefixlen else None
        self.reason = ""
        self._version = version
        self._settings = settings
        self._log = log
        self._target = ""  # can-reach's, as a number: a name is asked for once

    def look(self, have: Have, stored: IPInterface | None) -> IPInterface | None:
        """The address now. `stored` is the Node object's. None, and `reason`, while there is none."""
        settings = self._settings
        if settings.address:
            if self.current is None:
                uplink = have.uplink(settings.address.ip)
                self._take(uplink.address if uplink else None)
            self.reason = "" if self.current else f"no device has the address {settings.address.ip}"
        else:
            found = self._found(have) if settings.method and (settings.redetects or not stored) else None
            self._take(found or (self.current if settings.redetects else stored) or stored)
            self.reason = "" if self.current else self._missing()
        return self.current

    def _take(self, address: IPInterface | None) -> None:
        if address and address != self.current:
            about = {"before": str(self.current)} if self.current else {}
            self._log("info", "address found", address=str(address), **about)
            self.current = address

    def _found(self, have: Have) -> IPInterface | None:
        method = self._settings.method
        assert method  # else nobody would look
        reached_from = self._reached_from(method.words[0]) if method.kind == CAN_REACH else None
        return detect(method, have.links.values(), reached_from, self._version)

    def _missing(self) -> str:
        variable = "IP" if self._version == 4 else "IP6"
        if self._settings.method:
            return f"no device has an address that {variable}_AUTODETECTION_METHOD={self._settings.method} would take"
        # A node may well do without IPv6.
        return "IP=none, and the Node object has no address" if self._version == 4 else ""

    def _reached_from(self, target: str) -> IPAddress | None:
        """The address that the kernel would send from; None if it has no route there, or the name means nothing.

        Connecting a datagram socket sends nothing. Like: ip route get TARGET
        """
        family = socket.AF_INET if self._version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect((self._target or target, _ANY_PORT))
            self._target = probe.getpeername()[0]
            return read_address(probe.getsockname()[0])
        return None
