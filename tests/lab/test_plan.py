"""A plan is text: it is compared with golden files, and every line of it obeys the few forms that builders know."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest

from tunlab.lab.build import batches, build
from tunlab.lab.load import lab_names, load_lab
from tunlab.lab.plan import Plan, make_plan

GOLDEN = Path(__file__).parents[1] / "golden" / "plan"


@pytest.fixture(params=lab_names())
def plan(request: pytest.FixtureRequest) -> Plan:
    return make_plan(load_lab(str(request.param)))


@pytest.mark.parametrize("name", ["same-subnet", "mixed", "outside"])
def test_the_plan_of_a_lab_is_the_golden_one(name: str) -> None:
    text = "".join(f"{step}\n" for step in make_plan(load_lab(name)).steps)
    assert text == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_every_step_is_one_line_for_one_tool_and_names_no_namespace_but_at_the_top(plan: Plan) -> None:
    for step in plan.steps:
        assert re.match(r"^(ip|bridge|sysctl -qw|ethtool -K) [^\n;&|<>$'\"`]+$", step.command)
        assert "netns exec" not in step.command
        assert (step.namespace is None) == (" netns " in step.command)


def test_the_steps_of_a_namespace_stand_in_one_row_and_every_namespace_has_some(plan: Plan) -> None:
    assert tuple(name for name, _ in groupby(step.namespace for step in plan.steps)) == (None, *plan.namespaces)


def test_each_end_of_each_link_loses_its_offloads(plan: Plan) -> None:
    made = [step.command.split() for step in plan.steps if step.command.startswith("ip link add eth")]
    ends = [end for words in made for end in ((words[5], words[3]), (words[16], words[14]))]
    off = [(step.namespace, step.command.split()[2]) for step in plan.steps if step.command.startswith("ethtool")]
    assert sorted(ends) == sorted((str(name), device) for name, device in off)


def test_a_prefix_renames_namespaces_and_nothing_else(plan: Plan) -> None:
    lab = load_lab(plan.lab)
    prefixed = make_plan(lab, prefix="x-")
    assert prefixed.namespaces == tuple(f"x-{name}" for name in plan.namespaces)
    assert prefixed.hosts == tuple(f"x-{name}" for name in plan.hosts)
    bare = [
        (step.namespace and step.namespace[2:], re.sub(r"(netns (?:add )?)x-", r"\1", step.command))
        for step in prefixed.steps
    ]
    assert bare == [(step.namespace, step.command) for step in plan.steps]


def test_batches_hold_every_step_once_and_in_order_with_one_ip_process_each(plan: Plan) -> None:
    for batch in batches(plan):
        mine = [step.command for step in plan.steps if step.namespace == batch.namespace]
        heredoc = batch.script.partition("<<'END'\n")[2].partition("\nEND\n")[0].splitlines()
        assert batch.script.count("ip -batch -") == 1
        assert [f"ip {line}" for line in heredoc] == [line for line in mine if line.startswith("ip ")]
        settings = [word for line in mine if line.startswith("sysctl") for word in line.split() if "=" in word]
        written = re.findall(r"echo (\S+) >/proc/sys/(\S+)", batch.script)
        assert sorted(settings) == sorted(f"{file.replace('/', '.')}={value}" for value, file in written)
        assert "sysctl" not in batch.script


def test_namespaces_that_exist_already_are_not_added_again(plan: Plan) -> None:
    ran: list[tuple[str, str]] = []
    build(plan, lambda place, script: ran.append((place, script)), existing=plan.namespaces)
    assert [place for place, _ in ran] == ["box", *plan.namespaces]
    assert "netns add" not in ran[0][1]
    assert ran[1:] == [(str(batch.namespace), batch.script) for batch in batches(plan)[1:]]
