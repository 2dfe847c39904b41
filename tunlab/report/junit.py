"""junit.xml for CI servers: failed → failure, broken → error, not offered → skipped with the reason; a suite a cell."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from tunlab.check.verdict import Row, Verdict
from tunlab.report.results import JUNIT, Results, write_atomically

_ELEMENT = {Verdict.FAILED: "failure", Verdict.BROKEN: "error", Verdict.NOT_OFFERED: "skipped"}
# All that XML 1.0 section 2.2 does not call a character; no escape of XML's own can carry these.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def printable(text: str) -> str:
    """The text with what XML cannot hold written as \\x1b is."""
    return _NO_XML.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def junit_text(results: Results) -> str:
    """The whole document."""
    rows = sorted(results.rows, key=lambda row: (row.lab, row.mode, row.id))
    root = ElementTree.Element("testsuites", _counts(rows), name=f"tunlab {results.system}")
    for lab, mode in dict.fromkeys((row.lab, row.mode) for row in rows):
        own = [row for row in rows if (row.lab, row.mode) == (lab, mode)]
        name = f"{lab}-{mode}"
        suite = ElementTree.SubElement(root, "testsuite", _counts(own), name=name, timestamp=results.started)
        properties = ElementTree.SubElement(suite, "properties")
        for key, value in (("system", results.system), ("lab", lab), ("mode", mode), ("run", results.run)):
            ElementTree.SubElement(properties, "property", name=key, value=printable(value))
        for row in own:
            _add_case(suite, name, row)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False)


def write_junit(results: Results, folder: Path) -> None:
    """Replace junit.xml in that folder."""
    write_atomically(folder / JUNIT, f'<?xml version="1.0" encoding="utf-8"?>\n{junit_text(results)}\n')


def _counts(rows: Iterable[Row]) -> dict[str, str]:
    own = list(rows)
    counted = {"failures": Verdict.FAILED, "errors": Verdict.BROKEN, "skipped": Verdict.NOT_OFFERED}
    numbers = {name: str(sum(row.verdict is verdict for row in own)) for name, verdict in counted.items()}
    return {"tests": str(len(own)), **numbers, "time": f"{sum(row.seconds for row in own):.3f}"}


def _add_case(suite: ElementTree.Element, name: str, row: Row) -> None:
    title = printable(f"{row.id} {row.title}")
    case = ElementTree.SubElement(suite, "testcase", classname=name, name=title, time=f"{row.seconds:.3f}")
    properties = ElementTree.SubElement(case, "properties")
    ElementTree.SubElement(properties, "property", name="id", value=row.id)
    ElementTree.SubElement(properties, "property", name="level", value=row.level)
    for path in row.evidence:
        ElementTree.SubElement(properties, "property", name="evidence", value=printable(path))
    if row.verdict in _ELEMENT:
        reason = printable(row.reason)
        told = ElementTree.SubElement(case, _ELEMENT[row.verdict], message=reason.split("\n", 1)[0])
        if row.verdict is not Verdict.NOT_OFFERED:
            told.set("type", row.verdict.value)
        told.text = reason
