"""What the placeholders of mutants and exercises stand for in a lab that is up, whoever's network it is."""

from __future__ import annotations

from ipaddress import ip_network

from tunlab.check.cell import LabCell
from tunlab.errors import WorldError
from tunlab.lab.topology import UPLINK
from tunlab.node.tables import Route, Tables

_DEFAULT = "default"  # as `ip route` calls it


class LabWords:
    """The words of one observed cell; kernel tables are read when they are first asked for.

    Ask while all is well: what the last observation saw may have had a fault in it. Raises WorldError for what the lab
    turns out not to have.
    """

    def __init__(self, cell: LabCell) -> None:
        self._cell = cell
        self._tables: dict[str, Tables] = {}

    def word(self, name: str, about: str, place: str) -> str:
        """The value of `{name:about}` in commands for that place."""
        cell, oracle = self._cell, self._cell.seen.oracle
        match name:
            case "ip":
                return str(oracle.node_ip(about))
            case "gateway":
                return str(cell.topology.node(about).gateway)
            case "uplink":
                return UPLINK
            case "mac":
                return cell.topology.mac(about, UPLINK)
            case "block":
                return self._block(about)
            case "route":
                return str(self._route_to_block(place, about))
            case "proto":
                return self._route_to_block(place, about).protocol
            case "tunnel":
                return str(oracle.tunnel_device)
            case "tunnel_ip":
                return self._tunnel_address(about)
            case "vtep_mac":
                return self._vtep_mac(about)
            case "vni":
                return str(oracle.dialect.vxlan_id)
            case "vxlan_port":
                return str(oracle.dialect.vxlan_port)
            case "host_prefix":
                return oracle.dialect.host_device_prefix
            case "pod_ip":
                return str(cell.workloads[about].address)
            case "host_if":
                return cell.workloads[about].host_device
            case "pod_route_dev":
                return self._device_towards(about)
            case "default_route":
                return str(self._route(about, _DEFAULT))
        raise WorldError(f"{{{name}}}: no such placeholder")

    # ------------------------------------------------------------------ inner workings
    def _now(self, place: str) -> Tables:
        """The tables of a place; those of all nodes are read at once."""
        live = self._cell.live
        if place not in self._tables:
            nodes = live.node_names()
            self._tables |= live.tables(nodes if place in nodes else [place])
        return self._tables[place]

    def _block(self, node: str) -> str:
        blocks = sorted(self._cell.seen.oracle.ipam.blocks.get(node, ()))
        if not blocks:
            raise WorldError(f"{node}: has no block")
        return str(blocks[0])

    def _route(self, place: str, destination: str) -> Route:
        found = [route for route in self._now(place).routes if route.destination == destination]
        if not found:
            raise WorldError(f"{place}: has no route to {destination}")
        return min(found, key=lambda route: route.metric)

    def _route_to_block(self, place: str, node: str) -> Route:
        return self._route(place, self._block(node))

    def _device_towards(self, pod: str) -> str:
        """By which the pod's node reaches it: the pod's own device, or the bridge that this is a port of."""
        workload = self._cell.workloads[pod]
        routes = [
            (ip_network(route.destination).prefixlen, route.device)
            for route in self._now(workload.node).routes
            if route.device and route.destination != _DEFAULT and workload.address in ip_network(route.destination)
        ]
        if not routes:
            raise WorldError(f"{workload.node}: has no route to {pod}, {workload.address}")
        return max(routes)[1]

    def _tunnel_address(self, node: str) -> str:
        """As the store says, else the one of the tunnel device."""
        oracle = self._cell.seen.oracle
        if (address := oracle.ipam.tunnel_addresses.get(node)) is not None:
            return str(address)
        found = sorted(self._now(node).addresses_on(str(oracle.tunnel_device)))
        if len(found) != 1:
            raise WorldError(f"{node}: {oracle.tunnel_device}: has {', '.join(found) or 'no address'}, wanted one")
        return found[0].partition("/")[0]

    def _vtep_mac(self, node: str) -> str:
        device = str(self._cell.seen.oracle.tunnel_device)
        if (link := self._now(node).links.get(device)) is None:
            raise WorldError(f"{node}: has no device {device}")
        return str(link.mac)
