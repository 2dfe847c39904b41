"""What stands behind a verdict: the packet, its way, the tables, the commands, and where the files are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from tunlab.check.verdict import Row, Verdict
from tunlab.report.html import packet, sequence, tables
from tunlab.report.html.cited import Beside, beside_in, cited_in
from tunlab.report.html.markup import Child, Element, h
from tunlab.report.html.sightings import CaptureFile
from tunlab.report.html.story import Story, is_capture
from tunlab.report.html.words import place_of, sign

_LAST_COMMANDS = 40
_UNFOLDED = 10  # so many failures are told at length at once


def passed(story: Story, row: Row) -> Element:
    """A row with nothing wrong, on one line."""
    reason = f" {row.reason.splitlines()[0]}" if row.reason and row.verdict is Verdict.NOT_OFFERED else ""
    return h(
        "li",
        sign(row.verdict),
        f" {row.mode} {row.lab}{reason} ",
        h("small", f"{row.seconds:.2f} s "),
        [[_packets_link(path), " "] for path in row.evidence if is_capture(path)],
        list(_compared(story, row)),
        id=place_of(row.key),
        tabindex=-1,
        data_v=row.verdict.value,
    )


def _compared(story: Story, row: Row) -> Iterator[Element]:
    """Frames of a row that passed, with what was found as wanted in them."""
    for note in story.notes.get(row.key, ()):
        path = story.capture_of(row, note.file)
        frame = story.capture(path).frame(note.number) if path else None
        if frame is not None:
            fields = [Beside(field, seen, wanted, is_met=True) for field, seen, wanted in note.fields]
            names = ", ".join(one.field for one in fields)
            yield h("details", h("summary", f"frame {note.number}: {names}"), packet.picture(frame, fields))


def wrong(story: Story, row: Row) -> Element:
    """A row that failed or is broken, with all there is to see."""
    lines = row.reason.splitlines() or ["nobody said why"]
    is_open = len(story.wrong) <= _UNFOLDED
    return h(
        "article",
        h("h4", sign(row.verdict), f" {row.mode} {row.lab} ", h("small", f"{row.seconds:.2f} s")),
        h("p", lines[0], class_="reason"),
        h("pre", "\n".join(lines[1:]), tabindex=0) if lines[1:] else None,
        h("details", h("summary", "evidence"), list(_evidence(story, row)), open=is_open),
        id=place_of(row.key),
        tabindex=-1,
        data_v=row.verdict.value,
    )


def journey(story: Story, path: str) -> Element:
    """A capture by itself: how one echo went, with the packet as it was on the wire."""
    file = story.capture(path)
    way = file.longest_way
    told: Child = h("p", file.complaint, class_="reason") if file.complaint else h("p", "No echo was captured.")
    if way is not None:
        widest = max((frame for hop in way.there for frame in hop.sightings), key=lambda frame: len(frame.headers))
        told = [sequence.diagram(way), packet.picture(widest)]
    return h(
        "section",
        h("h3", Path(path).stem),
        h("p", _file_link(path), f", {file.count} packets on {len(file.taps)} taps"),
        told,
        id=_packets_id(path),
        tabindex=-1,
    )


def _evidence(story: Story, row: Row) -> Iterator[Child]:
    yield from _packet(story, row)
    folder = story.failure_of(row)
    if folder is not None:
        pairs = tables.read_pairs(folder)
        if pairs:
            yield h("h5", "tables of the nodes")
            yield [tables.compared(pair) for pair in pairs]
        commands = story.lines(folder / "commands.txt", _LAST_COMMANDS)
        if commands:
            told = h("summary", f"the last {len(commands)} lines of commands.txt")
            yield h("details", told, h("pre", "\n".join(commands), tabindex=0))
    yield h("p", "files: ", [[link, " "] for link in _links(story, row, folder)])


def _packet(story: Story, row: Row) -> Iterator[Child]:
    """The frame that the reason names, or what it compares without naming any."""
    cited = cited_in(row.reason)
    file: CaptureFile | None = None
    if cited is not None and (path := story.capture_of(row, cited.file)):
        file = story.capture(path)
    frame = file.frame(cited.number) if file is not None and cited is not None else None
    if file is not None and file.complaint:
        yield h("p", file.complaint)
    if file is not None and frame is not None and cited is not None:
        yield h("h5", "the packet")
        yield packet.picture(frame, [cited.beside] if cited.beside else [])
        way = file.way_of(frame)
        if way is not None:
            yield h("h5", "its way")
            yield sequence.diagram(way)
    elif (beside := beside_in(row.reason)) is not None:
        yield h(
            "dl",
            h("div", h("dt", "seen"), h("dd", h("del", beside.seen))),
            h("div", h("dt", "wanted"), h("dd", h("ins", beside.wanted))),
            class_="beside",
        )


def _links(story: Story, row: Row, folder: Path | None) -> Iterator[Element]:
    for path in row.evidence:
        if is_capture(path):
            yield _file_link(path)
            yield _packets_link(path)
        elif (story.folder / path).is_file():
            yield _file_link(path)
    if folder is not None:
        for each in sorted(folder.iterdir()):
            yield _file_link(str(each.relative_to(story.folder)))


def _file_link(path: str) -> Element:
    return h("a", path.rpartition("/")[2], href=quote(path))


def _packets_link(path: str) -> Element:
    return h("a", "packets", href="#" + quote(_packets_id(path), safe="/"))


def _packets_id(path: str) -> str:
    return f"packets/{path}"
