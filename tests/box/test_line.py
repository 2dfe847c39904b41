"""The framing of the line: however the bytes were chopped up, the same frames come out; what is no frame is told."""

from __future__ import annotations

import struct

import pytest

from tunlab.box.line import Decoder, Frame, LineBroken, encode

FRAMES: list[Frame] = [
    {"id": 0},
    {"id": 7, "op": "run", "argv": ["echo", "grüß", "\x00\ud800"]},
    {"id": 8, "text": "x" * 5000},
    {},
]
STREAM = b"".join(map(encode, FRAMES))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 64, 1023, 4096, len(STREAM)], ids="chunks-of-{}".format)
def test_frames_survive_being_chopped_up(size: int) -> None:
    decoder = Decoder()
    seen = [frame for at in range(0, len(STREAM), size) for frame in decoder.feed(STREAM[at : at + size])]
    assert seen == FRAMES


def test_a_frame_is_held_back_until_its_last_byte() -> None:
    decoder = Decoder()
    assert decoder.feed(STREAM[:-1]) == FRAMES[:-1]
    assert decoder.feed(STREAM[-1:]) == FRAMES[-1:]


def test_the_length_comes_first_in_four_bytes_big_endian() -> None:
    assert encode({"id": 1}) == b'\x00\x00\x00\x08{"id":1}'


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (
            struct.pack(">I", 64 * 1024 * 1024 + 1),
            r"^a frame of 67108865 bytes was announced; the longest is \d+$",
        ),
        (b"\xff\xff\xff\xff", r"^a frame of 4294967295 bytes was announced"),
        (b"Kernel panic - not syncing", r"^a frame of 1264939630 bytes was announced"),
        (b"\x00\x00\x00\x03{,}", r"^a frame of 3 bytes is not JSON: "),
        (b"\x00\x00\x00\x00", r"^a frame of 0 bytes is not JSON: "),
        (b"\x00\x00\x00\x02\xff\xfe", r"^a frame of 2 bytes is not JSON: "),
        (b"\x00\x00\x00\x02[]", r"^a frame of 2 bytes is not a JSON object$"),
        (b"\x00\x00\x00\x017", r"^a frame of 1 bytes is not a JSON object$"),
        (struct.pack(">I", 200_000) + b"[" * 200_000, r"^a frame of 200000 bytes is not JSON: "),
    ],
    ids=["one-too-long", "all-ones", "a-kernels-words", "no-json", "empty", "no-utf8", "list", "number", "bottomless"],
)
def test_rubbish_is_called_rubbish(data: bytes, why: str) -> None:
    with pytest.raises(LineBroken, match=why):
        Decoder().feed(data)


def test_what_came_before_the_rubbish_was_good() -> None:
    decoder = Decoder()
    assert decoder.feed(encode({"id": 1})) == [{"id": 1}]
    with pytest.raises(LineBroken, match="not JSON"):
        decoder.feed(b"\x00\x00\x00\x01{")
