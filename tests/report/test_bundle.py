"""A bundle is enough to judge again elsewhere; what nobody could read is not written, what is hostile is not read."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.check.fakes import conform, write_suite
from tests.report.example_run import example_run
from tunlab.check.manifests import MANIFESTS
from tunlab.command.replay import replay
from tunlab.errors import LabError, WorldError
from tunlab.paths import ROOT
from tunlab.report.bundle import Bundle, read_bundle, write_bundle
from tunlab.report.results import Results, read_results

TOO_LARGE = 512 * 2**20 + 1
BY_ITSELF = (sys.executable, "-ISE")  # finds the standard library, and what a script brings along
# Fails as a faulty build with its seed and manifest does; any other answer, and none, is right.
FAILS_WITH_THIS_BUILD = '''
import subprocess
from tunlab.check.scene import read_documents

@requirement("ECHO-01", modes=["ipip"])
def test_echo(cell):
    """The agent is not the faulty one."""
    told = subprocess.run([cell.parts.get("agent", "true"), "--version"], cwd="/", capture_output=True, text=True)
    (applied,) = read_documents("fixtures/manifests/life/refresh-often.yaml")
    (nobody,) = read_documents("fixtures/manifests/life/refresh-never.yaml")
    seen = f"{told.stdout.strip()}, seed {os.environ.get('TUNLAB_SEED')}, {applied['kind']}, {nobody['kind']}"
    assert seen != "refnet-agent 6.6.6, seed 7, Theirs, FelixConfiguration", seen
'''
LARGE = f'''
@requirement("LARGE-01", modes=["vxlan"])
def test_large(cell):
    """What it leaves is small."""
    with open(cell.out / "large.pcapng", "wb") as file:
        file.truncate({TOO_LARGE})
    assert False, "it is not"
'''


def faulty(folder: Path) -> Path:
    """A build of refnet whose agent says another version, and that has been used."""
    tree = folder / "refnet"
    shutil.copytree(ROOT / "refnet", tree, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "agent" / "__pycache__").mkdir()
    (tree / "agent" / "__pycache__" / "main.cpython-311.pyc").touch()
    main = tree / "agent" / "main.py"
    main.write_text(main.read_text().replace("refnet-agent 0.1.0", "refnet-agent 6.6.6"))
    return tree


def run_with(folder: Path, parts: Mapping[str, Path]) -> tuple[Path, Results]:
    """The folder of a run with these parts, and its results."""
    results = read_results(example_run(folder))
    assert results is not None
    return folder, replace(results, options={"with": {part: str(path) for part, path in parts.items()}})


def bundled(tmp_path: Path, parts: Mapping[str, Path]) -> Bundle:
    """Such a run's bundle, unpacked."""
    return read_bundle(write_bundle(*run_with(tmp_path / "run", parts), {}), tmp_path / "there")


def without(path: Path, name: str) -> Path:
    """A copy of a bundle that lacks one file."""
    copy = path.with_name("older.tar")
    with tarfile.open(path) as tar, tarfile.open(copy, "w") as other:
        assert name in tar.getnames()
        for each in tar:
            if each.name != name:
                other.addfile(each, tar.extractfile(each))
    return copy


