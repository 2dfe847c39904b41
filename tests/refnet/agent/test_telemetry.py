"""What the agent's HTTP ports say, and that no peer can hold the agent up."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator, Mapping

import pytest

from refnet.agent.health import health
from refnet.agent.listener import Listener, Reply
from refnet.agent.metrics import Counters, Metric, counted, labelled, metrics
from refnet.agent.telemetry import Ports, Telemetry, read_ports
from refnet.errors import Mistake

WELL = {"store": "", "kernel": ""}


def given(**environment: str) -> tuple[Ports, list[Mistake]]:
    mistakes: list[Mistake] = []
    return read_ports(environment, mistakes), mistakes


def test_both_ports_are_shut_unless_asked_for() -> None:
    assert given() == (Ports(None, None), [])


def test_health_is_for_this_host_and_metrics_for_all() -> None:
    ports, _ = given(FELIX_HEALTHENABLED="true", FELIX_PROMETHEUSMETRICSENABLED="True")
    assert ports == Ports(("127.0.0.1", 9099), ("", 9091))
    ports, _ = given(FELIX_HEALTHENABLED="true", FELIX_HEALTHHOST="0.0.0.0", FELIX_HEALTHPORT="8080")
    assert ports.health == ("0.0.0.0", 8080)


def test_every_wrong_word_is_told() -> None:
    _, mistakes = given(FELIX_HEALTHENABLED="maybe", FELIX_HEALTHPORT="0", FELIX_PROMETHEUSMETRICSPORT="x")
    assert [(mistake.path, mistake.given) for mistake in mistakes] == [
        ("FELIX_HEALTHENABLED", "maybe"),
        ("FELIX_HEALTHPORT", "0"),
        ("FELIX_PROMETHEUSMETRICSPORT", "x"),
    ]


@pytest.mark.parametrize(
    ("path", "reasons", "status"),
    [
        ("/readiness", WELL, 200),
        ("/readiness", {**WELL, "store": "store: gone"}, 503),
        ("/liveness", {**WELL, "store": "store: gone"}, 200),
        ("/", WELL, 404),
        ("/metrics", WELL, 404),
    ],
    ids=["ready", "not-ready", "alive-though-not-ready", "root", "metrics-are-elsewhere"],
)
def test_the_status_says_how_we_are(path: str, reasons: Mapping[str, str], status: int) -> None:
    assert health(path, reasons).status == status


def test_the_body_names_the_component_and_its_reason() -> None:
    assert health("/readiness", {"kernel": "", "store": "store: gone"}).text == (
        "+-----------+---------+----------------+---------------------+-------------+\n"
        "| COMPONENT | TIMEOUT | LIVENESS       | READINESS           | DETAIL      |\n"
        "+-----------+---------+----------------+---------------------+-------------+\n"
        "| kernel    |         | reporting live | reporting ready     |             |\n"
        "| store     |         | reporting live | reporting non-ready | store: gone |\n"
        "+-----------+---------+----------------+---------------------+-------------+\n"
    )


def test_metrics_are_prometheus_text() -> None:
    reply = metrics("/metrics", counted(Counters(passes=2, pass_seconds=0.5)))
    assert (
        "# HELP felix_int_dataplane_apply_time_seconds Seconds that one pass over store and kernel took.\n"
        "# TYPE felix_int_dataplane_apply_time_seconds summary\n"
        "felix_int_dataplane_apply_time_seconds_sum 0.5\n"
        "felix_int_dataplane_apply_time_seconds_count 2\n"
    ) in reply.text
    assert reply.kind.startswith("text/plain; version=0.0.4")


def test_a_label_cannot_break_out_of_its_quotes() -> None:
    assert labelled(state='a"b\\c\nd') == r'{state="a\"b\\c\nd"}'


class Loop:
    """A listener on a port of its own, and the loop that drives it by hand."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.listener = Listener(self.selector, "127.0.0.1", self.port, lambda path: Reply(200, f"{path}\n" * 100))
        assert self.listener.listen() == ""

    def turn(self) -> None:
        """Do all that is to do now."""
        while ready := self.selector.select(0.02):
            for key, _ in ready:
                key.data()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def ask(self, request: bytes) -> str:
        with self.connect() as peer:
            peer.sendall(request)
            self.turn()
            return b"".join(iter(lambda: peer.recv(65536), b"")).decode()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    for key in list(loop.selector.get_map().values()):
        assert isinstance(key.fileobj, socket.socket)
        key.fileobj.close()
    loop.selector.close()


def test_a_request_is_answered_and_the_connection_closed(loop: Loop) -> None:
    said = loop.ask(b"GET /readiness?x=1 HTTP/1.1\r\nHost: n\r\n\r\n")
    assert said.startswith("HTTP/1.1 200 OK\r\n")
    assert said.endswith("/readiness\n")
    assert loop.ask(b"HEAD /x HTTP/1.0\r\n\r\n").endswith("\r\n\r\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST / HTTP/1.1\r\n\r\n", "405"),
        (b"\x16\x03\x01\r\n\r\n", "400"),
        (b"x" * 9000, "400"),
        (b"GET  / HTTP/1.1\r\n\r\n", "400"),
    ],
    ids=["post", "tls", "too-long", "four-words"],
)
def test_what_is_no_get_is_refused(loop: Loop, request_bytes: bytes, status: str) -> None:
    assert loop.ask(request_bytes).startswith(f"HTTP/1.1 {status} ")


def test_silent_peers_take_the_place_of_silent_peers_only(loop: Loop) -> None:
    silent = []
    for _ in range(40):
        silent.append(loop.connect())
        loop.turn()
    assert loop.ask(b"GET / HTTP/1.1\r\n\r\n").startswith("HTTP/1.1 200")
    assert len(loop.selector.get_map()) <= 17
    for peer in silent:
        peer.close()
    loop.turn()


def test_a_port_in_use_is_a_reason_and_is_tried_again(loop: Loop) -> None:
    other = selectors.DefaultSelector()
    telemetry = Telemetry(other, Ports(health=("127.0.0.1", loop.port)), dict, _nothing)
    assert telemetry.listen() == [f"127.0.0.1:{loop.port}: Address already in use"]
    other.close()


def _nothing() -> Iterator[Metric]:
    yield from ()
