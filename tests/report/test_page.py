"""The page of a run, as text: what it tells, that it is one file, and that nothing in it can command a browser."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether

from tests.report.example_run import CAPTURE, FAILURE, HOSTILE, HOSTILE_LAB, example_run
from tests.wire.make_golden import MAC1, MAC2, POD1, POD1_6, POD2, POD2_6, golden_bytes
from tunlab.errors import LabError
from tunlab.report.html.page import write_report
from tunlab.report.html.sightings import open_capture
from tunlab.wire.pcapng import ETHERNET


class Page(HTMLParser):
    """Every element with its attributes, and the text outside of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._raw = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._raw = tag if tag in ("style", "script") else ""

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.words.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._raw = ""

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = example_run(tmp_path_factory.mktemp("run"))
    assert write_report(made) == made / "report.html"
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text())


def test_it_tells_the_end_the_counts_and_every_row(page: Page) -> None:
    assert "refnet: something is broken, or nothing was judged" in page.text
    assert re.search(r"✓ passed 3 passed ✗ failed 1 failed ! broken 1 broken – not offered 1 not offered", page.text)
    ids = {str(attributes["id"]) for _, attributes in page.elements if "id" in attributes}
    assert {"VXLAN-03/mixed/vxlan", "CONN-01/mixed/vxlan", "NONE-01/mixed/none", f"CONN-01/{HOSTILE_LAB}/none"} <= ids


def test_a_failed_row_shows_seen_beside_wanted_its_way_and_what_changed(page: Page) -> None:
    assert "ttl seen 17 wanted 64" in page.text
    assert "request: pod1 → node1 → node2 → pod2; reply: pod2 → node2 → node1 → pod1" in page.text
    assert "node1: 2 lines differ between before and after" in page.text
    assert "- routes: 10.65.2.0/26 via 192.0.2.2 dev eth0 proto bird metric 32" in page.text
    assert "+ routes: 10.65.2.0/26 via 192.0.2.77 dev eth0 proto bird metric 32" in page.text
    assert "written in RFC 7348 §4 <4> · mutants that bite: " in page.text
    assert {f"{FAILURE}/node1.after.json", CAPTURE, "results.json"} <= {str(one.get("href")) for one in page.of("a")}


def test_a_passed_row_shows_the_fields_that_were_found_as_wanted(page: Page) -> None:
    assert page.text.count("frame 6: vxlan.vni, stack, outer.ttl") == 1
    assert "vni 4096 as wanted flags 0x0008" in page.text
    assert "stack eth wanted eth or <i>" in page.text


def test_it_tells_what_became_worse_and_better(page: Page) -> None:
    assert "worse VXLAN-03 mixed vxlan passed failed" in page.text
    assert "better VXLAN-01 mixed vxlan failed passed" in page.text


def test_every_link_within_the_page_leads_to_a_place_in_it(page: Page) -> None:
    ids = {str(attributes["id"]) for _, attributes in page.elements if "id" in attributes}
    wanted = [unquote(str(one["href"])[1:]) for one in page.of("a") if str(one["href"]).startswith("#")]
    assert len(wanted) > 20
    assert [one for one in wanted if one not in ids] == []


def test_every_link_to_a_file_is_relative_and_the_file_is_there(page: Page, folder: Path) -> None:
    files = [str(one["href"]) for one in page.of("a") if not str(one["href"]).startswith("#")]
    assert files and [one for one in files if not (folder / one).is_file()] == []


def test_nothing_that_names_and_packets_hold_is_an_element_or_an_attribute(page: Page) -> None:
    assert len(page.of("script")) == len(page.of("style")) == 1
    assert page.of("img") == []
    assert [name for _, attributes in page.elements for name in attributes if name.startswith("on")] == []
    assert "<script>alert(1)</script>" in page.text, "the hostile words are there to be read"
    assert "\\u202egnp.exe \\x00\\x1b[2J" in page.text
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069]", page.text)


