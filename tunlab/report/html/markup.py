"""Elements of a page. Text and attributes come in as they are and leave escaped: nobody glues markup.

What names and packets hold cannot command the reader's browser (it is escaped), nor turn a line round (bidirectional
marks and control characters are written out).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

from tunlab.report.junit import printable

__all__ = ["Child", "Element", "h", "page_text", "raw", "visible"]

Child: TypeAlias = "Element | str | Iterable[Child] | None"

_UNSEEN = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def visible(text: str) -> str:
    """The text with what a page cannot hold, or what hides or turns other letters, written as \\u202e is."""
    return _UNSEEN.sub(lambda found: found.group().encode("unicode_escape").decode(), printable(text))


def h(tag: str, *children: Child, **attributes: str | int | float | bool | None) -> Element:
    """An element: `h("a", "more", href="#x", class_="wide")`. None and False leave an attribute out, True names it.

    A trailing underscore is dropped, others become hyphens: `data_v` is data-v.
    """
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None and value is not False:
            made.set(name.rstrip("_").replace("_", "-"), "" if value is True else visible(str(value)))
    _fill(made, children)
    return made


def raw(tag: str, text: str) -> Element:
    """A style or script of our own: the one kind of text that a page takes unescaped. Nothing foreign goes in here."""
    made = Element(tag)
    made.text = text
    return made


def page_text(root: Element) -> str:
    """The document."""
    return "<!doctype html>\n" + tostring(root, encoding="unicode", method="html") + "\n"


def _fill(parent: Element, children: Child) -> None:
    if children is None:
        return
    if isinstance(children, Element):
        parent.append(children)
    elif isinstance(children, str):
        _say(parent, visible(children))
    else:
        for child in children:
            _fill(parent, child)


def _say(parent: Element, text: str) -> None:
    """Text stands behind the last element there is, or before the first."""
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text
