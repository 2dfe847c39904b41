"""report.html as a whole, from the verdict down to the versions; the only script and style in it are its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from tunlab.check.verdict import Key, Row, Verdict
from tunlab.report.html import evidence
from tunlab.report.html.markup import Child, Element, h, page_text, raw
from tunlab.report.html.matrix import NEWS, matrix
from tunlab.report.html.story import Story, read_story
from tunlab.report.html.words import ENDS, SIGNS, sign, to_row, told
from tunlab.report.record import describe_options
from tunlab.report.results import totals_of, write_atomically

REPORT = "report.html"
_HERE = Path(__file__).parent
_GOOD = (Verdict.PASSED, Verdict.NOT_OFFERED)


def write_report(folder: Path) -> Path:
    """Make a run's page anew from its folder. Raises LabError where that holds no results."""
    path = folder / REPORT
    write_atomically(path, page_text(page(read_story(folder))))
    return path


def page(story: Story) -> Element:
    """The document."""
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    name = f"{story.results.system} · {story.results.run}"
    return h(
        "html",
        h(
            "head",
            h("meta", charset="utf-8"),
            h("meta", http_equiv="Content-Security-Policy", content=policy),
            h("meta", name="viewport", content="width=device-width, initial-scale=1"),
            h("meta", name="color-scheme", content="light dark"),
            h("title", f"tunlab: {name}"),
            raw("style", style),
        ),
        h(
            "body",
            h("a", "to the matrix", href="#matrix", class_="skip"),
            _head(story),
            h("main", list(_sections(story))),
            raw("script", script),
        ),
        lang="en",
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _head(story: Story) -> Element:
    results = story.results
    totals = totals_of(story.rows)
    chips = [
        h("li", sign(verdict), f" {totals[verdict.value]} {verdict.words}", class_=verdict.value) for verdict in Verdict
    ]
    parts = [("matrix", "matrix"), ("requirements", "requirements"), ("packets", "packets"), ("about", "about the run")]
    if results.baseline is not None:
        parts.insert(1, ("comparison", "comparison"))
    if story.wrong:
        parts.insert(0, ("wrong", "what is wrong"))
    return h(
        "header",
        h("h1", f"{results.system}: {ENDS.get(results.exit, '')}"),
        h("p", f"judged by tunlab in run {results.run}, {results.started}, with {describe_options(results.options)}"),
        h("ul", chips, class_="totals"),
        h("nav", h("ul", [h("li", h("a", name, href=f"#{id}")) for id, name in parts]), aria_label="parts of the page"),
    )


def _sections(story: Story) -> Iterator[Element]:
    if story.wrong:
        lines = [
            h("li", sign(row.verdict), " ", h("a", told(row), href=to_row(row.key)), _first(row)) for row in story.wrong
        ]
        yield h("section", h("h2", "What is wrong"), h("ol", lines, class_="plain"), id="wrong")
    news = _news(story)
    yield h(
        "section",
        h("h2", "Matrix"),
        _filter(),
        h(
            "p",
            f"A line per requirement, a column per mode and lab. Arrow keys move, Enter opens. {_legend(news)}",
            id="keys",
        ),
        h("div", matrix(story.rows, news), class_="wide"),
        id="matrix",
    )
    if story.results.baseline is not None:
        yield _comparison(story)
    yield h("section", h("h2", "Requirements"), list(_requirements(story)), id="requirements")
    captures = [evidence.journey(story, path) for path in story.captures]
    yield h("section", h("h2", "Packets"), captures or h("p", "The run kept no capture."), id="packets")
    yield _about(story)


def _first(row: Row) -> Element:
    return h("div", (row.reason.splitlines() or [""])[0], class_="reason")


def _legend(news: Mapping[Key, str]) -> str:
    signs = ", ".join(f"{SIGNS[verdict]} {verdict.words}" for verdict in Verdict)
    marks = "".join(f", {mark} {kind}" for kind, mark in NEWS.items() if kind in news.values())
    return f"{signs}{marks}."


def _filter() -> Element:
    """The script shows it: without one it could do nothing."""
    signs = [
        h("label", h("input", type="checkbox", value=one.value, checked=True), f" {SIGNS[one]} {one.words}")
        for one in Verdict
    ]
    return h(
        "form",
        h(
            "label",
            "filter ",
            h("input", type="search", id="filter", placeholder="vxlan mtu mixed", autocomplete="off"),
        ),
        h("fieldset", h("legend", "verdicts", class_="unseen"), signs),
        h("output", id="count", for_="filter"),
        id="choose",
        hidden=True,
        role="search",
    )


def _requirements(story: Story) -> Iterator[Element]:
    for id, found in groupby(story.rows, key=lambda row: row.id):
        rows = list(found)
        first = rows[0]
        where = f" · written in {story.sources[id]}" if id in story.sources else ""
        meta = f"{first.level}{where} · mutants that bite: {story.proofs.words(id)}"
        good = [evidence.passed(story, row) for row in rows if row.verdict in _GOOD]
        yield h(
            "section",
            h("h3", id, " ", h("span", first.title)),
            h("p", meta, class_="note"),
            [evidence.wrong(story, row) for row in rows if row.verdict not in _GOOD],
            h("ul", good, class_="rows") if good else None,
            id=id,
            class_="requirement",
            tabindex=-1,
        )


def _news(story: Story) -> dict[Key, str]:
    changes = (story.results.baseline or {}).get("changes", ())
    return {Key(one["id"], one["lab"], one["mode"]): one["kind"] for one in changes}


def _comparison(story: Story) -> Element:
    baseline = story.results.baseline or {}
    counts = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in baseline["totals"].items())
    changes = [
        h(
            "tr",
            h("td", one["kind"]),
            h(
                "td",
                h("a", f"{one['id']} {one['lab']} {one['mode']}", href=to_row(Key(one["id"], one["lab"], one["mode"]))),
            ),
            h("td", one["before"] or "nothing"),
            h("td", one["after"] or "nothing"),
        )
        for one in baseline["changes"]
    ]
    head = h("thead", h("tr", [h("th", word, scope="col") for word in ("", "row", "was", "is")]))
    table: Child = h("div", h("table", head, h("tbody", changes)), class_="wide", tabindex=0) if changes else None
    told = f"Compared with run {baseline['run']} ({baseline['path']}): {counts}."
    return h("section", h("h2", "Comparison"), h("p", told), table, id="comparison")


def _about(story: Story) -> Element:
    known = story.results.to_json()
    facts = {"system": f"{known['system']} {known['system_version']}", "box": known["box"], "kernel": known["kernel"]}
    facts |= known["tools"]
    canaries = [f"{one.name} by {', '.join(one.caught_by) or 'NOBODY'}" for one in story.results.canaries]
    facts["canaries noticed"] = "; ".join(canaries) or "none were tried"
    cells = sorted(story.results.cells.items(), key=lambda one: -one[1])
    files = [*story.files, *sorted(f"commands/{path.name}" for path in story.folder.glob("commands/*.txt"))]
    return h(
        "section",
        h("h2", "About the run"),
        h("dl", [h("div", h("dt", name), h("dd", value)) for name, value in facts.items() if value], class_="facts"),
        h("h3", "files"),
        h("ul", [h("li", h("a", name, href=quote(name))) for name in files], class_="rows"),
        h("h3", "seconds that each lab and mode took") if cells else None,
        h("ul", [h("li", f"{name} {seconds:.1f}") for name, seconds in cells], class_="rows"),
        id="about",
    )
