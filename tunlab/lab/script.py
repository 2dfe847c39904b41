"""Plan → a shell script that root can run where there is no tunlab: it makes the lab, and `undo` takes it away."""

from __future__ import annotations

import shlex

from tunlab.lab.plan import Step, make_plan
from tunlab.lab.topology import Topology

# The mark by which `undo` knows its own: a namespace of the same name that somebody else made is left alone.
MARK = "tunlab-plan"

HEAD = """\
#!/bin/sh
# {title}
# The lab {lab} of tunlab, as commands for root. Its network namespaces are named {prefix}NAME.
# Pods are not part of it: a CNI plugin makes those.
#
#   sh FILE         make the lab; refuses where one of its namespaces exists already
#   sh FILE undo    take away exactly what it made
#   sh FILE -h      this text
set -eu

usage='usage: sh FILE [undo | -h]
  (nothing)  make the lab {lab}: network namespaces {prefix}NAME
  undo       take away exactly what it made
  -h         this text'
mark={mark}
namespaces='
{namespaces}'

refuse() {{
    echo "$1" >&2
    exit 2
}}

own() {{
    [ -e "/run/netns/$1" ] && ip -n "$1" link show dev lo 2>/dev/null | grep -q "alias $mark\\$"
}}

undo() {{
    for name in $namespaces; do
        if own "$name"; then ip netns delete "$name"; fi
    done
}}

add() {{
    ip netns add "$1"
    ip -n "$1" link set dev lo alias "$mark"
}}

case "${{1-make}}" in
    make | undo) [ $# -le 1 ] || refuse "$usage" ;;
    -h | --help) echo "$usage"; exit 0 ;;
    *) refuse "$usage" ;;
esac
[ "$(id -u)" = 0 ] || refuse "only root may make network namespaces: use sudo"
for tool in ip ethtool sysctl; do
    command -v "$tool" >/dev/null || refuse "$tool: not found; Debian: apt-get install iproute2 ethtool procps"
done
if [ "${{1-make}}" = undo ]; then
    undo
    exit 0
fi
for name in $namespaces; do
    [ ! -e "/run/netns/$name" ] || refuse "network namespace $name exists already: nothing was changed"
done
# Half a lab is no lab: when a line below is refused, what the others made goes again.
trap 'undo; echo "the lab was not made" >&2; exit 2' EXIT
trap 'exit 2' HUP INT TERM
"""

TAIL = """
trap - EXIT
echo "the lab {lab} stands; for instance: ip netns exec {example} ip address"
"""


def write_script(lab: Topology, *, prefix: str | None = None) -> str:
    """The script. Each namespace is named `prefix` + its name in the lab; by default `tl-LAB-`."""
    prefix = f"tl-{lab.name}-" if prefix is None else prefix
    plan = make_plan(lab, prefix=prefix)
    title = " ".join(lab.description.split())
    head = HEAD.format(
        title=title,
        lab=lab.name,
        prefix=prefix,
        mark=shlex.quote(f"{MARK}:{lab.name}"),
        namespaces="\n".join(plan.namespaces),
    )
    lines: list[str] = []
    last: str | None = ""
    for step in plan.steps:
        if step.namespace != last:
            lines += ["", f"# {step.namespace or 'namespaces and links'}"]
            last = step.namespace
        lines.append(_line(step))
    return head + "\n".join(lines) + "\n" + TAIL.format(lab=lab.name, example=plan.hosts[0])


def _line(step: Step) -> str:
    tool, rest = step.command.split(" ", 1)
    if step.namespace is None:
        return f"add {rest.removeprefix('netns add ')}" if rest.startswith("netns add ") else step.command
    if tool in ("ip", "bridge"):
        return f"{tool} -n {step.namespace} {rest}"
    # ethtool tells on stdout what changed with what; its refusals go to stderr.
    silent = " >/dev/null" if tool == "ethtool" else ""
    return f"ip netns exec {step.namespace} {step.command}{silent}"
