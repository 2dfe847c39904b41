"""The folder of a run on loopback: its page and files, nothing outside of it, and no other site's name for us."""

from __future__ import annotations

import http.client
import signal
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.live.user import User, send, wait_for_line
from tests.report.example_run import example_run
from tunlab.report.serve import serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadingHTTPServer]:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.txt").write_text("secret")
    folder = outside / "run"
    (folder / "captures").mkdir(parents=True)
    (folder / "report.html").write_text("<p>the page")
    (folder / "captures" / "a b.pcapng").write_bytes(b"\n\r\r\n")
    (folder / "evil.svg").write_text("<svg onload='alert(1)'/>")
    (folder / "way-out").symlink_to(outside)
    with serving(folder, 0) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server: ThreadingHTTPServer, path: str, host: str = "", method: str = "GET") -> tuple[int, str, bytes]:
    asked = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    try:
        asked.putrequest(method, path, skip_host=True)
        asked.putheader("Host", host or f"127.0.0.1:{server.server_port}")
        asked.endheaders()
        answer = asked.getresponse()
        return answer.status, answer.headers["Content-Type"] or answer.headers["Location"] or "", answer.read()
    finally:
        asked.close()


def test_it_serves_the_page_and_the_captures(server: ThreadingHTTPServer) -> None:
    assert ask(server, "/") == (302, "/report.html", b"")
    assert ask(server, "/report.html") == (200, "text/html; charset=utf-8", b"<p>the page")
    assert ask(server, "/captures/a%20b.pcapng") == (200, "application/octet-stream", b"\n\r\r\n")
    assert ask(server, "/report.html", method="HEAD") == (200, "text/html; charset=utf-8", b"")
    assert ask(server, f"/report.html?x={'y' * 100}", host=f"localhost:{server.server_port}")[0] == 200


def test_only_the_page_is_taken_for_one(server: ThreadingHTTPServer) -> None:
    assert ask(server, "/evil.svg")[:2] == (200, "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/captures/../../secret.txt",
        "/way-out/secret.txt",
        "//etc/passwd",
        "/etc/passwd",
        "/captures/",
        "/captures",
        "/no%00thing",
        f"/{'x' * 5000}",
    ],
    ids=["up", "escaped", "within", "link", "slashes", "absolute", "folder", "folder-without-slash", "nul", "long"],
)
def test_nothing_outside_of_the_folder_is_served(server: ThreadingHTTPServer, path: str) -> None:
    code, _, body = ask(server, path)
    assert code == 404
    assert b"secret" not in body and b"root:" not in body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "-"])
def test_another_name_for_this_machine_is_refused(server: ThreadingHTTPServer, host: str) -> None:
    assert ask(server, "/report.html", host=host)[0] == 421


def test_nothing_can_be_sent_to_it(server: ThreadingHTTPServer) -> None:
    assert ask(server, "/report.html", method="POST")[0] == 501


def test_ctrl_c_is_how_one_ends_it(tmp_path: Path) -> None:
    user, run = User(tmp_path), example_run(tmp_path / "RUN")
    with user.begins("open", str(run)) as process:
        wait_for_line(process.stdout, "/report.html (Ctrl-C ends it)")
        assert send(process, signal.SIGINT) == (0, "")
