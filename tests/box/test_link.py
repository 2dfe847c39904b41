"""The outside end of the line against a far end made by hand: flow control, files, many at once, and every bad end."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tunlab.box import link as link_module
from tunlab.box.line import SPILL_BYTES, WINDOW_BYTES, Decoder, Frame, encode
from tunlab.box.link import LineEnded, Link, MissingProgram
from tunlab.errors import Bug, WorldError


class FarEnd:
    """Process 1 as it might be: reads when told to, acknowledges when told to."""

    def __init__(self, line: socket.socket, run_dir: Path) -> None:
        self.line = line
        self.run_dir = run_dir
        self.taken = 0
        self._decoder = Decoder()
        self._frames: list[Frame] = []
        line.settimeout(10)

    def read(self, size: int = 4096) -> bytes:
        data = self.line.recv(size)
        self.taken += len(data)
        return data

    def acknowledge(self) -> None:
        self.say({"ack": self.taken})

    def say(self, frame: Frame) -> None:
        self.line.sendall(encode(frame))

    def request(self) -> Frame:
        """The next request, read with acknowledgements."""
        while not self._frames:
            self._frames += self._decoder.feed(self.read())
            self.acknowledge()
        return self._frames.pop(0)

    def has_more(self) -> bool:
        """Whether the outside sends without being acknowledged."""
        self.line.settimeout(0.05)
        try:
            return bool(self.line.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return False
        finally:
            self.line.settimeout(10)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Link, FarEnd]]:
    ours, theirs = socket.socketpair()
    (tmp_path / "line").mkdir()
    link = Link(ours, tmp_path, "far")
    try:
        yield link, FarEnd(theirs, tmp_path)
    finally:
        theirs.close()
        link.close()


def in_background(work: Callable[[], object]) -> Callable[[], list[object]]:
    """Start `work`; what comes back waits for it and says what it returned or raised."""
    ended: list[object] = []

    def run() -> None:
        try:
            ended.append(work())
        except Exception as error:  # noqa: BLE001 - it is what the test looks at
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def wait() -> list[object]:
        thread.join(10)
        assert not thread.is_alive(), "it hangs"
        return ended

    return wait


def test_no_more_than_a_window_is_ever_unacknowledged(pair: tuple[Link, FarEnd]) -> None:
    link, far = pair
    text = "y" * 10_000
    asked = in_background(lambda: link.ask("box", "op", text=text))
    frames: list[Frame] = []
    decoder, unacknowledged = Decoder(), 0
    while not frames:
        data = far.read(300)
        unacknowledged += len(data)
        assert unacknowledged <= WINDOW_BYTES
        frames = decoder.feed(data)
        if unacknowledged == WINDOW_BYTES:
            assert not far.has_more()
            far.acknowledge()
            unacknowledged = 0
    assert frames == [{"id": 1, "to": "box", "op": "op", "text": text}]
    far.say({"id": 1, "ok": {"fine": True}})
    assert asked() == [{"fine": True}]


def test_the_window_holds_for_all_requests_together(pair: tuple[Link, FarEnd]) -> None:
    link, far = pair
    waits = [in_background(lambda: link.ask("box", "op", text="z" * 700)) for _ in range(5)]
    first = b""
    while len(first) < WINDOW_BYTES:
        first += far.read(WINDOW_BYTES - len(first))
    assert not far.has_more()
    frames = Decoder()
    got = frames.feed(first)
    far.acknowledge()
    while len(got) < 5:
        got += frames.feed(far.read())
        far.acknowledge()
    for frame in got:
        far.say({"id": frame["id"], "ok": {}})
    assert [wait() for wait in waits] == [[{}]] * 5


def test_a_large_request_travels_as_a_file_and_so_does_a_large_answer(pair: tuple[Link, FarEnd]) -> None:
    link, far = pair
    text = "w" * (SPILL_BYTES + 1)
    asked = in_background(lambda: link.ask("box", "op", text=text))
    told = far.request()
    assert set(told) == {"id", "file"}
    path = far.run_dir / told["file"]
    assert Decoder().feed(path.read_bytes()) == [{"id": 1, "to": "box", "op": "op", "text": text}]
    path.unlink()  # the reader's duty
    answer = far.run_dir / "line" / "in-1-0.json"
    answer.write_bytes(encode({"id": 1, "ok": {"text": text}}))
    far.say({"id": 1, "file": "line/in-1-0.json"})
    assert asked() == [{"text": text}]
    assert list((far.run_dir / "line").iterdir()) == []


def test_two_links_into_one_folder_never_use_one_name_twice(tmp_path: Path) -> None:
    (tmp_path / "line").mkdir()
    names = []
    for _ in range(2):
        ours, theirs = socket.socketpair()
        link, far = Link(ours, tmp_path, "far"), FarEnd(theirs, tmp_path)
        asked = in_background(lambda link=link: link.ask("box", "op", text="v" * (SPILL_BYTES + 1)))  # type: ignore[misc]
        names.append(far.request()["file"])
        theirs.close()
        assert isinstance(asked()[0], LineEnded)
        link.close()
    assert len(set(names)) == 2


def test_many_requests_at_once_get_each_their_own_answer_in_any_order(pair: tuple[Link, FarEnd]) -> None:
    link, far = pair
    begun = [link.begin("box", "op", n=n) for n in range(8)]
    requests = [far.request() for _ in begun]
    for request in reversed(requests):
        far.say({"id": request["id"], "event": {"half": request["n"]}})
        far.say({"id": request["id"], "ok": {"n": request["n"]}})
    assert [link.answer_of(asked, 10, "op")["n"] for asked in begun] == list(range(8))
    assert [list(link.events(asked)) for asked in begun] == [[{"half": n}] for n in range(8)]


def test_every_event_comes_out_before_the_end_and_the_end_at_once(pair: tuple[Link, FarEnd]) -> None:
    link, far = pair
    asked = link.begin("box", "stream")
    far.request()
    for n in range(500):
        far.say({"id": 1, "event": {"n": n}})
    far.say({"id": 1, "ok": {}})
    # A day's patience: were the end only noticed by waiting in vain, this would hang.
    assert [event["n"] for event in link.events(asked, every_s=86_400) if event] == list(range(500))


def test_an_event_handler_that_raises_ends_the_line_for_all_who_wait(pair: tuple[Link, FarEnd]) -> None:
    link, far = pair

    def stumble(event: Frame) -> None:
        raise ZeroDivisionError(event)

    asked = link.begin("box", "stream", on_event=stumble)
    other = link.begin("box", "op")
    far.say({"id": 1, "event": {}})
    for one in (asked, other):
        with pytest.raises(LineEnded, match=r"^far: op: the line is broken: ZeroDivisionError"):
            link.answer_of(one, 10, "op")


@pytest.mark.parametrize(
    ("kind", "error"),
    [("world", WorldError), ("gone", LineEnded), ("missing", MissingProgram), ("bug", Bug), ("surprise", Bug)],
)
def test_an_error_is_raised_as_what_it_is(pair: tuple[Link, FarEnd], kind: str, error: type[Exception]) -> None:
    link, far = pair
    asked = link.begin("taps", "open")
    far.say({"id": 1, "error": {"kind": kind, "text": "no"}})
    with pytest.raises(error, match=r"^far: taps: open: no$") as raised:
        link.answer_of(asked, 10, "taps: open")
    assert type(raised.value) is error


def test_the_far_ends_death_is_told_to_all_who_wait(pair: tuple[Link, FarEnd]) -> None:
    link, far = pair
    begun = [link.begin("box", "op") for _ in range(3)]
    far.line.sendall(b"\x00\x00")  # in the middle of a frame
    far.line.close()
    for asked in begun:
        with pytest.raises(LineEnded, match=r"^far: op: the box has ended"):
            link.answer_of(asked, 10, "op")
    with pytest.raises(LineEnded, match=r"^far: run: the box has ended"):
        link.ask("box", "run")
    assert link.has_ended


def test_a_far_end_that_dies_while_a_request_is_half_sent_ends_the_sender(pair: tuple[Link, FarEnd]) -> None:
    link, far = pair
    asked = in_background(lambda: link.ask("box", "op", text="u" * 5000))
    far.read(100)
    far.line.close()
    (error,) = asked()
    assert isinstance(error, LineEnded)


def test_rubbish_from_the_far_end_ends_the_line(pair: tuple[Link, FarEnd]) -> None:
    link, far = pair
    asked = link.begin("box", "op")
    far.line.sendall(b"Segmentation fault")
    with pytest.raises(LineEnded, match=r"^far: op: the line is broken: LineBroken\('a frame of 1399154541 bytes was"):
        link.answer_of(asked, 10, "op")
    while far.line.recv(4096):  # the far end is told as well: its line ends
        pass


@pytest.mark.parametrize(
    "frame",
    [{}, {"id": "no"}, {"id": 1, "file": "line/missing"}, {"id": 1}, {"id": 1, "error": {}}, {"id": [], "ok": {}}],
    ids=["empty", "id-of-nobody", "no-such-file", "no-answer", "error-without-words", "id-a-list"],
)
def test_no_answer_whatever_it_is_leaves_the_asker_waiting_for_ever(pair: tuple[Link, FarEnd], frame: Any) -> None:
    link, far = pair
    asked = in_background(lambda: link.ask("box", "op", within_s=1.0))
    far.request()
    far.say(frame)
    (error,) = asked()
    assert isinstance(error, WorldError | Bug)


def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_said(pair: tuple[Link, FarEnd]) -> None:
    link, far = pair
    with pytest.raises(WorldError, match=r"^far: box: op: no answer in 0\.1 s$"):
        link.ask("box", "op", within_s=0.1)
    far.say({"id": 1, "ok": {}})  # too late, and nobody minds
    second = link.begin("box", "op")
    far.say({"id": 2, "ok": {"second": True}})
    assert link.answer_of(second, 10, "op") == {"second": True}


def test_a_stalled_far_end_is_given_up_and_the_half_sent_frame_is_followed_by_nothing(
    pair: tuple[Link, FarEnd], monkeypatch: pytest.MonkeyPatch
) -> None:
    link, far = pair
    monkeypatch.setattr(link_module, "STALLED_S", 0.2)
    with pytest.raises(WorldError, match=r"^far: run: no room for 0\.2 s$"):
        link.ask("box", "run", text="t" * 5000)
    with pytest.raises(LineEnded, match=r"^far: "):
        link.ask("box", "op")
    seen = b"".join(iter(lambda: far.read(4096), b""))
    assert len(seen) == WINDOW_BYTES


def test_hello_is_the_first_word_or_a_refusal_or_nothing(pair: tuple[Link, FarEnd]) -> None:
    link, far = pair
    with pytest.raises(WorldError, match=r"^far: the box's program says hello: no answer in 0\.1 s$"):
        link.hello(0.1)
    far.say({"id": 0, "ok": {"kernel": "6.1"}})
    assert link.hello(10) == {"kernel": "6.1"}


def test_threads_may_ask_side_by_side(pair: tuple[Link, FarEnd]) -> None:
    link, far = pair
    waits = [in_background(lambda n=n: link.ask("box", "op", n=n, pad="p" * 400)["n"]) for n in range(12)]  # type: ignore[misc]
    for _ in itertools.repeat(None, 12):
        request = far.request()
        far.say({"id": request["id"], "ok": {"n": request["n"]}})
    assert [wait()[0] for wait in waits] == list(range(12))