def test_it_needs_no_network_and_allows_none(page: Page) -> None:
    (policy,) = [str(one["content"]) for one in page.of("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/=]{44}'; script-src 'sha256-[\w+/=]{44}'; "
        r"base-uri 'none'; form-action 'none'",
        policy,
    )
    assert [attributes["src"] for _, attributes in page.elements if "src" in attributes] == []
    assert page.of("link") == []


def test_a_run_that_was_cut_off_has_a_page_too(tmp_path: Path) -> None:
    folder = example_run(tmp_path, earlier=False, exit=None)
    (folder / CAPTURE).write_bytes((folder / CAPTURE).read_bytes()[:-7])
    (folder / FAILURE / "node1.after.json").write_text("[{")
    (folder / "selection.json").unlink()
    seen = Page(write_report(folder).read_text())
    assert "refnet: the run has not come to its end" in seen.text
    assert "mixed-vxlan.pcapng: truncated: the block at byte " in seen.text
    assert "node1: tables of one moment alone" in seen.text


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"holds no results\.json\n"):
        write_report(tmp_path)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(LabError, match=r"read the run's results: "):
        write_report(tmp_path)


@pytest.mark.parametrize("baseline", [{}, {"run": "x", "path": "y", "totals": {}, "changes": [{"id": "VXLAN-01"}]}])
def test_a_comparison_written_by_hand_is_refused(tmp_path: Path, baseline: dict[str, Any]) -> None:
    folder = example_run(tmp_path / "run")
    told = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**told, "baseline": baseline}))
    with pytest.raises(LabError, match=r"run: read the run's results: no '(run|lab)' in it\n  hint: "):
        write_report(folder)


def packets(proto: str) -> tuple[Any, Any]:
    """A question and its answer, as bare packets."""
    if proto == "icmpv6":
        ask, answer = IPv6(src=POD1_6, dst=POD2_6), IPv6(src=POD2_6, dst=POD1_6)
        return ask / ICMPv6EchoRequest(id=7, seq=2), answer / ICMPv6EchoReply(id=7, seq=2)
    ask, answer = IP(src=POD1, dst=POD2), IP(src=POD2, dst=POD1)
    if proto == "udp":
        return ask / UDP(sport=40000, dport=53), answer / UDP(sport=53, dport=40000)
    return ask / TCP(sport=40000, dport=80, flags="S"), answer / TCP(sport=80, dport=40000, flags="SA")


@pytest.mark.parametrize("proto", ["icmpv6", "udp", "tcp"])
def test_the_way_of_other_packets_than_echoes_is_found_too(tmp_path: Path, proto: str) -> None:
    ask, answer = packets(proto)
    taps = ("pod1/eth0", "node1/eth0", "pod2/eth0")
    there, back = Ether(src=MAC1, dst=MAC2) / ask, Ether(src=MAC2, dst=MAC1) / answer
    noise = Ether() / IP(src=POD1, dst="10.9.9.9") / UDP(sport=40000, dport=99)
    seen = [("pod1/eth0", "out", noise), ("pod1/eth0", "out", there), ("node1/eth0", "in", there)]
    seen += [("pod2/eth0", "in", there), ("pod2/eth0", "out", back), ("pod1/eth0", "in", back)]
    path = tmp_path / "x.pcapng"
    path.write_bytes(golden_bytes(seen, dict.fromkeys(taps, ETHERNET)))
    capture = open_capture(path)
    for number in (len(taps) + 2, len(taps) + 5):  # the question at its sender, the answer at its own
        frame = capture.frame(number)
        assert frame is not None
        way = capture.way_of(frame)
        assert way is not None
        assert [hop.place for hop in way.there] == ["pod1", "node1", "pod2"]
        assert [hop.place for hop in way.back] == ["pod2", "pod1"]


def test_evidence_outside_of_the_runs_folder_is_refused(tmp_path: Path) -> None:
    folder = example_run(tmp_path / "run")
    (folder / "results.json").write_text((folder / "results.json").read_text().replace(FAILURE, "../elsewhere"))
    with pytest.raises(LabError, match=r"names \.\./elsewhere, which is outside the run's folder\n"):
        write_report(folder)


def test_a_thousand_rows_stay_small(tmp_path: Path) -> None:
    folder = example_run(tmp_path)
    data = json.loads((folder / "results.json").read_text())
    first = data["requirements"][0]
    passed = {**first, "verdict": "passed", "reason": ""}
    data["requirements"] += [{**passed, "id": f"MORE-{n:03}", "lab": f"lab{m}"} for n in range(100) for m in range(10)]
    (folder / "results.json").write_text(json.dumps(data))
    assert write_report(folder).stat().st_size < 1_000_000
    assert HOSTILE not in (folder / "report.html").read_text()
