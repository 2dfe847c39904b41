"""The laws of the house. Each takes files and yields one line per offence: where, and what the law says."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.architecture.tree import Source, called, functions, imports, strings

LONGEST_FUNCTION, LONGEST_FILE = 60, 500

# Who may import whom: only what has a smaller number, or is in the same package. Packages of one number may not form a
# circle: `_circles` sees to that. A module may have a floor of its own.
TUNLAB_FLOORS = {
    "errors": 0,
    "paths": 0,
    "layout": 0,
    "wait": 0,  # the one module that waits: everything that starts something needs it, and it knows nothing
    "child": 3,
    "loopback": 1,
    "lab": 1,
    "box": 2,
    "node": 3,
    "wire": 4,
    "systems": 4,
    "runtime": 4,
    "live": 5,
    "oracle": 5,
    "check": 5,
    "mutants": 6,
    "trace": 6,
    "watch": 6,
    "compare": 6,
    "lesson": 6,
    "exercise": 6,
    "report": 6,
    "seams": 6,
    "plugin": 6,
    "scheduler": 6,
    "command": 7,
}
REFNET_FLOORS = {
    "errors": 0,
    "model.value": 0,  # the decorator that makes values, those of errors too
    "model": 1,
    "store": 2,
    "ipam": 3,
    "calc": 3,
    "render": 4,
    "apply": 5,
    "agent": 6,
    "cni": 6,
    "ctl": 6,
    "bin": 7,
}
ZONE_READERS = ("ip_address", "ip_network", "ip_interface")
# Called in error, these would block with nothing to look at, or hide a test.
SLEEPS = {"time.sleep", "asyncio.sleep"}
SLEEPERS = ("tunlab/wait.py",)
SKIPS = {"skip", "skipif", "xfail", "importorskip", "skipUnless", "skipIf", "SkipTest", "skipTest"}
SKIPPERS = ("tunlab/plugin.py",)
# What is made by these says nothing yet: something must be demanded of it.
MAKERS = {
    "on", "going", "window", "where", "with_stack", "matching", "between", "from_to", "echo", "requests", "replies",
    "of_kind", "quoting", "frames_of", "question", "expecting", "questions",
}  # fmt: skip


def halves_never_meet(files: Sequence[Source]) -> Iterator[str]:
    """Neither package knows the other, not by import and not by a path; only drivers name executables' paths."""
    for source in files:
        own = source.module.split(".")[0]
        if own not in ("tunlab", "refnet"):
            continue
        other = "refnet" if own == "tunlab" else "tunlab"
        for node, name in imports(source):
            if name.split(".")[0] == other:
                yield source.at(node, f"{own} imports {name}")
        if source.path.startswith("tunlab/systems/"):
            continue
        for node in strings(source):
            if re.search(rf"\b{other}[./]\w", str(node.value)):
                yield source.at(node, f"{own} names {node.value!r}")


def models_read_no_zones(files: Sequence[Source]) -> Iterator[str]:
    """Text becomes an address by `refnet.model.address` alone: a zone (`fe80::1%…`) may be any text, and is printed."""
    for source in files:
        if not source.path.startswith("refnet/model/") or source.path == "refnet/model/address.py":
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and called(node).rpartition(".")[2] in ZONE_READERS:
                yield source.at(node, f"{called(node)} outside refnet/model/address.py")


def imports_go_downwards(files: Sequence[Source]) -> Iterator[str]:
    """Every import between packages of one half goes to a lower floor, or stays on it without making a circle."""
    for half, floors in (("tunlab", TUNLAB_FLOORS), ("refnet", REFNET_FLOORS)):
        known: dict[tuple[str, str], str] = {}
        for source in files:
            place = source.module.split(".")
            if place[0] != half or len(place) == 1:
                continue
            here = _floor_name(place[1:], floors)
            if here not in floors:
                yield source.at(source.tree, f"{half}.{here} has no floor in tests/architecture/laws.py")
                continue
            for node, name in imports(source):
                half_there, *rest = name.split(".")
                there = _floor_name(rest, floors)
                if half_there != half or there not in floors or there == here:
                    continue
                words = source.at(node, f"{half}.{here} imports {name}")
                if floors[there] > floors[here]:
                    yield f"{words}, which is above it"
                elif floors[there] == floors[here]:
                    known[here, there] = words
        yield from _circles(known)


def _floor_name(place: Sequence[str], floors: Mapping[str, int]) -> str:
    """The most exact name that has a floor: `model.value` before `model`."""
    exact = ".".join(place[:2])
    return exact if exact in floors else "".join(place[:1])


