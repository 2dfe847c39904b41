"""A node's tables before and after what failed: what came, what went, and all of it to unfold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tunlab.errors import WorldError
from tunlab.node.tables import Link, Tables, parse_tables
from tunlab.report.html.markup import Child, Element, h

_BEFORE, _AFTER = ".before.json", ".after.json"


@dataclass(frozen=True)
class Pair:
    """A node's tables as lines by table, at the two moments; a moment that nobody wrote down is empty."""

    node: str
    before: Mapping[str, tuple[str, ...]]
    after: Mapping[str, tuple[str, ...]]

    @cached_property
    def changes(self) -> tuple[str, ...]:
        """What is only in one of them: "- " went, "+ " came. Empty where a moment is missing."""
        if not self.before or not self.after:
            return ()
        return tuple(_changes(self.before, self.after))


def read_pairs(folder: Path) -> list[Pair]:
    """Every node's tables in the folder of a failure."""
    nodes = sorted({path.name.removesuffix(end) for end in (_BEFORE, _AFTER) for path in folder.glob(f"*{end}")})
    return [
        Pair(node, _read(folder / f"{node}{_BEFORE}", node), _read(folder / f"{node}{_AFTER}", node)) for node in nodes
    ]


def compared(pair: Pair) -> Element:
    """One node's two moments."""
    if not pair.before or not pair.after:
        told = f"{pair.node}: tables of one moment alone"
    else:
        told = f"{pair.node}: {len(pair.changes) or 'no'} lines differ between before and after"
    changes = [h("ins" if line.startswith("+") else "del", f"{line}\n") for line in pair.changes]
    return h(
        "div",
        h("p", told),
        h("pre", changes, class_="diff", tabindex=0) if changes else None,
        h("details", h("summary", f"all tables of {pair.node}"), list(_all(pair.after or pair.before))),
        class_="tables",
    )


def _all(tables: Mapping[str, tuple[str, ...]]) -> Iterator[Child]:
    for name, lines in tables.items():
        if lines:
            yield h("h6", name)
            yield h("pre", "\n".join(lines), tabindex=0)


def _changes(before: Mapping[str, tuple[str, ...]], after: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    for name in after:
        old, new = before.get(name, ()), after[name]
        yield from (f"- {name}: {line}" for line in old if line not in new)
        yield from (f"+ {name}: {line}" for line in new if line not in old)


def _read(path: Path, node: str) -> Mapping[str, tuple[str, ...]]:
    try:
        tables = parse_tables(node, path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, WorldError):
        return {}  # a run that was cut off; what there is is shown
    return _as_lines(tables)


def _as_lines(tables: Tables) -> dict[str, tuple[str, ...]]:
    return {
        "links": tuple(_link(one) for one in tables.links.values()),
        "addresses": tuple(str(one) for one in sorted(tables.addresses | tables.addresses6)),
        "routes": tuple(sorted(str(one) for one in tables.routes | tables.routes6)),
        "neighbours": tuple(sorted(str(one) for one in tables.neighbours | tables.neighbours6)),
        "fdb": tuple(sorted(str(one) for one in tables.fdb)),
    }


def _link(link: Link) -> str:
    more = " ".join(
        f"{name} {value}" for name, value in sorted(link.attributes.items()) if not isinstance(value, dict | list)
    )
    return (
        f"{link.name} {link.kind} mtu {link.mtu_bytes} {'up' if link.is_up else 'down'} {link.mac or ''} {more}".strip()
    )
