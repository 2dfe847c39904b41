"""Plan → batches: one shell text per namespace, in which each kernel tool starts as seldom as it can."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import groupby

from tunlab.lab.plan import Plan, Step

BOX = "box"
BATCHED = ("ip", "bridge")


@dataclass(frozen=True, slots=True)
class Batch:
    """What one shell does in one namespace; None is the namespace that holds them all."""

    namespace: str | None
    script: str


def batches(plan: Plan, *, existing: Collection[str] = ()) -> list[Batch]:
    """The plan as few processes, in an order that works. Namespaces that are `existing` already are not added again."""
    added = {f"ip netns add {name}" for name in existing}
    steps = [step for step in plan.steps if not (step.namespace is None and step.command in added)]
    return [
        Batch(namespace, _script(step.command for step in group)) for namespace, group in groupby(steps, key=_namespace)
    ]


def build(plan: Plan, run: Callable[[str, str], None], *, existing: Collection[str] = ()) -> None:
    """Make the lab: `run(place, script)` once per batch, in order, each a text for `sh -eu`; "box" is outside them all.

    The batches after the first touch a namespace each and may run side by side, should `run` wish to return early.
    """
    for batch in batches(plan, existing=existing):
        run(BOX if batch.namespace is None else batch.namespace, batch.script)


def _namespace(step: Step) -> str | None:
    return step.namespace


def _script(commands: Iterable[str]) -> str:
    return "".join(_merged(tool, list(lines)) for tool, lines in groupby(commands, key=_tool))


def _tool(command: str) -> str:
    """What commands in a row must share to become one process: the program, and for sysctl its options too."""
    words = command.split()
    if words[0] == "sysctl":
        return " ".join(word for word in words if "=" not in word)
    # ethtool sets one device per call.
    return words[0] if words[0] in BATCHED else command


def _merged(tool: str, lines: list[str]) -> str:
    if tool in BATCHED:
        rest = "\n".join(line.removeprefix(f"{tool} ") for line in lines)
        return f"{tool} -batch - <<'END'\n{rest}\nEND\n"
    if tool.startswith("ethtool "):
        # It tells on stdout what changed with what; its refusals go to stderr.
        return "".join(f"{line} >/dev/null\n" for line in lines)
    return "".join(_written(line) for line in lines)


def _written(sysctl: str) -> str:
    """Settings as `sysctl` makes them: lines into files, without a process. `-e`: where there is such a file."""
    words = sysctl.split()[1:]
    text = ""
    for key, _, value in (word.partition("=") for word in words if "=" in word):
        file = f"/proc/sys/{key.replace('.', '/')}"
        text += f"[ ! -e {file} ] || echo {value} >{file}\n" if "-e" in words else f"echo {value} >{file}\n"
    return text
