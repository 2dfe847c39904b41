"""The live view in a real browser: the lab is drawn, packets move, tables and shells open, strangers stay outside."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.browser.visitor import Visitor
from tests.live.user import User, wait_for_line
from tests.watch import played
from tests.watch.played import PlayedStepping, PlayedWatching, hop
from tunlab.command.watch import doorway
from tunlab.wait import eventually
from tunlab.watch.server import Server

BARE, WRAPPED = "eth ip icmp", "eth ip udp vxlan eth ip icmp"
HOSTILE = '<img src=x onerror="alert(1)">'
WAYS = {
    "there": [
        hop("pod1", ("eth0", "out", BARE)),
        hop("node1", ("cali0", "in", BARE), ("tunl0", "out", BARE), ("eth0", "out", WRAPPED), says=HOSTILE),
        hop("net1", ("node1", "in", WRAPPED), ("router1", "out", WRAPPED)),
    ]
}
FRAME = {"subject": "pods", "since_start_s": 1, "direction": "in", "stack": BARE, "headers": ["eth a", "ip b"]}
LATE_MS = 60_000


@contextmanager
def served(page: str) -> Iterator[str]:
    """The address of a page of somebody else's, on this machine too."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class Stage:
    """A server with a played lab, and what may be told from there."""

    def __init__(self, picture: dict[str, Any]) -> None:
        self.watching = PlayedWatching(picture)
        self.stepping = PlayedStepping(self.watching, WAYS)
        self.server = Server(self.watching, self.stepping)  # type: ignore[arg-type]


@pytest.fixture
def stage() -> Iterator[Stage]:
    opened = Stage(played.picture(lab=f"mixed {HOSTILE}"))
    yield opened
    opened.server.close()


def visit(visitor: Visitor, url: str, **window: Any) -> Any:
    page = visitor.open(url, **window)
    page.set_default_timeout(LATE_MS)
    page.locator("#map .place").first.wait_for()
    return page


def test_a_ping_moves_stands_still_and_goes_on_device_by_device(visitor: Visitor, stage: Stage) -> None:
    page = visit(visitor, stage.server.url)
    assert page.locator("#map .place").count() == 11
    assert (page.input_value("#from"), page.input_value("#to")) == ("pod1", "pod4")
    page.fill("#speed", "100")
    page.click("#pause")
    page.click("#step")  # goes on by itself
    page.click("#hop")
    packet = page.locator("#packet")
    page.locator("#packet[data-at]").wait_for(state="attached")
    places = [packet.get_attribute("data-at")]
    while places[-1] != "net1/router1":
        page.click("#hop")
        page.locator(f'#packet:not([data-at="{places[-1]}"])').wait_for(state="attached")
        places.append(packet.get_attribute("data-at"))
    way = ["pod1/eth0", "node1/cali0", "node1/tunl0", "node1/eth0", "net1/node1", "net1/router1"]
    assert places == way[-len(places) :]
    assert packet.get_attribute("data-stack") == WRAPPED
    assert page.locator("#now .header").count() == 7
    assert page.locator("#now > .header").inner_text().split() == [
        each for word in WRAPPED.split() for each in (f"{word}of", "net1")
    ]
    assert page.locator("#way li.here").inner_text().startswith("net1/router1 out")
    page.click("#pause")
    page.locator("#said", has_text="pod1 → pod4: answered in 1.20 ms").wait_for()
    page.locator("#packet").wait_for(state="detached")


def test_start_goes_on_when_pods_come_and_when_another_page_pings(visitor: Visitor, stage: Stage) -> None:
    with doorway(stage.server.url) as file:  # as a browser is led there
        page = visit(visitor, file)
    page.fill("#speed", "0")
    page.click("#start")
    page.locator("#packet[data-at]").wait_for(state="attached")
    begun = stage.stepping.number
    stage.stepping.refuses = 1
    stage.watching.tell(stage.watching.picture)
    eventually(lambda: stage.stepping.number, lambda n: n > begun, within_s=60, what="it pings again", blame="lab")
    assert stage.stepping.refuses == 0
    page.locator("#packet[data-at]").wait_for(state="attached")
    page.click("#pause")  # what moves would write over what is looked at
    stage.watching.tell({"kind": "step-failed", "number": 99, "by": "page9", "why": "of another page", "hint": ""})
    stage.watching.tell({"kind": "frames", "missed": 0, "frames": [{**FRAME, "tap": "pod1/eth0"}]})
    page.locator("#frames button").press("Enter")
    page.locator("#title", has_text="frame on pod1/eth0, in").wait_for()
    assert "of another page" not in page.inner_text("#said")
    page.locator('[data-place="node1"]').click()
    tab = page.locator("#tabs [role=tab]")
    sheet = page.locator(f"#{tab.get_attribute('aria-controls')}[role=tabpanel]")
    assert sheet.get_attribute("aria-labelledby") == tab.get_attribute("id")


