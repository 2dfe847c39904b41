"""Who may start a box: root, an ordinary user with and without a range of ids, and nobody where the kernel says no."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tunlab.box import enter, start
from tunlab.box.machine import packages
from tunlab.errors import WorldError

ROOT = Path(__file__).resolve().parents[2]
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
TRY = """
import json, sys
sys.path.insert(0, sys.argv[1])
from tunlab.box.start import fresh_run_dir, id_map, start_box
from tunlab.errors import WorldError
told = {"map": id_map()}
try:
    box = start_box(sys.argv[2], fresh_run_dir("who"))
    box.add_network("node1", {"net.ipv4.ip_forward": "1"})
    box.add_host("node1")
    box.put("node1", "/etc/cni/net.d/mine", "x")
    told["out"] = box.run("node1", ["sh", "-c", "id -u; hostname; cat /etc/cni/net.d/mine; echo; echo $$"]).out.split()
    told["ids"] = box.run("box", ["cat", "/proc/self/uid_map"]).out.split()
    told["folder"] = str(box.run_dir.parent)
    box.run("node1", ["sh", "-c", "echo 1 > /run/tunlab/written"])
    box.close()
except WorldError as error:
    told["message"], told["hint"] = error.message, error.hint
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """The part of this checkout that a box needs, where everybody can read it."""
    copy = Path(tempfile.mkdtemp(prefix="tunlab who-may "))
    try:
        copy.chmod(0o755)
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("tunlab/box", "tunlab/__init__.py", "tunlab/errors.py", "tunlab/wait.py"):
            there = copy / name
            there.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, there, ignore=ignored)
            else:
                shutil.copy(ROOT / name, there)
        yield copy
    finally:
        shutil.rmtree(copy)


