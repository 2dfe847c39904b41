"""The report in a real browser: it shows, filters, takes links and keys, in the dark and on a phone; nobody alerts.

Every page here holds names that try to become scripts; the visitor hears any complaint of the page's console.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser.visitor import Visitor
from tests.report.example_run import HOSTILE_LAB, example_run
from tunlab.report.html.page import write_report

FAILED = "VXLAN-03/mixed/vxlan"
SHOWN = ".requirement:not([hidden]) [data-v]:not([hidden])"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(example_run(tmp_path_factory.mktemp("run"))).as_uri()


def shown(page: Any) -> list[str]:
    found: list[str] = page.locator(SHOWN).evaluate_all("all => all.map(one => one.id)")
    return found


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.id"))


def test_the_matrix_shows_every_verdict_by_a_sign(visitor: Visitor, url: str) -> None:
    page = visitor.open(url)
    assert page.title() == "tunlab: refnet · 20261121T000000Z-1"
    assert page.locator("#count").inner_text() == "6 of 6 rows"
    signs = page.locator("#grid td a").evaluate_all("all => all.map(one => one.textContent)")
    assert sorted(signs) == sorted(["✓•", "!▾", "✓•", "–•", "✓▴", "✗▾"])
    assert page.get_by_role("grid").get_by_role("gridcell").count() == 4 * 4
    assert page.get_by_role("link", name="VXLAN-03 mixed vxlan: failed, worse than before").count() == 1


def test_words_and_verdicts_filter_and_escape_brings_all_back(visitor: Visitor, url: str) -> None:
    page = visitor.open(url)
    box = page.locator("#filter")
    page.keyboard.press("/")
    page.keyboard.type("vxlan-0 same")
    assert shown(page) == ["VXLAN-01/same-subnet/vxlan"]
    assert page.locator("#count").inner_text() == "1 of 6 rows"
    assert page.locator("#grid tbody tr:visible").count() == 1
    box.blur()
    page.keyboard.press("Escape")
    assert (box.input_value(), len(shown(page))) == ("", 6)
    for verdict in ("passed", "broken", "not offered"):
        page.get_by_role("checkbox", name=verdict).uncheck()
    assert shown(page) == [FAILED]


def test_a_deep_link_opens_a_failed_requirement_with_its_evidence(visitor: Visitor, url: str) -> None:
    page = visitor.open(f"{url}#{FAILED}")
    row = page.locator(f'[id="{FAILED}"]')
    assert focused(page) == FAILED
    for words in ("seen 17", "wanted 64", "request: pod1 → node1 → node2 → pod2", "via 192.0.2.77"):
        assert row.get_by_text(words).first.is_visible(), words
    assert row.locator(".asserted").count() == 1
    assert row.locator("svg path.arrow").count() == 6
    assert row.locator("a[href='captures/mixed-vxlan.pcapng']").is_visible()
    page.locator("#filter").fill("nothing like this")
    page.evaluate("location.hash = 'CONN-01/mixed/vxlan'")
    page.wait_for_function("document.activeElement.id === 'CONN-01/mixed/vxlan'")
    assert len(shown(page)) == 6, "what a link leads to is not filtered away"


def test_a_hostile_name_is_a_name_and_can_be_linked_to(visitor: Visitor, url: str) -> None:
    page = visitor.open(f"{url}#{quote(f'CONN-01/{HOSTILE_LAB}/none', safe='')}")
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    assert focused(page) == f"CONN-01/{HOSTILE_LAB}/none"
    assert page.locator("script").count() == 1
    assert page.locator("img").count() == 0
    assert dialogs == []


def test_keys_move_in_the_matrix_and_enter_opens(visitor: Visitor, url: str) -> None:
    page = visitor.open(url)
    page.locator('#grid a[tabindex="0"]').focus()
    seen = [focused(page)]
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowLeft", "Control+Home", "End"):
        page.keyboard.press(key)
        seen.append(focused(page).partition(":")[0])
    assert page.locator('#grid td a[tabindex="0"]').count() == 1
    assert seen[1:] == [
        "VXLAN-01 mixed vxlan",
        "VXLAN-03 mixed vxlan",
        "VXLAN-03 mixed vxlan",
        "VXLAN-03 mixed vxlan",
        "CONN-01 mixed vxlan",
        f"CONN-01 {HOSTILE_LAB} none",
    ]
    page.keyboard.press("Control+Home")
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id === 'CONN-01/mixed/vxlan'")


def test_tab_reaches_the_way_to_the_matrix_first_and_one_cell_of_it(visitor: Visitor, url: str) -> None:
    page = visitor.open(url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "to the matrix"
    assert page.locator("#grid td a:not([tabindex='-1'])").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_in_light_and_dark(visitor: Visitor, url: str, scheme: str) -> None:
    page = visitor.open(url, color_scheme=scheme)
    colours = page.evaluate("(style => [style.backgroundColor, style.color])(getComputedStyle(document.body))")
    paper, ink = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert (paper > ink) == (scheme == "light")
    assert abs(paper - ink) > 450


def test_on_a_phone_only_the_matrix_is_wider_than_the_screen(visitor: Visitor, url: str) -> None:
    page = visitor.open(f"{url}#{FAILED}", width=375, height=700)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.locator(f'[id="{FAILED}"] .box').first.is_visible()


def test_without_scripts_all_of_it_is_there_to_read(visitor: Visitor, url: str) -> None:
    page = visitor.open(f"{url}#{FAILED}", java_script_enabled=False)
    assert page.locator("#choose").is_hidden()
    assert page.locator(f'[id="{FAILED}"]').get_by_text("wanted 64").first.is_visible()
    assert page.locator("#grid td a").count() == 6
