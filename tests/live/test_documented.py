"""The commands that the pages show, typed as they stand there: those that one small lab can take, in that lab.

All others are named here with the test that covers them: a command that is new on a page belongs into one of the lists.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.live.user import ROOT, Said, User

PAGES = (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
FENCE = re.compile(r"^```(console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ALONE = (
    "./lab doctor",
    "./lab labs",
    "./lab lesson",
    "./lab exercise --list",
    "./lab plan same-subnet > same-subnet.sh",
)
PING = "./lab ping pod1 pod2 --count 2"
# What only looks, in any lab in mode vxlan; one word in each answer.
INSIDE = {
    "./lab exec pod1 -- ip route": "default via 169.254.1.1",
    "./lab exec pod1 -- ip neigh": "169.254.1.1",
    "./lab exec node1 -- ip route": "vxlan.calico",
    "./lab exec node1 -- ip route show dev vxlan.calico": "via",
    "./lab exec node1 -- ip neigh show dev vxlan.calico": "PERMANENT",
    "./lab exec node1 -- bridge fdb show dev vxlan.calico": "dst 172.171.5.96",
    "./lab exec node1 -- ip -d link show vxlan.calico": "vxlan id 4096",
    "./lab exec node1 -- iptables-legacy-save -t filter": "FORWARD",
    "./lab exec node1 -- calicoctl get nodes -o wide": "node2",
    "./lab exec node1 -- calicoctl get ippool -o wide": "default-ipv4-ippool",
    "./lab exec node1 -- calicoctl ipam show --show-blocks": "Block",
    "./lab exec node1 -- calicoctl ipam show --show-configuration": "StrictAffinity",
    "./lab exec node1 -- calicoctl ipam check": "0",
    "./lab exec store -- etcdctl get --prefix --keys-only /calico": "/calico/",
}
# Pattern, the file whose tests type the like, what keeps it from being typed here.
ELSEWHERE = (
    (r"git clone |\./lab test|mkdir /tmp/faulty", "tests/command/test_bootstrap.py", "needs a checkout of its own"),
    (r"source <\(\./lab completion", "tests/command/test_menu.py", "a shell's own"),
    (r"sudo ", "tests/lab/test_script.py", "for root, in the machine's own namespaces"),
    (r"(mkdir -p|mount -t proc proc) /mnt/proc ", "tests/docs/test_docs.py", "for a container's root"),
    (r"\./lab plan tests/golden/errors/", "tests/command/test_wrong_lines.py", "a mistake, shown with its message"),
    (r"\.venv/bin/python -m tests\.browser", "tests/browser/test_watch.py", "needs a browser"),
    (r"\.venv/bin/python -m tunlab\.report\.catalogue", "tests/docs/test_docs.py", "writes into the checkout"),
    (r"(\w+=\w+ )?\./lab conform |ls captures/", "tests/check/test_verdicts_end_to_end.py", "a minute and more"),
    (r"\./lab open", "tests/report/test_serve.py", "goes on until Ctrl-C"),
    (r"\./lab mutants", "tests/command/test_mutants.py", "minutes"),
    (r"\./lab flake", "tests/command/test_flake.py", "minutes"),
    (r"\./lab compare", "tests/compare/test_compare.py", "a minute and more"),
    (r"\./lab watch", "tests/watch/test_live.py", "goes on until Ctrl-C"),
    (r"\./lab capture", "tests/live/test_inside.py", "goes on until Ctrl-C"),
    (r"\./lab shell", "tests/live/test_inside.py", "wants a terminal"),
    (r"\./lab trace", "tests/trace/test_trace.py", "in a lab with more than two pods"),
    (r"\./lab lesson ", "tests/contract/test_lessons.py", "stands up a lab of its own"),
    (r"\./lab (exercise|check|class)\b|.*--lab exercise", "tests/live/test_class.py", "stands up a lab of its own"),
    (r"\./lab (up|down)\b", "tests/live/test_endings.py", "other labs; what stands here is built step by step"),
    (r"\./lab exec \S+ -- (vtysh|gobgp|sh -c 'curl -s localhost:2379)", "suites/test_bgp.py", "another lab"),
    (r"\./lab exec \S+ -- (ip -6|ip route)|\./lab ping", "suites/test_ipv6.py", "another lab"),
    (r"\./lab exec node\d -- (sh -c 'ip addr|ip link set|curl )", "suites/test_life.py", "changes, or waits"),
    (r"\./lab exec node\d -- calicoctl (apply|patch|node|ipam (configure|check -o|release|show --show-borrowed))",
     "tests/refnet/ctl", "changes the lab, or wants BGP"),
    (r"\./lab exec node1 -- (sh -c 'calicoctl|iptables-legacy -t nat)", "suites/test_policy.py", "wants manifests"),
)  # fmt: skip


def commands(page: Path) -> list[str]:
    """Every command of a page's console and sh blocks, without a comment behind it."""
    found = []
    for kind, body in FENCE.findall(page.read_text()):
        lines = [line.removeprefix("$ ") for line in body.splitlines() if kind == "sh" or line.startswith("$ ")]
        found += [re.sub(r"\s+# .*$", "", line) for line in lines]
    return found


SHOWN = {line: page.name for page in PAGES for line in commands(page)}
STEPS = [
    line for line in commands(ROOT / "docs" / "labs.md") if re.match(r"\./lab (build|install|launch|status|down)", line)
]


def elsewhere(line: str) -> list[str]:
    return [pattern for pattern, _, _ in ELSEWHERE if re.match(pattern, line)]


def test_every_command_on_a_page_is_typed_here_or_covered_by_a_test_that_is_named() -> None:
    here = {PING, *ALONE, *INSIDE, *STEPS}
    assert here <= set(SHOWN), "a command that no page shows any more"
    assert {line: page for line, page in SHOWN.items() if line not in here and not elsewhere(line)} == {}
    used = {pattern for line in SHOWN for pattern in elsewhere(line) if line not in here}
    assert [pattern for pattern, _, _ in ELSEWHERE if pattern not in used] == []
    assert [file for _, file, _ in ELSEWHERE if not (ROOT / file).exists()] == []


def type_it(user: User, line: str) -> Said:
    words = shlex.split(line.partition(" > ")[0])
    assert words[0] == "./lab"
    return user.types(*words[1:], within_s=300.0)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    somebody = User(tmp_path)
    yield somebody
    somebody.types("down", "--all")


def test_what_a_page_shows_does_what_it_says(user: User) -> None:
    with ThreadPoolExecutor(2) as several:
        for line, said in zip(ALONE, several.map(lambda line: type_it(user, line), ALONE), strict=True):
            assert said.code == 0 and said.out, (line, said)
        *steps, status, down = STEPS
        assert [line.split()[1] for line in steps] == ["build", "install", "launch", "launch"]
        for line in (*steps, PING):  # which lets pod1 learn its neighbour
            said = type_it(user, line)
            assert said.code == 0, (line, said)
        for line, said in zip(INSIDE, several.map(lambda line: type_it(user, line), INSIDE), strict=True):
            assert said.code == 0 and INSIDE[line] in said.out, (line, said)
        assert "pod3" in type_it(user, status).out
        assert type_it(user, down).code == 0
