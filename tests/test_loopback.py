"""What every server for this machine's browsers keeps: its ports, its names, its headers, its peace."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from tunlab.errors import LabError
from tunlab.loopback import Handler, LoopbackServer, own_names


class _Page(Handler):
    def do_GET(self) -> None:
        if not self.is_called_by_another_name():
            self.say(HTTPStatus.OK, "text/plain", b"here")


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer(0, _Page) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server: LoopbackServer, host: str, method: str = "GET") -> http.client.HTTPResponse:
    asked = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    asked.putrequest(method, "/", skip_host=True)
    asked.putheader("Host", host)
    asked.endheaders()
    answer = asked.getresponse()
    answer.read()
    asked.close()
    return answer


def test_it_answers_to_its_own_names_alone_and_with_the_same_headers(server: LoopbackServer) -> None:
    port = server.server_port
    hosts = {f"127.0.0.1:{port}": 200, f"localhost:{port}": 200, "localhost": 421, f"evil.example:{port}": 421, "": 421}
    for host, status in hosts.items():
        answer = ask(server, host)
        assert answer.status == status, host
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
    unknown = ask(server, "localhost", "POST")
    assert (unknown.status, unknown.headers["X-Content-Type-Options"]) == (501, "nosniff")


def test_browsers_leave_out_the_port_of_http() -> None:
    assert own_names(80) == {"127.0.0.1", "localhost", "127.0.0.1:80", "localhost:80"}
    assert own_names(8080) == {"127.0.0.1:8080", "localhost:8080"}


def test_a_port_that_is_taken_or_none_is_one_clear_line(server: LoopbackServer) -> None:
    with pytest.raises(LabError, match=rf"^--port: {server.server_port}: address already in use\n  hint: leave it out"):
        LoopbackServer(server.server_port, _Page)
    for port in (-1, 65536):
        with pytest.raises(LabError, match=rf"^--port: {port}: no such port\n  legal: 1 to 65535\n  hint: "):
            LoopbackServer(port, _Page)


def test_a_browser_that_goes_away_is_no_event_and_our_own_fault_is(
    server: LoopbackServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for error in (BrokenPipeError(), ConnectionResetError(), TimeoutError()):
        try:
            raise error
        except OSError:
            server.handle_error(None, ("127.0.0.1", 1))
    assert capsys.readouterr().err == ""
    try:
        raise ValueError("ours")
    except ValueError:
        server.handle_error(None, ("127.0.0.1", 1))
    assert "ours" in capsys.readouterr().err