def tried(argv: list[str], checkout: Path, kind: str = "namespaces", env: Mapping[str, str] | None = None) -> Any:
    """What happens to a box in a process that `argv` starts; python is the system's, that everybody may run."""
    python = "/usr/bin/python3"
    assert Path(python).exists(), f"there is no {python}: apt-get install python3-minimal"
    environment = {"PATH": os.environ["PATH"], **(env or {})}
    held, leash = os.pipe()  # an enter.py among `argv` lives as long as this
    try:
        done = subprocess.run(
            [*argv, python, "-B", "-c", TRY, str(checkout), kind],
            stdin=held, capture_output=True, text=True, env=environment, cwd="/", timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(held)
        os.close(leash)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def as_ordinary() -> list[str]:
    return NOBODY if os.getuid() == 0 else []


@pytest.mark.parametrize("kind", start.KINDS)
def test_an_ordinary_user_gets_a_box_in_which_he_is_root(checkout: Path, kind: str) -> None:
    told = tried(as_ordinary(), checkout, kind)
    assert told.get("message") is None, told
    assert told["map"] in ("root", "subuid")
    assert told["out"][:3] == ["0", "node1", "x"]
    if kind == "namespaces" and told["map"] == "root":
        assert told["ids"] == ["0", str(65534 if os.getuid() == 0 else os.getuid()), "1"]
    assert not Path(told["folder"]).exists()  # the last one out leaves nothing behind


def test_whoever_may_map_a_range_does(checkout: Path) -> None:
    told = tried([], checkout)
    assert told.get("message") is None, told
    if os.getuid() == 0:
        assert (told["map"], told["ids"]) == ("range", ["0", "0", "65536"])
    else:
        assert told["map"] in ("subuid", "root")


def test_a_range_from_etc_subuid_is_used_where_it_is_large_enough(tmp_path: Path) -> None:
    table, own = tmp_path / "subuid", str(os.getuid())
    for text, wanted in (
        ("somebody:100000:65536\n", None),
        (f"{own}:100000:1000\n", None),
        (f"{own}:100000:1000\n{own}:200000:65536\n", 200000),
        (f"\nrubbish\n{own}:x:y\n{own}:300000:65535\n", 300000),
    ):
        table.write_text(text)
        if wanted is None:
            with pytest.raises(OSError, match=rf"^{table} grants .*{own}.* no range of 65535 ids$"):
                enter.subordinate_ids(str(table))
        else:
            assert enter.subordinate_ids(str(table)) == wanted


def test_an_ordinary_user_with_a_range_of_ids_maps_it(checkout: Path) -> None:
    """/etc/subuid with a line for the caller is laid over the machine's in a mount namespace of the test's own."""
    if os.getuid() != 0:
        told = tried([], checkout)
        assert told["map"] == ("subuid" if start.id_map() == "subuid" else "root")
        return
    lay = (
        "for t in subuid subgid; do echo 65534:200000:65536 > /run/$t; touch /etc/$t; mount --bind /run/$t /etc/$t;"
        ' done; exec "$@"'
    )
    argv = ["unshare", "--mount", "sh", "-euc", f"mount -t tmpfs tmpfs /run; {lay}", "sh", *NOBODY]
    told = tried(argv, checkout)
    assert told.get("message") is None, told
    assert told["map"] == "subuid"
    assert told["ids"] == ["0", "65534", "1", "1", "200000", "65535"]
    assert told["out"][:3] == ["0", "node1", "x"]


def nested(script: str) -> list[str]:
    """`script`, then the rest of the line, as root of a user namespace that knows one id."""
    own = [sys.executable, "-ISE", str(ROOT / "tunlab/box/enter.py")]
    return [*own, "root", "mount,pid", "--", "sh", "-euc", f'mount -t proc proc /proc; {script}; exec "$@"', "sh"]


FORBID = "echo 0 > /proc/sys/user/max_user_namespaces"


def test_where_user_namespaces_are_refused_that_is_said_once_with_how_to_mend_it(checkout: Path) -> None:
    argv = [*nested(FORBID), "setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    told = tried(argv, checkout)
    assert "message" in told, told
    where, _, words = told["message"].partition("its last words: ")
    assert where.startswith("namespaces box who.")
    assert where.endswith("the box's program says hello: the box has ended: ")
    assert words == "enter: unshare --user: No space left on device"
    assert told["hint"] == "sudo sysctl -w user.max_user_namespaces=10000"


def test_root_goes_without_a_user_namespace_where_there_are_none(checkout: Path) -> None:
    told = tried(nested(FORBID), checkout)
    assert told.get("message") is None, told
    assert told["out"][:3] == ["0", "node1", "x"]


def test_root_of_a_container_that_knows_one_id_hands_on_that_one(checkout: Path) -> None:
    told = tried(nested(":"), checkout)
    assert told.get("message") is None, told
    assert (told["map"], told["ids"]) == ("root", ["0", "0", "1"])


def test_ids_that_cannot_be_mapped_are_told_with_the_tools_own_words(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("newuidmap", "newgidmap"):
        (folder / name).write_text("#!/bin/sh\necho newuidmap: not today >&2; exit 1\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(start, "id_map", lambda: "subuid")
    run_dir = start.fresh_run_dir("who")
    python = _with_a_range(tmp_path)
    monkeypatch.setattr(start, "interpreter", lambda: python)
    with pytest.raises(
        WorldError,
        match=r"enter: map ids \(subuid\): newuidmap \d+ 0 \d+ 1 1 200000 65535: newuidmap: not today\n",
    ):
        start.start_box("namespaces", run_dir)


def _with_a_range(folder: Path) -> str:
    """A python for which /etc/subuid holds a range for the caller."""
    script = folder / "python"
    module = "import tunlab.box.enter as e; e.subordinate_ids = lambda table: 200000; sys.exit(e.main())"
    script.write_text(
        f"#!{start.interpreter()}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\nsys.argv = sys.argv[4:]\n{module}\n"
    )
    script.chmod(0o755)
    return str(script)


def test_a_missing_guest_kernel_is_told_with_the_package_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "which", lambda command: "")
    run_dir = start.fresh_run_dir("who")
    with pytest.raises(WorldError) as raised:
        start.start_box("uml", run_dir)
    assert str(raised.value) == (
        "uml box: start linux.uml: there is no such program\n"
        "  hint: apt-get install --no-install-recommends user-mode-linux"
    )
    assert not run_dir.exists()
    assert "user-mode-linux" in {package.name for package in packages()}
