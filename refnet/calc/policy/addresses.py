"""The sets that rules refer to: who is meant by a selector, a list of networks, a port's name."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property

from refnet.calc.policy.filtering import NETS, PORTS, AddressSet
from refnet.calc.policy.read import Party, Policing
from refnet.model.port import SCTP, TCP, UDP, UDPLITE
from refnet.model.rule import Network, Side
from refnet.model.selector import NAMESPACE_LABEL, Selector

_NAME_LENGTH = 31  # the longest name of a set, less the final zero
_PROTOCOL = {TCP: "tcp", UDP: "udp", SCTP: "sctp", UDPLITE: "udplite"}
IN_A_NAMESPACE = f"has({NAMESPACE_LABEL})"
GLOBAL = f"!has({NAMESPACE_LABEL})"


class AddressSets:
    """Makes sets as rules ask for them; equal questions get the same set. One family, one calculation."""

    def __init__(self, version: int, policing: Policing, parties: Iterable[Party]) -> None:
        self.version = version
        self._policing = policing
        self._parties = tuple(parties)
        self.made: dict[str, AddressSet] = {}

    @cached_property
    def _labelled(self) -> tuple[tuple[Mapping[str, str], Party], ...]:
        return tuple((self._policing.labels_of(party), party) for party in self._parties)

    def selected(self, selector: Selector) -> str:
        """The set of the addresses of everything the selector is true of."""
        name = self._name("s", selector.text)
        if name not in self.made:
            nets = (net for labels, party in self._labelled if selector.matches(labels) for net in party.nets)
            self._make(name, nets)
        return name

    def of_nets(self, nets: Iterable[Network]) -> str:
        """The set of these networks."""
        wanted = sorted({str(net) for net in nets})
        name = self._name("c", ",".join(wanted))
        if name not in self.made:
            self._make(name, nets)
        return name

    def of_port(self, port: str, protocol: int) -> str:
        """The set of all pairs of address and port that somebody calls by this name."""
        word = _PROTOCOL[protocol]
        name = self._name("n", f"{word},{port}")
        if name not in self.made:
            members = {
                f"{net.network_address},{word}:{named.port}"
                for party in self._parties
                for named in party.ports
                if named.name == port and named.protocol == protocol
                for net in party.nets
                if net.version == self.version
            }
            self.made[name] = AddressSet(PORTS, frozenset(members))
        return name

    def fixed(self, name: str, nets: Iterable[Network]) -> None:
        """Make a set under a name of its own."""
        self._make(name, nets)

    def _make(self, name: str, nets: Iterable[Network]) -> None:
        self.made[name] = AddressSet(NETS, frozenset(self._members(nets)))

    def _members(self, nets: Iterable[Network]) -> Iterable[str]:
        """As `ipset` writes them. A set of networks cannot hold the whole of a family, but two halves of it."""
        for net in nets:
            if net.version != self.version:
                continue
            for part in net.subnets(prefixlen_diff=1) if net.prefixlen == 0 else (net,):
                yield str(part.network_address) if part.prefixlen == part.max_prefixlen else str(part)

    def _name(self, kind: str, text: str) -> str:
        digest = hashlib.sha256(text.encode(errors="replace")).digest()
        return f"cali{self.version}0{kind}:{base64.urlsafe_b64encode(digest).decode()}"[:_NAME_LENGTH]


def side_selector(side: Side, namespace: str) -> Selector | None:
    """What a rule's side asks of labels, all of it in one selector; None if it asks nothing.

    A namespaced policy looks in its own namespace unless it says in which; labels of namespaces and of service accounts
    come to endpoints with a prefix. Source: libcalico-go's updateprocessors.
    """
    parts = []
    if side.selector:
        parts.append(side.selector)
    if side.service_account_names:
        parts.append(Selector.one_of("projectcalico.org/serviceaccount", side.service_account_names))
    if side.service_account_selector:
        parts.append(Selector.parse(side.service_account_selector, prefix="pcsa."))
    if side.namespace_selector:
        parts.append(about_namespaces(side.namespace_selector))
    elif parts and namespace:
        parts.append(Selector.one_of(NAMESPACE_LABEL, [namespace]))
    return Selector.all_of(parts) if parts else None


def about_namespaces(text: str) -> Selector:
    """A namespaceSelector as a question to endpoints; unless it asks for global things, only namespaced ones answer."""
    selector = Selector.parse(text, prefix="pcns.")
    return (
        selector if "global()" in text.replace(" ", "") else Selector.all_of([Selector.parse(IN_A_NAMESPACE), selector])
    )
