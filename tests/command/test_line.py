"""Reading a typed line: what each spelling means, against the real menu."""

from __future__ import annotations

import pytest

from tunlab.command.line import read_line
from tunlab.command.menu import entries
from tunlab.errors import LabError


def read(*words: str) -> dict[str, object]:
    return dict(read_line(words, entries()).arguments)


@pytest.mark.parametrize(
    "words",
    [
        ("--mode", "ipip,vxlan", "--mode", "none"),
        ("--mode=ipip", "--mode=vxlan,none"),
        ("--mode", "ipip", "--mode", "vxlan", "--mode", "none"),
        ("--mode", "ipip, vxlan ,none", "--mode", "none"),
    ],
    ids=["commas and repeated", "equals signs", "repeated", "spaces and a value twice"],
)
def test_a_list_may_be_spelt_with_commas_or_by_repeating(words: tuple[str, ...]) -> None:
    assert read("conform", *words)["mode"] == ["ipip", "vxlan", "none"]


def test_the_words_of_exec_stay_as_they_were_typed() -> None:
    typed = ["sh", "-c", "echo  'two  spaces' $HOME", "--", "--lab", "x", ""]
    assert read("exec", "node1", "--lab", "mixed", "--", *typed) == {
        "place": "node1",
        "command": typed,
        "lab": "mixed",
    }


@pytest.mark.parametrize(
    "words", [("same-subnet", "--mode", "none"), ("--mode", "none", "same-subnet")], ids=["after", "before"]
)
def test_an_option_may_stand_on_either_side_of_a_word(words: tuple[str, ...]) -> None:
    assert read("up", *words) == {
        "lab": "same-subnet",
        "system": "refnet",
        "mode": "none",
        "box": "auto",
        "show": False,
        "with_": [],
    }


def test_a_word_that_may_be_left_out_is_empty() -> None:
    assert read("launch", "--node", "node2") == {"pod": "", "node": "node2", "lab": "", "show": False}
    assert read("launch", "pod3", "--node", "node2")["pod"] == "pod3"


def test_numbers_arrive_as_numbers_and_parts_as_a_list() -> None:
    read_values = read("conform", "--timeout", "90.5", "--with", "agent=/a b,cni=/c", "-k", "IPIP and not VXLAN")
    assert read_values["timeout"] == 90.5
    assert read_values["with_"] == ["agent=/a b", "cni=/c"]
    assert read_values["k"] == "IPIP and not VXLAN"
    assert read("ping", "pod1", "pod2", "--count", "7")["count"] == 7


def test_one_line_reports_all_its_mistakes() -> None:
    with pytest.raises(LabError, match=r"^up: LAB is missing") as caught:
        read("up", "--mode", "x", "--box", "y")
    assert [text.split(":")[1].split()[0] for text in caught.value.mistakes] == ["LAB", "--mode", "--box"]


def test_a_list_option_left_out_is_a_new_list_each_time() -> None:
    first, second = read("conform"), read("conform")
    assert first["mode"] == []
    assert first["mode"] is not second["mode"]
