"""A packet as nested boxes, a header each with its fields; what was compared is marked, wanted beside seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tunlab.report.html.cited import Beside, fields_of, header_of
from tunlab.report.html.markup import Child, Element, h
from tunlab.wire.frames import Frame, Header, Icmp, Icmpv6


def picture(frame: Frame, compared: Sequence[Beside] = ()) -> Element:
    """The frame, with every comparison of its fields at its place."""
    by_header: dict[int | None, list[Beside]] = {}
    for one in compared:
        by_header.setdefault(header_of(frame, one.field), []).append(one)
    caption = f"frame {frame.number} on {frame.tap}{f', {frame.direction}' if frame.direction else ''}: {frame.stack}"
    return h(
        "figure",
        h("figcaption", caption),
        [h("p", _beside(one.field, one), class_="whole") for one in by_header.get(None, ())],
        _box(frame.headers, 0, by_header),
        class_="packet",
    )


def _box(headers: Sequence[Header], number: int, compared: Mapping[int | None, Sequence[Beside]]) -> Element | None:
    """A header's box, with those that it carries inside."""
    if number >= len(headers):
        return None
    header = headers[number]
    word = header.word or "data"
    marked = {one.field.partition(".")[2].replace("_", " "): one for one in compared.get(number, ())}
    quoted: Child = None
    if isinstance(header, Icmp | Icmpv6) and header.quoted:
        quoted = h("div", h("span", "it quotes", class_="note"), _box(header.quoted, 0, {}), class_="quoted")
    return h(
        "div",
        h("b", word),
        h("dl", list(_fields(header, marked))),
        quoted,
        _box(headers, number + 1, compared),
        class_=f"box {word}" if word.isalnum() else "box",
    )


def _fields(header: Header, marked: Mapping[str, Beside]) -> Iterator[Element]:
    told = dict(fields_of(header))
    for name, value in told.items():
        one = marked.get(name)
        yield h("div", h("dt", name), h("dd", _beside("", one) if one else value), class_="asserted" if one else None)
    for name, one in marked.items():
        if name not in told:  # something computed, such as a header's kind
            yield h("div", h("dt", name), h("dd", _beside("", one)), class_="asserted")


def _beside(name: str, one: Beside) -> Child:
    label = f"{name} " if name else ""
    if one.is_met:
        how = "as wanted" if one.seen == one.wanted else f"wanted {one.wanted}"
        return [label, h("ins", one.seen), h("span", f" {how}", class_="note")]
    return [label, h("del", f"seen {one.seen}"), " ", h("ins", f"wanted {one.wanted}")]
