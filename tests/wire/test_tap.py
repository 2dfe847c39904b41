"""Wire's own judgement, with a box that answers what a kernel hardly does; tests/box/test_taps.py is real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunlab.errors import WorldError
from tunlab.wire.tap import TapPoint, Wire

LIVE = {"state": "live", "frames": 3, "drops": 0, "begin": True, "end": True, "begin_s": 1.0, "end_s": 2.0}


class Answers:
    """A box whose role answers as told."""

    run_dir = Path("/nowhere")

    def __init__(self, **answers: dict[str, Any]) -> None:
        usual: dict[str, dict[str, Any]] = {
            "start": {},
            "add": {"taps": {"node1/eth0": {}}},
            "begin": {"unseen": []},
            "end": {"unseen": [], "taps": {"node1/eth0": LIVE}},
            "finish": {"taps": {}},
        }
        self.answers = {**usual, **answers}
        self.asked: list[str] = []

    def ask(self, role: str, op: str, **arguments: Any) -> dict[str, Any]:
        self.asked.append(op)
        self.edge_s = arguments.get("edge_s")
        return self.answers[op]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        pytest.param(
            {"begin": {"unseen": ["node1/eth0"]}},
            r"^window pairs: no begin sentinel came back through node1/eth0\n  hint: a tap that does not see its own",
            id="no-begin",
        ),
        pytest.param(
            {"end": {"unseen": ["node1/eth0"], "taps": {"node1/eth0": {**LIVE, "end": False}}}},
            r"^window pairs: no end sentinel came back through node1/eth0\n",
            id="no-end",
        ),
        pytest.param(
            {"end": {"unseen": [], "taps": {"node1/eth0": {**LIVE, "drops": 2}}}},
            r"^window pairs: tap node1/eth0: the kernel dropped 2 frames beside 3 recorded\n",
            id="drops",
        ),
    ],
)
def test_a_tap_that_missed_something_breaks_the_window(answers: dict[str, dict[str, Any]], message: str) -> None:
    box = Answers(**answers)
    wire = Wire(box)
    wire.open("x.pcapng", ["node1/eth0"])
    with pytest.raises(WorldError, match=message), wire.window("pairs"):
        pass
    assert box.asked[-1] == "end"
    assert [record.name for record in wire.windows] == ["pairs"]


def test_the_time_factor_stretches_what_a_sentinel_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNLAB_TIME_FACTOR", "3")
    box = Answers()
    wire = Wire(box)
    wire.open("x.pcapng", ["node1/eth0"])
    assert box.edge_s == 15.0
    with wire.window("pairs"):
        assert box.edge_s == 15.0


def test_a_window_without_taps_shows_nothing() -> None:
    wire = Wire(Answers())
    wire.open("x.pcapng")
    with pytest.raises(WorldError, match=r"^window pairs: no tap is open\n"), wire.window("pairs"):
        pass


@pytest.mark.parametrize("name", ["", "two words", "ümlaut"])
def test_a_window_is_named_so_that_the_file_can_name_it(name: str) -> None:
    wire = Wire(Answers())
    wire.open("x.pcapng", ["node1/eth0"])
    with pytest.raises(WorldError, match=r": a name is made of letters, digits and "), wire.window(name):
        pass


def test_taps_are_named_after_place_and_device() -> None:
    assert TapPoint.named("node1/eth0") == TapPoint("node1", "eth0")
    assert TapPoint("segment", "veth7", alias="wire/left").name == "wire/left"
    with pytest.raises(ValueError, match=r"^'node1' is no tap: wanted place/device, such as node1/eth0$"):
        TapPoint.named("node1")


def test_finishing_tells_the_file_as_seen_from_outside() -> None:
    wire = Wire(Answers())
    wire.open("w/x.pcapng", ["node1/eth0"])
    assert wire.finish() == Path("/nowhere/w/x.pcapng")
    with pytest.raises(WorldError, match=r"^finishing the recording: there is none$"):
        wire.finish()