def test_what_comes_from_packets_and_names_is_text_and_nothing_else(visitor: Visitor, stage: Stage) -> None:
    page = visit(visitor, stage.server.url)
    headers = [f"eth {HOSTILE}", HOSTILE, "</style></script><script>alert(2)</script>"]
    stage.watching.tell(
        {"kind": "frames", "missed": 2, "frames": [{**FRAME, "tap": HOSTILE, "stack": HOSTILE, "headers": headers}]}
    )
    page.locator("#frames tr").click()
    assert HOSTILE in page.inner_text("#now") and "alert(2)" in page.inner_text("#now")
    page.fill("#speed", "100")
    page.click("#step")
    page.locator("#way", has_text=HOSTILE).wait_for()
    page.locator('[data-place="node1"]').click()
    page.locator(".tables", has_text="node1: <b>no such place</b>").wait_for()
    assert HOSTILE in page.inner_text("#lab")
    assert page.locator("img, #way b, .tables b, body script").count() == 0
    assert page.inner_text("#missed") == "2 too fast to show"


def test_the_end_of_the_lab_is_told_and_nothing_can_be_pressed_any_more(visitor: Visitor, stage: Stage) -> None:
    page = visit(visitor, stage.server.url, width=375, height=700, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    stage.watching.tell({"kind": "gone", "why": "mixed: the lab has been taken down", "hint": "./lab up mixed"})
    page.locator("#gone", has_text="mixed: the lab has been taken down: ./lab up mixed").wait_for()
    assert page.is_disabled("#step") and page.is_disabled("#start")


def test_the_end_of_the_command_is_told(visitor: Visitor, stage: Stage) -> None:
    page = visit(visitor, stage.server.url)
    stage.server.close()
    page.locator("#gone", has_text="./lab watch has ended").wait_for()
    visitor.complaints.clear()  # the browser's own, of the line that broke


def test_another_page_gets_nothing_out_of_it(visitor: Visitor, stage: Stage) -> None:
    visit(visitor, stage.server.url)
    url = stage.server.url
    script = f"""
      const told = [];
      const body = JSON.stringify({{page: "page1", do: "shell", place: "node1", rows: 20, columns: 80}});
      const tries = [
        () => fetch("{url}do", {{method: "POST", headers: {{"X-Tunlab": "watch"}}, body}}).then((r) => r.status),
        () => fetch("{url}do", {{method: "POST", mode: "no-cors", body}}).then((r) => r.type),
        () => fetch("{url}").then((r) => r.text()),
        () => new Promise((done, refused) => {{
          const source = new EventSource("{url}events"); source.onmessage = done; source.onerror = refused; }}),
      ];
      for (const one of tries) told.push(await one().catch(() => "refused"));
      document.body.textContent = told.join(" ");"""
    with served(f"<!doctype html><body><script type=module>{script}</script>") as elsewhere:
        page = visitor.open(elsewhere)
        page.locator("body", has_text="refused refused refused refused").wait_for()
    assert list(stage.server.pages) == ["page1"]
    visitor.complaints.clear()  # that is what they are about


def test_a_real_lab_shows_vxlan_its_tables_and_a_shell(visitor: Visitor, tmp_path: Any) -> None:
    user = User(tmp_path)
    try:
        user.does("up", "same-subnet", "--mode", "vxlan")
        with user.begins("watch", "same-subnet", "--no-browser") as process:
            page = visit(visitor, wait_for_line(process.stdout, "http://").strip())
            page.fill("#speed", "90")
            page.click("#step")
            page.locator(f'#packet[data-stack="{WRAPPED}"]').wait_for(state="attached")
            page.locator("#said", has_text="pod1 → pod2: answered in").wait_for()
            page.locator("#way", has_text="dst 172.171.5.96 self permanent").wait_for()
            page.locator('[data-place="node1"]').click()
            page.locator(".tables", has_text="vxlan.calico").wait_for()
            page.locator(".shell-button").click()
            screen = page.locator(".screen")
            page.locator(".screen", has_text="same-subnet/node1#").wait_for()
            page.keyboard.type("hostname; ip -br addr show eth0\n")
            page.locator(".screen", has_text="172.171.5.95/").wait_for()
            assert "\nnode1" in screen.inner_text()
            page.keyboard.type("seq 300 | less\n")
            page.locator(".screen > div:last-child .row").first.wait_for()
            page.keyboard.type("G")
            page.locator(".screen", has_text="(END)").wait_for()
            page.keyboard.type("qexit\n")
            page.locator(".screen", has_text="this shell has ended").wait_for()
    finally:
        user.types("down", "--all")
