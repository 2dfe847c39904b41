"""What the pages say is so: links lead somewhere, commands would run, examples load, tables are up to date."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
import yaml

from tunlab.check.requirement import MANIFEST
from tunlab.command.line import find_task, read_line
from tunlab.command.menu import entries
from tunlab.errors import TunlabError
from tunlab.lab.load import lab_names, parse_lab
from tunlab.report.catalogue import (
    BEGIN,
    DRIVERS,
    END,
    PAGE,
    SUITES,
    abilities_table,
    manifest,
    read_suites,
    replaced,
    table,
)
from tunlab.report.results import Results, Share
from tunlab.systems.described import DescribedSystem

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), ROOT / "bench" / "README.md"])
CI_JOBS = sorted((ROOT / "docs" / "ci").glob("*.yml"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# What ends a command of ours within a line of a shell: the rest is somebody else's.
SHELL_WORDS = {"|", "||", "&&", ";", "&", ">", ">>", "<", "2>&1"}
# What stands for a word that the reader puts there.
STAND_IN = re.compile(r"[A-Z][A-Z0-9_]*|path/to/.*|.*\.yaml|student\d+|exercise")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the line it begins on."""

    page: Path
    line: int
    kind: str
    text: str


def blocks(kind: str, text: str | None = None, page: Path = ROOT / "README.md") -> list[Block]:
    """The blocks of one kind on all pages, or in a text."""
    sources = [(page, text)] if text is not None else [(each, each.read_text()) for each in PAGES]
    return [
        Block(path, words[: found.start()].count("\n") + 1, found[1], found[2])
        for path, words in sources
        for found in FENCE.finditer(words)
        if found[1] == kind
    ]


def name_of(block: Block) -> str:
    return f"{block.page.name}-{block.line}"


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings have, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path, text: str) -> Iterator[str]:
    for target in LINK.findall(FENCE.sub("", text)):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in anchors(there):
            yield f"{target}: no such heading; there are {', '.join(sorted(anchors(there)))}"


def commands(text: str) -> list[list[str]]:
    """The words after `./lab` of every command in a page: lines of console and sh blocks, and code within sentences."""
    found = []
    for kind, body in FENCE.findall(text):
        if kind in ("console", "sh"):
            lines = [line.removeprefix("$ ") for line in body.splitlines() if kind == "sh" or line.startswith("$ ")]
            found += [line[line.index("./lab") :] for line in lines if "./lab" in line]
    found += re.findall(r"`(\./lab[^`]*)`", FENCE.sub("", text).replace("\n", " "))
    return [words_of(line) for line in found]


def words_of(line: str) -> list[str]:
    """A shell's words of one command, up to what is the shell's own or another command's."""
    words = shlex.split(re.sub(r"\)$", "", line), comments=True)
    ends = [number for number, word in enumerate(words) if word in SHELL_WORDS]
    return words[1 : ends[0]] if ends else words[1:]


def complaint(words: list[str]) -> str:
    """What `./lab` would say to these words; "" where it would go to work."""
    menu = entries()
    words = words[1:] if words[:1] == ["--debug"] else words
    try:
        if not words or words[0] == "TASK" or (len(words) == 1 and words[0] in menu):  # a task's name in a sentence
            return ""
        if words[0] == "help":
            for name in words[1:]:
                find_task(name if name != "TASK" else "up", menu)
            return ""
        request = read_line(words, menu)
    except TunlabError as error:
        return str(error)
    asked = request.arguments.get("lab", "")
    labs = [asked] if isinstance(asked, str) else list(asked if isinstance(asked, list) else [])
    strangers = [lab for lab in labs if lab and lab not in lab_names() and not STAND_IN.fullmatch(lab)]
    return f"no such lab: {', '.join(strangers)}" if strangers else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert list(dead_links(page, page.read_text())) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_on_a_page_is_one_that_the_front_door_takes(page: Path) -> None:
    wrong = {" ".join(words): said for words in commands(page.read_text()) if (said := complaint(words))}
    expected = {"exec node1 ip route"} if page.name == "troubleshooting.md" else set()
    assert set(wrong) == expected, wrong


@pytest.mark.parametrize("path", CI_JOBS, ids=lambda path: path.stem)
def test_every_command_of_a_ci_job_is_one_that_the_front_door_takes(path: Path) -> None:
    assert yaml.safe_load(path.read_text())
    text = re.sub(r"\$\{\{.*?\}\}", "1/3", path.read_text()).replace("$BASELINE ", "--baseline results.json ")
    lines = re.findall(r"^\s*(?:- |run: |)(\./lab .*?)(?: \|\| .*)?$", text, flags=re.MULTILINE)
    assert [line.split()[1] for line in lines].count("conform") == 2, "the baseline, and what is compared with it"
    assert [said for line in lines if (said := complaint(words_of(line)))] == []


@pytest.mark.parametrize("path", CI_JOBS, ids=lambda path: path.stem)
def test_no_part_of_a_ci_run_asks_the_cache_for_a_baseline_of_its_own(path: Path) -> None:
    jobs = yaml.safe_load(path.read_text())
    judging = [job for job in jobs.get("jobs", jobs).values() if "--shard" in str(job)]
    assert [("needs" in job, "cache" in str(job)) for job in judging] == [(True, False)]


