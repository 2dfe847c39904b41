"""./lab before any task: what is missing, who may install it, and a .venv that survives whatever happens to it.

The checkout here is a small copy below a folder with a space in its name; its lock file is empty, so that no index is
asked, and its command prints what it was given.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.command.typed import ROOT, type_line

COMMAND = "import os, sys\nprint(sys.argv[1:], os.getcwd() in sys.path, sys.prefix != sys.base_prefix)\n"
SHELL_TOOLS = (
    *("sh", "cat", "cut", "flock", "getent", "grep", "id", "mktemp", "readlink", "rm", "sed", "setpriv", "sha256sum"),
    *("stat", "tail", "tee", "touch", "uname"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout whose .venv is made."""
    root = copy_checkout(tmp_path_factory.mktemp("with a space") / "check out")
    first = type_line("one", "two words", "--", "-x", lab=root / "lab")
    assert (first.returncode, first.stdout) == (0, "['one', 'two words', '--', '-x'] False True\n")
    assert "lab: making .venv with " in first.stderr
    return root


def copy_checkout(root: Path) -> Path:
    (root / "tunlab" / "box").mkdir(parents=True)
    (root / "tunlab" / "command").mkdir()
    shutil.copy(ROOT / "lab", root / "lab")
    shutil.copy(ROOT / "tunlab" / "command" / "packages.sh", root / "tunlab" / "command")
    (root / "requirements.lock").write_text("")
    (root / "tunlab" / "box" / "packages.txt").write_text("needed coreutils cat\n")
    (root / "tunlab" / "command" / "__main__.py").write_text(COMMAND)
    return root


def folder_of(folder: Path, *names: str) -> Path:
    """A folder for PATH that has just these tools of the machine."""
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    return folder


def test_what_is_installed_is_not_asked_for_again(made: Path) -> None:
    again = type_line("x", lab=made / "lab")
    assert (again.returncode, again.stdout, again.stderr) == (0, "['x'] False True\n", "")


def test_an_install_that_was_cut_short_begins_again(made: Path) -> None:
    (made / ".venv" / ".unfinished").touch()
    (made / ".venv" / ".tunlab").unlink()
    assert "lab: making .venv with " in type_line(lab=made / "lab").stderr
    assert not (made / ".venv" / ".unfinished").exists()


def test_a_changed_lock_file_is_installed_into_the_venv_there_is(made: Path) -> None:
    (made / "requirements.lock").write_text("# changed\n")
    assert type_line(lab=made / "lab").stderr == "lab: installing the Python packages of requirements.lock\n"


def test_what_the_tests_alone_need_is_installed_by_them_alone(made: Path) -> None:
    (made / "requirements-test.lock").write_text("# a browser\n")
    (made / "tunlab" / "box" / "packages-test.txt").write_text("needed coreutils cat\n")
    assert type_line("x", lab=made / "lab").stderr == ""
    both = "lab: installing the Python packages of requirements.lock and requirements-test.lock\n"
    assert [type_line("test", lab=made / "lab").stderr for _ in range(2)] == [both, ""]
    assert type_line("x", lab=made / "lab").stderr == "", "the tests' install is everybody's, too"
    (made / "tunlab" / "box" / "packages-test.txt").write_text("needed chromium /no/browser\n")
    assert type_line("x", lab=made / "lab").stderr == ""


def test_two_at_once_do_not_disturb_each_other(made: Path) -> None:
    (made / ".venv" / ".tunlab").unlink()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(type_line, "x", lab=made / "lab") for _ in range(2)]
    said = [each.result() for each in both]
    assert [(each.returncode, each.stdout) for each in said] == [(0, "['x'] False True\n")] * 2
    installing = "lab: installing the Python packages of requirements.lock\n"
    assert sum(each.stderr.count(installing) for each in said) == 1


def test_a_checkout_that_moved_still_works(made: Path) -> None:
    moved = made.with_name("moved away")
    made.rename(moved)
    there = type_line("x", lab=moved / "lab")
    moved.rename(made)
    assert (there.returncode, there.stdout, there.stderr) == (0, "['x'] False True\n", "")


def test_it_may_be_started_through_a_link(made: Path, tmp_path: Path) -> None:
    link = tmp_path / "lab"
    link.symlink_to(made / "lab")
    assert type_line("x", lab=link).stdout == "['x'] False True\n"


def test_a_user_who_may_not_install_is_told_the_command(tmp_path: Path) -> None:
    root = copy_checkout(tmp_path / "checkout")
    (root / "tunlab" / "box" / "packages.txt").write_text(
        "needed etcd-server etcd\nneeded coreutils cat\nwanted x /no/x\n"
    )
    folder = folder_of(tmp_path / "bin", *SHELL_TOOLS)
    (folder / "python3").symlink_to(sys.executable)
    said = type_line("labs", lab=root / "lab", PATH=str(folder))
    assert said.returncode == 2
    assert said.stderr.splitlines() == [
        "lab: not allowed to install the missing Debian packages: etcd-server x ",
        "  hint: sudo apt-get update && sudo apt-get install --no-install-recommends etcd-server x ",
        "lab: the lab cannot do without: etcd-server ",
    ]
    assert not (root / ".venv").exists()


