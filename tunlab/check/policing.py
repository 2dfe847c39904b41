"""Everybody asks everybody, and the oracle of policy says what must come of it: a policy judged over all pairs of pods.

What may pass is the witness of what may not: both are asked in the same moment, by the same probes, of the same pods.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import yaml

from tunlab.check.matrix import Expected, Question
from tunlab.check.scene import Scene, read_documents
from tunlab.errors import Bug, SystemFault
from tunlab.oracle.policy import Endpoint, NamedPort, Packet, PolicyOracle

TCP, UDP = (80, 81), (53, 54)
# A host's own kernel refuses to send what its policy denies; a pod's packet leaves the pod and is lost on the way.
DENIED, DENIED_ON_THE_HOST = Expected.denied(), Expected.denied(may_be_own=True)
Documents = Sequence[str | Path | Mapping[str, Any]]


def cast_of(scene: Scene) -> dict[str, Endpoint]:
    """The pods that are up, as the lab describes them; each has the profile of its namespace."""
    labels = {pod.name: dict(pod.labels) for pod in scene.topology.pods}
    cast = {}
    for name, workload in scene.workloads.items():
        namespace = workload.sandbox.namespace
        cast[name] = Endpoint(
            name, workload.address, "pod", labels.get(name, {}), namespace, profiles=(f"kns.{namespace}",)
        )
    return cast


def host_of(scene: Scene, name: str, **more: Any) -> Endpoint:
    """A node, or any other host of the lab; a stranger unless `kind` says otherwise."""
    address = scene.topology.host(name).attachments[0].address.ip
    return Endpoint(name, address, **{"kind": "stranger", "namespace": "", **more})


@contextmanager
def answering(
    scene: Scene, places: Iterable[str], tcp: Sequence[int] = TCP, udp: Sequence[int] = UDP
) -> Iterator[None]:
    """Meanwhile all of these places answer on these ports."""
    with contextlib.ExitStack() as stack:
        for place in places:
            stack.enter_context(scene.listening(place, tcp=tcp, udp=udp))
        yield


def ruled(
    scene: Scene,
    documents: Documents,
    cast: Mapping[str, Endpoint],
    *,
    pairs: Iterable[tuple[str, str]] | None = None,
    tcp: Sequence[int] = TCP,
    udp: Sequence[int] = UDP,
    icmp: bool = True,
) -> list[Question]:
    """Every question of these pairs (all, unless said otherwise), with what the oracle expects of it."""
    oracle = PolicyOracle([one for document in documents for one in read_documents(document)], cast.values())
    packets = [*([Packet("icmp")] if icmp else []), *(Packet("tcp", port) for port in tcp)]
    packets += [Packet("udp", port) for port in udp]
    questions = []
    for source, target in permutations(cast, 2) if pairs is None else pairs:
        for packet in packets:
            allowed = oracle.ruling(cast[source], cast[target], packet).allowed
            denied = DENIED_ON_THE_HOST if cast[source].kind == "host" else DENIED
            expected = scene.answer() if allowed else denied
            questions.append(scene.question(source, target, packet.protocol, port=packet.port, expect=expected))
    return questions


def demand_both(questions: Sequence[Question]) -> None:
    """Raises Bug unless some of these must be answered and some must not: a "never" needs its witness."""
    if len({question.expected.outcomes == ("answered",) for question in questions}) != 2:
        raise Bug("policy: what is asked: nothing of it must be answered, or all of it")


def vouching(scene: Scene, questions: Sequence[Question]) -> list[Question]:
    """For each responder that nobody here may reach: its own node asks it, which no policy of a pod forbids.

    Else nobody knows whether it is denied or dead. Source: Calico's documentation, "host to its own workloads".
    """
    alive = {(q.target, q.protocol, q.port) for q in questions if q.expected.outcomes == ("answered",)}
    mute = dict.fromkeys((q.target, q.protocol, q.port) for q in questions if q.target in scene.workloads)
    found = []
    for target, protocol, port in mute:
        if (target, protocol, port) not in alive:
            asked = scene.question(scene.workloads[target].node, target, protocol, port=port)
            found.append(scene.expecting(asked, replace(asked.expected, saw=None)))  # from which address is its affair
    return found


def witnessed(scene: Scene, questions: Sequence[Question]) -> list[Question]:
    """These questions, and whoever has to vouch for those who are denied to all. Raises Bug as `demand_both` does."""
    demand_both(questions)
    return [*questions, *vouching(scene, questions)]


@contextmanager
def policed(
    scene: Scene,
    *documents: str | Path | Mapping[str, Any],
    cast: Mapping[str, Endpoint] | None = None,
    tcp: Sequence[int] = TCP,
    udp: Sequence[int] = UDP,
) -> Iterator[list[Question]]:
    """Apply, and demand over all pairs of pods what the oracle says, three times in a row; the questions are given.

    Whoever is denied to everybody is seen alive all the same.
    """
    cast = cast_of(scene) if cast is None else cast
    questions = witnessed(scene, ruled(scene, documents, cast, tcp=tcp, udp=udp))
    with answering(scene, cast, tcp, udp), scene.applied(*documents):
        scene.settle(questions)
        yield questions


def stored_endpoint(scene: Scene, pod: str) -> dict[str, Any]:
    """The WorkloadEndpoint of a pod, as the system's calicoctl gives it and takes it back. Raises SystemFault."""
    namespace = scene.workloads[pod].sandbox.namespace
    text = scene.ctl("get", "workloadendpoints", "-n", namespace, "-o", "yaml").out
    for item in (yaml.safe_load(text) or {}).get("items") or []:
        if item["spec"].get("pod") == pod:
            for name in ("resourceVersion", "uid", "creationTimestamp"):
                item["metadata"].pop(name, None)
            found: dict[str, Any] = item
            return found
    raise SystemFault(f"calicoctl get workloadendpoints -n {namespace}: {pod} is not among them")


def stored_pool(scene: Scene, **spec: Any) -> dict[str, Any]:
    """The lab's first pool as it is stored, with these keys of its spec changed."""
    name = scene.topology.pools[0].name
    stored = yaml.safe_load(scene.ctl("get", "ippool", name, "-o", "yaml").out)
    return {**stored, "metadata": {"name": name}, "spec": {**stored["spec"], **spec}}


def with_labels(endpoint: Mapping[str, Any], **labels: str) -> dict[str, Any]:
    """A WorkloadEndpoint with these labels changed."""
    metadata = endpoint["metadata"]
    return {**endpoint, "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), **labels}}}


def with_spec(endpoint: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """A WorkloadEndpoint with these keys of its spec changed."""
    return {**endpoint, "spec": {**endpoint["spec"], **spec}}


def naming(endpoint: Endpoint, *ports: NamedPort) -> Endpoint:
    """The same endpoint, with names for its ports."""
    return replace(endpoint, ports=ports)