def test_a_replay_judges_the_build_the_seed_and_the_manifests_of_the_run_and_sees_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = write_suite(tmp_path, echo=FAILS_WITH_THIS_BUILD)
    tree, manifests = faulty(tmp_path / "build"), tmp_path / "manifests"
    shutil.copytree(MANIFESTS, manifests)
    (manifests / "life" / "refresh-often.yaml").write_text("kind: Theirs\n")
    with monkeypatch.context() as then:
        then.setenv("TUNLAB_SEED", "7")
        then.setenv("TUNLAB_MANIFESTS", str(manifests))  # as another checkout's
        red = conform(replace(there, captures=tmp_path / "red"), parts=[f"agent={tree / 'bin' / 'refnet-agent'}"])
    assert red.code == 1
    shutil.rmtree(tree)  # as on another machine
    said = io.StringIO()
    bundle = without(red.out / "bundle.tar", "manifests/life/refresh-never.yaml")  # as if that were newer
    assert replay(str(bundle), places=there, stream=said) == 1
    assert said.getvalue().splitlines()[-4:-1] == [
        "replay: fixtures/manifests/life/refresh-often.yaml is another than the bundle's, which was applied",
        *(f"replay ECHO-01 {lab} ipip: was failed, is failed" for lab in ("alpha", "beta")),
    ]
    (again,) = there.captures.glob("2*/results.json")
    reasons = {row["reason"].splitlines()[0] for row in json.loads(again.read_text())["requirements"]}
    assert reasons == {row["reason"].splitlines()[0] for row in red.results["requirements"]}
    assert reasons == {"refnet-agent 6.6.6, seed 7, Theirs, FelixConfiguration"}
    assert not {"TUNLAB_SEED", "TUNLAB_MANIFESTS", "TUNLAB_LABS"} & set(os.environ)


@pytest.mark.parametrize(
    ("part", "script", "words", "says"),
    [
        ("agent", "refnet-agent", ["--version"], "refnet-agent 6.6.6\n"),
        ("ctl", "refnetctl", ["--help"], "refnetctl: look at and change "),
    ],
    ids=["agent", "ctl"],
)
def test_a_bundled_script_of_refnet_starts_as_a_daemon_does(
    tmp_path: Path, part: str, script: str, words: list[str], says: str
) -> None:
    tree = faulty(tmp_path / "build")
    bundle = bundled(tmp_path, {part: tree / "bin" / script})
    shutil.rmtree(tree)
    program = bundle.folder / bundle.places[part]
    done = subprocess.run(
        [*BY_ITSELF, program, *words], check=False, cwd="/", capture_output=True, text=True, timeout=60
    )
    assert (done.stdout[: len(says)], done.stderr, done.returncode) == (says, "", 0)
    assert os.access(program, os.X_OK)


def test_a_tree_comes_once_for_all_its_parts_and_as_its_sources_alone(tmp_path: Path) -> None:
    tree, other = faulty(tmp_path / "build"), faulty(tmp_path / "other")
    (tmp_path / "secret").write_text("nobody's business\n")
    (tree / "key.py").symlink_to(tmp_path / "secret")
    (tree / "alias.py").symlink_to("errors.py")
    (other / "twin.py").hardlink_to(tree / "errors.py")
    (tree / "captures").mkdir()
    (tree / "captures" / "a.pcapng").touch()
    programs = {
        "agent": tree / "bin" / "refnet-agent",
        "cni": other / "bin" / "refnet-cni",
        "ctl": tree / "bin" / "refnetctl",
    }
    bundle = bundled(tmp_path, {**programs, "refnet": tree})
    assert bundle.places == {
        "agent": "trees/1/refnet/bin/refnet-agent",
        "cni": "trees/2/refnet/bin/refnet-cni",
        "ctl": "trees/1/refnet/bin/refnetctl",
        "refnet": "trees/1/refnet",
    }
    packed = bundle.folder / "trees"
    assert sorted(path.name for path in packed.iterdir()) == ["1", "2"]
    wanted = {path.relative_to(tree) for path in tree.rglob("*") if path.suffix == ".py" or path.parent.name == "bin"}
    found = {path.relative_to(packed / "1" / "refnet") for path in packed.glob("1/**/*") if path.is_file()}
    assert found == wanted - {Path("key.py")}
    for copy in (packed / "1" / "refnet" / "alias.py", packed / "2" / "refnet" / "twin.py"):
        assert copy.read_text() == (tree / "errors.py").read_text() and not copy.is_symlink()


