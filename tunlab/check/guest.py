"""A container that calls the plugin verb by verb, exactly as given, and what attachments leave on a node.

For requirements on the CNI protocol: they ask any plugin and any conflist, so they know no device names and no files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from tunlab.box.box import Completed
from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene
from tunlab.errors import SystemFault, TunlabError
from tunlab.node.tables import Tables, lasting, read_tables
from tunlab.runtime.cni import Sandbox

SPEC = "CNI specification 1.1.0, section"  # where a requirement on the protocol is written
judged = partial(requirement, level="extended", scene="cni", labs=("one-node",), modes=("none", "vxlan"))

SETTLED_WITHIN_S = 10.0
_RESTING_LOOKS = 10  # that see the same: 3 s in namespaces, and longer where a look takes longer
# What plugins keep between calls, and the packet filter without its counters. A tool that is missing has made no rules.
_FILES = "find /var/lib/cni /run/cni /var/lib/calico -type f 2>/dev/null | sort"
RULES = (
    r"for tool in iptables-save iptables-legacy-save; do $tool 2>/dev/null; done | grep -v '^#' | sed 's/\[.*\]//' || :"
)


class Guest:
    """One more container on a node, known to the runtime only through these calls."""

    def __init__(self, scene: Scene, name: str, node: str, device: str = "eth0") -> None:
        self.scene = scene
        self.node = node
        self.sandbox = Sandbox(name, node, device=device)
        self.config = scene.live.runtime.first_config(node)

    @property
    def name(self) -> str:
        """The container's, and its namespace's."""
        return self.sandbox.pod

    def call(self, verb: str, env: Mapping[str, str | None] | None = None, **keys: Any) -> Completed:
        """One call of the first plugin; `keys` are added to its configuration, None takes one away."""
        config = {name: value for name, value in {**self.config, **keys}.items() if value is not None}
        return self.scene.live.runtime.call(verb, self.sandbox, config, env)

    def add(self, **keys: Any) -> dict[str, Any]:
        """A successful ADD's result. Raises AssertionError."""
        return document(succeeded(self.call("ADD", **keys)))

    def delete(self, **keys: Any) -> None:
        """A successful DEL, which says nothing. Raises AssertionError."""
        is_silent(self.call("DEL", **keys))

    def tables(self) -> Tables:
        """What the container's namespace holds now."""
        return read_tables(self.scene.host(self.name), self.name)


@contextmanager
def guest(scene: Scene, name: str = "guest", node: str = "", device: str = "eth0") -> Iterator[Guest]:
    """A container with a namespace of its own and nothing attached to it; whatever becomes of it, it is gone after.

    So are its traces on the node, if they go at all: `nothing_left` of the next test must not take them for its own.
    """
    runtime = scene.live.runtime
    one = Guest(scene, name, node or scene.topology.nodes[0].name, device)
    before = footprint(scene, one.node)
    runtime.make_network(name)
    try:
        yield one
    finally:
        with suppress(TunlabError):  # one that has been told already
            one.call("DEL")
        runtime.drop_network(name)
        with suppress(SystemFault):  # `nothing_left` says so where that is the question
            _is_again(scene, one.node, before)


# ---------------------------------------------------------------------- what a plugin said
def document(done: Completed) -> dict[str, Any]:
    """The one JSON object on stdout. Raises AssertionError where there is anything else."""
    try:
        said = json.loads(done.out)
    except ValueError as error:
        raise AssertionError(f"{_told(done)}: stdout is not one JSON document: {done.out[:200]!r}") from error
    assert isinstance(said, dict), f"{_told(done)}: stdout is no JSON object: {done.out[:200]!r}"
    return said


def succeeded(done: Completed) -> Completed:
    """Raises AssertionError where it did not."""
    assert done.rc == 0, f"{_told(done)}: exit code {done.rc}: {(done.out or done.err).strip()[:300]}"
    return done


def is_silent(done: Completed) -> None:
    """It succeeded, and stdout is empty. Raises AssertionError."""
    succeeded(done)
    assert not done.out.strip(), f"{_told(done)}: printed {done.out[:200]!r}, wanted nothing"


def refused(done: Completed, what: str, *codes: int) -> dict[str, Any]:
    """The error object of a call that must fail, with one of `codes` where any are given. Raises AssertionError."""
    assert done.rc != 0, f"{_told(done)} with {what}: succeeded: {done.out[:200]!r}"
    said = document(done)
    code, words = said.get("code"), said.get("msg")
    is_error = isinstance(code, int) and not isinstance(code, bool) and isinstance(words, str) and bool(words)
    assert is_error, f"{_told(done)} with {what}: no error object with a numeric code and a msg: {done.out[:200]!r}"
    wanted = " or ".join(map(str, codes))
    assert not codes or code in codes, f"{_told(done)} with {what}: code {code} ({words}), wanted {wanted}"
    return said


def _told(done: Completed) -> str:
    return f"{done.place}: {done.argv[-1]}"


# ---------------------------------------------------------------------- what is left of an attachment
def footprint(scene: Scene, node: str) -> list[str]:
    """All that attachments may change on a node: tables, packet filter, the plugins' own files, allocations."""
    kept = [f"file {line}" for line in scene.run(node, _FILES).out.splitlines()]
    kept += [f"rule {line}" for line in scene.run(node, RULES).out.splitlines()]
    given = scene.live.installation.read_ipam().allocations
    kept += [f"allocation {address} to {handle}" for address, handle in given.items()]
    return sorted([*lasting(scene.tables(node)), *kept])


@contextmanager
def nothing_left(scene: Scene, node: str = "") -> Iterator[None]:
    """After the block the node is as before it, soon. Raises the system's fault, which says what is different.

    Whoever has attached something on the node right before waits until it is `at_rest`.
    """
    place = node or scene.topology.nodes[0].name
    before = footprint(scene, place)
    yield
    _is_again(scene, place, before)


def at_rest(scene: Scene, node: str) -> None:
    """Wait until nothing changes any more on a node: an agent that works on what was just attached is done."""
    before: list[str] = []

    def is_the_same(now: list[str]) -> bool:
        nonlocal before
        last, before = before, now
        return now == last

    scene.eventually(
        lambda: footprint(scene, node),
        is_the_same,
        within_s=SETTLED_WITHIN_S,
        in_a_row=_RESTING_LOOKS,
        what=f"{node}: comes to rest",
    )


def _is_again(scene: Scene, node: str, before: Sequence[str]) -> None:
    """Wait until the node is as before. Raises the system's fault, which says what is different."""
    scene.eventually(
        lambda: differences(footprint(scene, node), before),
        lambda left: not left,
        within_s=SETTLED_WITHIN_S,
        what=f"{node}: all is as before the attachment",
    )


def differences(now: Sequence[str], before: Sequence[str]) -> list[str]:
    """What is lacking of the lines before, and what is there too often: two alike are one too many."""
    gone, new = Counter(before) - Counter(now), Counter(now) - Counter(before)
    return [f"lacks {one}" for one in gone.elements()] + [f"has {one}" for one in new.elements()]
