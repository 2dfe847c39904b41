"""A lab on its feet, step by step: built, with a system installed, with its pods launched."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from typing import Any

import testinfra.host

from tunlab.box.box import Box
from tunlab.errors import LabError, SystemFault
from tunlab.lab.build import BOX, batches
from tunlab.lab.plan import make_plan
from tunlab.lab.topology import Mode, Pod, Topology
from tunlab.live.speaker import start_speakers
from tunlab.live.tools import place_tools
from tunlab.node.backend import host_in
from tunlab.node.tables import Tables, read_tables
from tunlab.runtime.cni import Runtime, Sandbox
from tunlab.systems.install import Installation
from tunlab.systems.recipe import System

_READY_WITHIN_S = 40.0
_IDENTIFIERS = range(0x7100, 0xFFFF)


@dataclass(frozen=True, slots=True)
class Workload:
    """A launched pod: what the CNI result said, and the host's end of its veth."""

    name: str
    node: str
    address: IPv4Address
    host_device: str
    mac: str
    sandbox: Sandbox
    result: Mapping[str, Any]

    @property
    def address6(self) -> IPv6Address | None:
        """The IPv6 address, where the result lists one."""
        texts = (str(one.get("address", "")).partition("/")[0] for one in self.result.get("ips", ()))
        return next((IPv6Address(text) for text in texts if ":" in text), None)


class LiveLab:
    """One lab in one box; each step may be taken by another process, for what matters is in the box."""

    def __init__(self, topology: Topology, box: Box) -> None:
        self.topology = topology
        self.box = box
        self.system: System | None = None
        self.mode: Mode | None = None
        self._installation: Installation | None = None
        self._runtime: Runtime | None = None
        self.workloads: dict[str, Workload] = {}
        self.identifiers: Iterator[int] = itertools.cycle(_IDENTIFIERS)  # of echoes; the next was not used lately

    # ------------------------------------------------------------------ steps
    def build(self) -> None:
        """Make segments, routers, nodes and the store. Raises WorldError."""
        plan = make_plan(self.topology)
        whole, *parts = batches(plan)
        self.box.run(BOX, ["sh", "-eu", "-c", whole.script])
        for host in plan.hosts:
            self.box.add_host(host)
        self.box.gather([(part.namespace or BOX, ("sh", "-eu", "-c", part.script)) for part in parts])
        place_tools(self.box, [host.name for host in self.topology.hosts])
        start_speakers(self.box, self.topology)

    def choose(self, system: System, mode: Mode) -> Installation:
        """Say which system in which mode is (to be) on the nodes; changes nothing in the box. Raises LabError."""
        if mode not in system.modes:
            raise LabError(
                f"--mode: {mode}: {system.name} does not offer it", hint=f"it offers: {', '.join(sorted(system.modes))}"
            )
        recipe = system.recipe(self.topology, mode)
        self.system, self.mode = system, mode
        self._installation = Installation(self.box, self.topology, recipe)
        self._runtime = Runtime(self.box, recipe.conflists, recipe.plugin_path)
        return self._installation

    def install(self, system: System, mode: Mode, ready_within_s: float = _READY_WITHIN_S) -> None:
        """Agent, store and CNI plugin on every node, until they say ready. Raises SystemFault or WorldError."""
        self.choose(system, mode).install(ready_within_s)

    def launch(self, pod: Pod, overrides: Mapping[str, Any] | None = None) -> Workload:
        """Attach one pod by a CNI ADD; `overrides` are keys of its configuration, whose args carry the pod's labels.

        Raises SystemFault (the plugin refused, or its result makes no sense).
        """
        if pod.labels:
            pairs = [{"key": key, "value": value} for key, value in pod.labels]
            overrides = {"args": {"org.projectcalico": {"labels": pairs}}, **(overrides or {})}
        arguments = {"IP": str(pod.address)} if pod.address is not None else None
        sandbox = Sandbox(pod.name, pod.node, pod.namespace, arguments=arguments)
        result = self.runtime.attach(sandbox, overrides)
        self.workloads[pod.name] = workload_from(sandbox, result)
        return self.workloads[pod.name]

    def launch_all(self, pods: Iterable[Pod] | None = None) -> None:
        """Attach the lab's pods, in the file's order."""
        for pod in self.topology.pods if pods is None else pods:
            self.launch(pod)

    def adopt(self, workload: Workload) -> None:
        """Take over a pod that an earlier process has attached."""
        self.workloads[workload.name] = workload
        self.runtime.adopt(workload.sandbox, workload.result)

    def remove(self, pod: str) -> None:
        """Detach a pod by a CNI DEL and remove its namespace."""
        self.runtime.detach(self.workloads[pod].sandbox)
        del self.workloads[pod]

    # ------------------------------------------------------------------ looking
    @property
    def installation(self) -> Installation:
        """The installed system. Raises LabError where there is none."""
        if self._installation is None:
            raise LabError(
                f"{self.topology.name}: no system is installed", hint=f"./lab install --lab {self.topology.name}"
            )
        return self._installation

    @property
    def runtime(self) -> Runtime:
        """What attaches pods. Raises LabError where no system is installed."""
        if self._runtime is None:
            raise LabError(
                f"{self.topology.name}: no system is installed", hint=f"./lab install --lab {self.topology.name}"
            )
        return self._runtime

    def host(self, place: str) -> testinfra.host.Host:
        """A testinfra host for a place of the lab."""
        return host_in(self.box, place)

    def tables(self, places: Iterable[str]) -> dict[str, Tables]:
        """The kernel tables of several places, read now."""
        return {place: read_tables(self.host(place), place) for place in places}

    def node_names(self) -> list[str]:
        """The nodes, in the lab's order."""
        return [node.name for node in self.topology.nodes]


def workload_from(sandbox: Sandbox, result: Mapping[str, Any]) -> Workload:
    """What a CNI result says about a pod. Raises SystemFault when it makes no sense."""
    try:
        interfaces = result["interfaces"]
        address = next(IPv4Interface(one["address"]).ip for one in result["ips"] if ":" not in one["address"])
        # Who makes a bridge too lists it before the cable's host end.
        host_device = [one["name"] for one in interfaces if not one.get("sandbox")][-1]
        mac = next(one.get("mac", "") for one in interfaces if one.get("sandbox"))
    except (KeyError, IndexError, StopIteration, ValueError, TypeError) as error:
        raise SystemFault(f"{sandbox.node}: ADD of {sandbox.pod}: its result makes no sense: {dict(result)}") from error
    return Workload(sandbox.pod, sandbox.node, address, host_device, mac, sandbox, result)