def test_a_program_that_stands_by_itself_comes_by_itself(tmp_path: Path) -> None:
    program = tmp_path / "refnet" / "bin" / "agent"  # named like a script of a tree, and there is no tree
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "refnet" / "unrelated").touch()
    bundle = bundled(tmp_path, {"agent": program})
    assert bundle.places == {"agent": "parts/agent"}
    assert (bundle.folder / "parts" / "agent").read_text() == "#!/bin/sh\n"
    assert not (bundle.folder / "trees").exists()
    untold = replace(bundle, data={name: value for name, value in bundle.data.items() if name != "parts"})
    assert untold.places == bundle.places


def test_what_nobody_could_read_is_not_written(tmp_path: Path) -> None:
    folder, results = run_with(tmp_path / "run", {})
    with (folder / "large.pcapng").open("wb") as file:
        file.truncate(TOO_LARGE)
    with pytest.raises(WorldError, match=r"bundle\.tar: would hold 512\.\d MiB, and .* reads no more than 512\n"):
        write_bundle(folder, results, {})
    (folder / "large.pcapng").unlink()
    with pytest.raises(WorldError, match=r"bundle\.tar: not written: .*No such file"):
        write_bundle(*run_with(tmp_path / "other", {"agent": tmp_path / "gone"}), {})
    assert not [*folder.glob("*bundle.tar"), *(tmp_path / "other").glob("*bundle.tar")]


def test_a_run_without_a_bundle_says_why_and_ends_as_it_was_judged(tmp_path: Path) -> None:
    ran = conform(write_suite(tmp_path, large=LARGE))
    assert ran.code == 1
    (line,) = [line for line in ran.said.splitlines() if line.startswith("bundle:")]
    assert line.startswith("bundle: none: ") and " would hold 5" in line
    assert not list(ran.out.glob("*bundle.tar"))
    assert ran.said.splitlines()[-1].startswith("tunlab: exit=1 passed=0 failed=1 ")


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """An empty file of a tar archive, or a link in it."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    "hostile",
    [
        member("../escaped"),
        member("/dev/null/escaped"),
        member("labs/../../escaped"),
        member("escaped", tarfile.SYMTYPE, "/etc"),
        member("escaped", tarfile.SYMTYPE, "replay.json"),
        member("escaped", tarfile.LNKTYPE, "../run/results.json"),
        member("escaped", tarfile.FIFOTYPE),
    ],
    ids=["up", "absolute", "down-and-up", "link", "link-within", "hard-link", "fifo"],
)
def test_what_is_no_plain_file_of_a_bundle_is_refused(tmp_path: Path, hostile: tarfile.TarInfo) -> None:
    path = write_bundle(*run_with(tmp_path / "run", {}), {})
    read_bundle(path, tmp_path / "harmless")
    with tarfile.open(path, "a") as tar:
        tar.addfile(hostile)
    with pytest.raises(LabError, match=rf"^{path}: no bundle: {hostile.name}: no file or folder of a bundle\n"):
        read_bundle(path, tmp_path / "there")
    assert not list(tmp_path.glob("**/escaped"))


@pytest.mark.parametrize(
    "parts",
    [
        {"agent": "/bin/sh"},
        {"agent": "../run/results.json"},
        {"agent": "x,ctl=/bin/sh"},
        {"agent=/bin/sh,ctl": "replay.json"},
        {"agent": "parts/agent"},
        ["agent"],
    ],
    ids=["absolute", "up", "second-part", "second-path", "missing", "list"],
)
def test_a_part_that_is_not_in_the_bundle_is_refused(tmp_path: Path, parts: Any) -> None:
    path = write_bundle(*run_with(tmp_path / "run", {}), {})
    told = json.loads((read_bundle(path, tmp_path / "harmless").folder / "replay.json").read_text())
    contents = member("replay.json")
    text = json.dumps({**told, "parts": parts}).encode()
    contents.size = len(text)
    with tarfile.open(path, "a") as tar:
        tar.addfile(contents, io.BytesIO(text))
        tar.addfile(member("x,ctl=/bin/sh"))
    with pytest.raises(LabError, match=rf"^{path}: no bundle: "):
        read_bundle(path, tmp_path / "there")
