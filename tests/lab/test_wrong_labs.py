"""A wrong lab file gets one message per mistake, all at once; the corpus in golden/errors/lab holds the exact texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tunlab.errors import LabError
from tunlab.lab.load import LABS_DIR, lab_names, load_lab, parse_lab
from tunlab.lab.model import schema_text

CORPUS = Path(__file__).parents[1] / "golden" / "errors" / "lab"
WRONG = sorted(CORPUS.glob("*.yaml"))


def refusal(name: str) -> LabError:
    with pytest.raises(LabError) as caught:
        load_lab(name)
    return caught.value


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_a_wrong_lab_gets_exactly_these_messages(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CORPUS)
    error = refusal(f"./{path.name}")
    assert str(error) == path.with_suffix(".txt").read_text(encoding="utf-8").rstrip("\n")
    for mistake in error.mistakes:
        assert [line[:6] for line in mistake.splitlines() if line[:2] == "  " and line[2] != " "] == [
            "  lega",
            "  hint",
        ]
        assert max(map(len, mistake.splitlines())) <= 80


def test_every_wrong_lab_has_its_messages_beside_it_and_no_message_is_without_a_lab() -> None:
    assert {path.stem for path in WRONG} == {path.stem for path in CORPUS.glob("*.txt")}


def test_an_unknown_lab_is_answered_with_the_list_and_the_nearest_name() -> None:
    assert str(refusal("same-subent")) == (
        "labs: same-subent: no such lab\n"
        "  legal: cross-subnet, cross-subnet-bgp, cross-subnet-deep, cross-subnet-tor,\n"
        "    dual-stack, fan-out, gobgp, mixed, one-node, outside, reflectors,\n"
        "    same-subnet\n"
        "  hint: did you mean same-subnet?"
    )


def test_a_missing_file_a_folder_and_a_file_of_bytes_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert [str(refusal(name)).splitlines()[0] for name in ("none.yaml", "./", "bytes.yaml")] == [
        "none.yaml: no such file",
        ".: is a folder",
        "bytes.yaml: not UTF-8 text",
    ]


def test_the_files_name_must_serve_as_the_labs_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "My Lab.yaml").write_text((LABS_DIR / "mixed.yaml").read_text())
    assert str(refusal("My Lab.yaml")) == (
        "My Lab.yaml: My Lab: not a name for a lab\n"
        "  legal: lower-case letters, digits and dashes; at most 40 characters\n"
        "  hint: rename the file"
    )


def test_a_lab_by_its_path_equals_the_lab_by_its_name() -> None:
    assert load_lab(LABS_DIR / "mixed.yaml") == load_lab(str(LABS_DIR / "mixed.yaml")) == load_lab("mixed")


def test_the_committed_schema_is_the_one_that_the_models_make() -> None:
    assert (LABS_DIR / "schema.json").read_text(encoding="utf-8") == schema_text()


@pytest.mark.parametrize("name", lab_names())
def test_every_lab_obeys_the_schema_and_points_editors_at_it(name: str) -> None:
    text = (LABS_DIR / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n#\n# ")
    jsonschema.validate(yaml.safe_load(text), json.loads(schema_text()))


def test_the_schema_refuses_what_an_editor_can_see() -> None:
    data = yaml.safe_load((LABS_DIR / "mixed.yaml").read_text(encoding="utf-8"))
    data["modes"] = ["ipsec"]
    with pytest.raises(jsonschema.ValidationError, match=r"^'ipsec' is not one of \['ipip', "):
        jsonschema.validate(data, json.loads(schema_text()))


def paths_of(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from paths_of(value, (*path, key))


@pytest.mark.parametrize(
    "value",
    [None, [], {}, "x", "", 7, -1, True, 1.5, "10.244.0.0/16", "192.168.100.1", [None], [[]], [{}], {"x": 1}, {1: 2}],
    ids=repr,
)
def test_whatever_stands_in_place_of_a_value_is_a_lab_or_a_list_of_mistakes(value: object) -> None:
    text = (LABS_DIR / "cross-subnet-bgp.yaml").read_text(encoding="utf-8")
    refused = 0
    for *way, last in paths_of(yaml.safe_load(text)):
        data = target = yaml.safe_load(text)
        for key in way:
            target = target[key]
        target[last] = value
        try:
            parse_lab("x", yaml.safe_dump(data), place="x.yaml")
        except LabError as error:
            refused += 1
            assert error.mistakes
            assert all(line.startswith(("x.yaml:", "  ")) and len(line) <= 80 for line in str(error).splitlines())
    assert refused > 0