def test_without_a_browser_only_the_tests_do_not_start(made: Path, tmp_path: Path) -> None:
    (made / "tunlab" / "box" / "packages-test.txt").write_text("needed chromium /no/browser\n")
    path = str(folder_of(tmp_path / "bin", *SHELL_TOOLS))
    said = type_line("test", lab=made / "lab", PATH=path)
    assert (said.returncode, said.stdout) == (2, "")
    assert "  hint: sudo apt-get update && sudo apt-get install --no-install-recommends chromium \n" in said.stderr
    assert said.stderr.endswith("lab: the tests of the lab cannot do without: chromium \n")
    assert type_line("x", lab=made / "lab", PATH=path).stdout == "['x'] False True\n"


def test_the_two_lock_files_name_no_package_in_two_versions() -> None:
    pins = [
        dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), flags=re.MULTILINE))
        for name in ("requirements.lock", "requirements-test.lock")
    ]
    assert all(pins) and {name for name in pins[0].keys() & pins[1].keys() if pins[0][name] != pins[1][name]} == set()


def test_without_a_python_that_is_new_enough_it_says_which_to_install(tmp_path: Path) -> None:
    root = copy_checkout(tmp_path / "checkout")
    old = folder_of(tmp_path / "bin", *SHELL_TOOLS) / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    text = (root / "lab").read_text()
    (root / "lab").write_text(text.replace("/usr/bin/python3;", ";"))  # the machine's own is one too many here
    said = type_line("labs", lab=root / "lab", PATH=str(old.parent))
    assert said.returncode == 2
    assert "lab: no Python 3.11 or newer that can make a venv: none was found\n" in said.stderr


# --- packages.sh, with an apt-get that writes down what it saw, in namespaces where /usr/sbin is another one's --------

APT_GET = """#!/bin/sh
echo "apt-get $*" | sed 's/ -o [^ ]*//g; s/ -q=2//' >>"$SEEN"
case " $* " in *" install "*) ;; *) exit 0 ;; esac
/usr/sbin/policy-rc.d etcd start
echo "services: $?" >>"$SEEN"
eval "$DURING"
"""
APT_CACHE = '#!/bin/sh\nfor last; do :; done\n[ "$last" != unknown ]\n'


def install(tmp_path: Path, *packages: str, before: str = ":", during: str = ":") -> tuple[list[str], str, int]:
    """Runs packages.sh as the root of a private /usr/sbin; returns what apt-get saw, what is left there, the code."""
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    for name, text in (("apt-get", APT_GET), ("apt-cache", APT_CACHE)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    seen = tmp_path / "seen"
    seen.write_text("")
    script = (
        f"mount -t tmpfs tmpfs /usr/sbin; {before}; "
        f"sh '{ROOT}/tunlab/command/packages.sh' {' '.join(packages)}; code=$?; "
        'for left in /usr/sbin/*; do [ -e "$left" ] && echo "$left: $(tail -n 1 "$left")"; done; exit $code'
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        env={"PATH": f"{tools}:/usr/bin:/bin", "SEEN": str(seen), "DURING": during},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return seen.read_text().splitlines(), done.stdout, done.returncode


ADMIN = "printf '#!/bin/sh\\nexit %s\\n' {} >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d"


def test_no_service_may_start_while_packages_are_installed_and_nothing_is_left(tmp_path: Path) -> None:
    assert install(tmp_path, "etcd-server", "bird2") == (
        ["apt-get install --yes --no-install-recommends etcd-server bird2", "services: 101"],
        "",
        0,
    )


@pytest.mark.parametrize("code", [0, 101], ids=["lets services start", "forbids them"])
def test_the_policy_of_the_admin_stays_and_no_service_starts(tmp_path: Path, code: int) -> None:
    seen, left, ended = install(tmp_path, "bird2", before=ADMIN.format(code))
    assert seen[-1] == "services: 101"
    assert (left, ended) == (f"/usr/sbin/policy-rc.d: exit {code}\n", 0)


def test_an_install_that_is_terminated_leaves_nothing(tmp_path: Path) -> None:
    seen, left, ended = install(tmp_path, "bird2", during="kill -TERM $PPID")
    assert (seen[-1], left, ended) == ("services: 101", "", 143)


def test_what_a_kill_leaves_behind_forbids_nothing_and_the_next_run_takes_it_away(tmp_path: Path) -> None:
    _, left, ended = install(tmp_path, "bird2", during="kill -KILL $PPID")
    assert ended == 137
    assert "/usr/sbin/policy-rc.d: exit 0\n" in left
    stale = "printf '#!/bin/sh\\n# tunlab\\nexit 0\\n' >/usr/sbin/policy-rc.d"
    assert install(tmp_path, "bird2", before=stale)[1:] == ("", 0)


def test_packages_that_apt_does_not_know_do_not_stop_the_others(tmp_path: Path) -> None:
    seen, _, ended = install(tmp_path, "bird2", "unknown")
    assert seen == ["apt-get update", "apt-get install --yes --no-install-recommends bird2", "services: 101"]
    assert ended == 1


def test_a_failed_install_is_tried_once_more_with_fresh_lists(tmp_path: Path) -> None:
    seen, _, ended = install(tmp_path, "bird2", during='grep -q "get update" "$SEEN" || exit 100')
    assert [line for line in seen if line.startswith("apt-get")] == [
        "apt-get install --yes --no-install-recommends bird2",
        "apt-get update",
        "apt-get install --yes --no-install-recommends bird2",
    ]
    assert ended == 0