def _circles(known: Mapping[tuple[str, str], str]) -> Iterator[str]:
    reach = set(known)
    for middle in sorted({name for pair in known for name in pair}):
        before = {first for first, second in reach if second == middle}
        after = {second for first, second in reach if first == middle}
        reach |= {(start, end) for start in before for end in after}
    for (first, second), words in known.items():
        if (second, first) in reach:
            yield f"{words}, and {second} comes back to {first}"


def nodes_have_the_standard_library_alone(files: Sequence[Source]) -> Iterator[str]:
    """What runs on a node or in a box starts as `python3 -ISE`: it finds the standard library and itself."""
    for source in files:
        if source.path.startswith("tunlab/box/inside/") or source.path in ("tunlab/box/line.py", "tunlab/box/enter.py"):
            own: tuple[str, ...] = ("tunlab.box.inside", "tunlab.box.line")
        elif source.path.startswith("refnet/"):
            own = ("refnet", "yaml") if source.path.startswith("refnet/ctl/") else ("refnet",)
        else:
            continue
        for node, name in imports(source):
            standard = name.split(".")[0] in sys.stdlib_module_names
            mine = any(name == each or name.startswith(f"{each}.") for each in own)
            if not standard and not mine:
                yield source.at(node, f"imports {name}, which is not there where this runs")


def nobody_sleeps(files: Sequence[Source]) -> Iterator[str]:
    """Waiting is looking: a sleep stands in the one module that waits, nowhere else."""
    for source in files:
        if source.path in SLEEPERS:
            continue
        aliases = {
            alias.asname or alias.name: node.module
            for node in ast.walk(source.tree)
            if isinstance(node, ast.ImportFrom) and node.module in ("time", "asyncio")
            for alias in node.names
            if alias.name == "sleep"
        }
        modules = {
            alias.asname: alias.name
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.asname and alias.name in ("time", "asyncio")
        }
        for node in ast.walk(source.tree):
            name = dotted_call(node)
            first, _, last = name.partition(".")
            if name in SLEEPS or name in aliases or (first in modules and last == "sleep"):
                yield source.at(node, f"{name} outside {SLEEPERS[0]}")


def dotted_call(node: ast.AST) -> str:
    return called(node) if isinstance(node, ast.Call) else ""


def what_is_chosen_is_demanded(files: Sequence[Source]) -> Iterator[str]:
    """A suite that narrows frames down, makes a question or asks one, and leaves it at that, demands nothing."""
    for source in files:
        if not source.path.startswith("suites/"):
            continue
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
                continue
            name = called(node.value).rpartition(".")[2] or getattr(node.value.func, "attr", "")
            if name in MAKERS or (name == "ask" and ast.unparse(node.value.func) == "scene.ask"):
                yield source.at(node, f"{name}(…) stands alone: demand something of it")


def suites_know_no_checkout(files: Sequence[Source]) -> Iterator[str]:
    """A suite reads manifests by `tunlab.check.manifests`, or a replay would apply others than the bundle's."""
    for source in files:
        if source.path.startswith("suites/"):
            for node, name in imports(source):
                if name.startswith("tunlab.paths"):
                    yield source.at(node, f"a suite imports {name}")


def nothing_is_skipped(files: Sequence[Source]) -> Iterator[str]:
    """A skip hides a broken lab; only the plugin may say that something is not offered."""
    for source in files:
        if source.path in SKIPPERS:
            continue
        for node in ast.walk(source.tree):
            name = ""
            if isinstance(node, ast.Attribute):
                told = ast.unparse(node)  # whatever pytest is called there: `import pytest as pt`, `self.skipTest`
                name = told if node.attr in SKIPS or told == "pytest.exit" else ""
            elif isinstance(node, ast.ImportFrom):
                name = next((alias.name for alias in node.names if alias.name in SKIPS), "")
            if name:
                yield source.at(node, f"{name} outside {SKIPPERS[0]}")


def functions_are_short(files: Sequence[Source]) -> Iterator[str]:
    for source in files:
        for node in functions(source):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                yield source.at(node, f"{node.name} has {lines} lines, {LONGEST_FUNCTION} are allowed")


def files_are_short(files: Sequence[Source]) -> Iterator[str]:
    for source in files:
        lines = source.text.count("\n")
        if lines > LONGEST_FILE:
            yield f"{source.path}: {lines} lines, {LONGEST_FILE} are allowed"


LAWS = (
    halves_never_meet,
    imports_go_downwards,
    models_read_no_zones,
    nodes_have_the_standard_library_alone,
    nobody_sleeps,
    nothing_is_skipped,
    what_is_chosen_is_demanded,
    suites_know_no_checkout,
    functions_are_short,
    files_are_short,
)


def offences(law: object, files: Iterable[Source]) -> list[str]:
    assert callable(law)
    return list(law(list(files)))
