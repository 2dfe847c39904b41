"""Connections of pods that are gone: whoever gets a pod's address must not get its open doors as well.

The rules let through what belongs to a connection, and a connection is remembered by its addresses for up to days.
"""

from __future__ import annotations

from collections.abc import Mapping

from refnet.agent.log import Log
from refnet.apply.flows import forget_flows
from refnet.apply.read import Run
from refnet.calc.changes import Have
from refnet.calc.world import World
from refnet.errors import KernelRefused
from refnet.model.address import IPAddress, single

# The device and the container behind an address.
Owners = Mapping[IPAddress, tuple[str, str]]


class Flows:
    """Remembers who has which address on this node, and whose connections are still to be forgotten."""

    def __init__(self, node: str, log: Log, run: Run) -> None:
        self._node = node
        self._log = log
        self._run = run
        self._owners: Owners = {}
        self._left: set[IPAddress] = set()
        self._reason = ""

    def look(self, world: World, have: Have) -> None:
        """Forget the connections of addresses that changed hands, and of those given back, once no route leads there.

        Before, the pod may still be there to send one more packet, and the kernel would know the connection again.
        """
        owners = {
            address: (endpoint.interface, endpoint.container_id)
            for endpoint in world.endpoints
            if endpoint.node == self._node
            for address in endpoint.addresses
        }
        self._left |= {address for address, owner in self._owners.items() if owners.get(address) != owner}
        self._owners = owners
        routed = {key.prefix for key in have.routes} if self._left else ()
        due = {address for address in self._left if address in owners or single(address) not in routed}
        if not due:
            return
        self._left -= due
        try:
            forget_flows(due, self._run)
            self._reason = ""
        except KernelRefused as error:
            if error.message != self._reason:
                self._log("warning", "connections of pods that are gone stay open", reason=error.message)
            self._reason = error.message