@pytest.mark.parametrize("path", CI_JOBS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("partitions", "is_whole"),
    [("aaa", True), ("aab", False), ("aa", False), ("", False)],
    ids=["alike", "one-differs", "one-lacks", "none"],
)
def test_the_last_job_of_a_ci_run_sees_parts_that_were_shared_out_differently(
    path: Path, partitions: str, is_whole: bool, tmp_path: Path
) -> None:
    (line,) = re.findall(r"^ *(?:- )?(grep .*partition.*)$", path.read_text(), flags=re.MULTILINE)
    for number, partition in enumerate(partitions, start=1):
        made = Results("RUN", "2026-11-21T00:00:00+00:00", "refnet", {}, share=Share(("mixed-vxlan",), partition * 12))
        (folder := tmp_path / f"results-{number}").mkdir()
        made.write(folder)
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode == 0) == is_whole


def test_the_pages_together_show_every_task() -> None:
    shown = {words[0] for page in PAGES for words in commands(page.read_text()) if words}
    assert set(entries()) - shown == set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("./lab up same-subnett", "no such lab: same-subnett"),
        ("./lab up same-subnet --mod ipip", "up: --mod: no such option"),
        ("./lab upp same-subnet | head", "upp: no such task"),
    ],
    ids=["lab", "option", "task"],
)
def test_a_wrong_command_would_be_found(words: str, said: str) -> None:
    (found,) = commands(f"```console\n$ {words}\n```\n")
    assert complaint(found).startswith(said)


def test_a_dead_link_would_be_found() -> None:
    found = list(dead_links(ROOT / "README.md", "[a](docs/nowhere.md) [b](docs/modes.md#nowhere) [c](docs/modes.md)"))
    assert [each.split(":")[0] for each in found] == ["docs/nowhere.md", "docs/modes.md#nowhere"]


@pytest.mark.parametrize("block", blocks("yaml"), ids=name_of)
def test_every_example_in_yaml_loads(block: Block, tmp_path: Path) -> None:
    data = yaml.safe_load(block.text)
    assert data
    if isinstance(data, dict) and "segments" in data:
        parse_lab("example", block.text, place=block.page.name)
    elif isinstance(data, dict) and "conflist" in data:
        path = tmp_path / "system.yaml"
        path.write_text(block.text)
        DescribedSystem.load(path)


@pytest.mark.parametrize("block", blocks("json"), ids=name_of)
def test_every_example_in_json_loads(block: Block) -> None:
    assert json.loads(block.text)


def test_the_results_on_their_page_are_what_the_schema_allows() -> None:
    (shown,) = (json.loads(block.text) for block in blocks("json") if block.page.name == "results.md")
    jsonschema.validate(shown, json.loads((ROOT / "docs" / "results.schema.json").read_text()))


@pytest.mark.parametrize("block", blocks("python"), ids=name_of)
def test_every_example_in_python_parses(block: Block) -> None:
    assert ast.parse(block.text).body


def test_the_whole_driver_on_its_page_is_the_file_itself() -> None:
    page = (ROOT / "docs" / "drivers.md").read_text()
    assert (ROOT / "fixtures" / "systems" / "cni-ptp.yaml").read_text() in page


def test_the_keys_of_a_driver_that_the_page_shows_apart_fit_into_it(tmp_path: Path) -> None:
    whole, rest = (block.text for block in blocks("yaml") if block.page.name == "drivers.md")
    path = tmp_path / "system.yaml"
    kept = re.sub(r"^(abilities|setup|files|store|processes|ready):.*\n(?:[ -].*\n)*", "", whole, flags=re.MULTILINE)
    path.write_text(f"{kept}\n{rest}")
    assert DescribedSystem.load(path).name == "cni-ptp"


def test_a_container_is_prepared_by_the_same_line_on_the_page_and_in_the_example() -> None:
    line = "mount -t proc proc /mnt/proc && mount -t sysfs sysfs /mnt/sys && mount -o remount,rw /mnt/sys\n"
    pages = [(ROOT / "docs" / name).read_text() for name in ("boxes.md", "ci/gitlab.yml")]
    assert [page.count(line) for page in pages] == [1, 1]


def test_the_table_of_requirements_is_that_of_the_suites() -> None:
    page = PAGE.read_text()
    assert page == replaced(page, table(read_suites())), "write it anew: .venv/bin/python -m tunlab.report.catalogue"


def test_the_table_of_abilities_is_that_of_the_code() -> None:
    page = DRIVERS.read_text()
    assert page == replaced(page, abilities_table(read_suites())), "write it anew: python -m tunlab.report.catalogue"


def test_the_manifest_lists_what_the_suites_declare() -> None:
    assert (SUITES / MANIFEST).read_text() == manifest(read_suites()), "python -m tunlab.report.catalogue"


def test_the_table_names_each_requirement_once() -> None:
    rows = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].splitlines()[3:]
    ids = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert ids == sorted(set(ids))
    assert len(ids) == len(read_suites()) > 50


def test_every_message_that_troubleshooting_explains_stands_in_the_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    sources = [ROOT / "lab", *ROOT.glob("tunlab/**/*.py"), *ROOT.glob("refnet/**/*.py")]
    code = "\n".join(path.read_text() for path in sources)
    quoted = re.findall(r"^### `(.*)`$", page, flags=re.MULTILINE)
    assert len(quoted) > 20
    assert [words for words in quoted if words not in code] == []


def test_no_page_shows_where_it_was_written() -> None:
    words = re.compile(r"/work/|/tmp/docs|/root/|fc-v\d")
    assert [page.name for page in PAGES if words.search(page.read_text())] == []


def test_every_self_test_that_a_page_names_exists() -> None:
    """A table of proofs whose tests are gone would be a green for nothing itself."""
    files = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    there = {name for text in files for name in re.findall(r"^def (test_\w+)\(", text, re.MULTILINE)}
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text())}
    assert len(named) > 30
    assert sorted(named - there) == []
