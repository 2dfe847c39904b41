"""Making sets and rules right: read what is ours, find the difference, feed it to `ipset` and `iptables` at once each.

Order matters: sets come before the rules that refer to them, and go after those have gone. A table changes in one step
of the kernel's: no packet sees half of it. Nothing is written where all is as it should be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from refnet.apply.read import Run
from refnet.calc.policy.filtering import AddressSet, Filtering
from refnet.errors import KernelRefused
from refnet.render.chains import Table
from refnet.render.ipset import OURS, leftover_lines, set_lines
from refnet.render.iptables import tables
from refnet.render.restore import Present, parse_save, restore_text

_TOOL = {4: "iptables-legacy", 6: "ip6tables-legacy"}
_LOCK_WAIT_S = "5"

Ours = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Filtered:
    """What came of it: why the rules are not as wanted, "" if they are; and the lines that were written."""

    reason: str = ""
    lines: tuple[str, ...] = ()


class Filter:
    """One node's sets and rules, of both families."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._done: dict[int, Filtering] = {}
        # How the kernel shows our rules of each table: it words them in its own way, so we ask it once they are right.
        self._believed: dict[tuple[int, str], Ours] = {}

    def bring_about(self, wanted: Sequence[Filtering], *, is_stale: bool) -> Filtered:
        """Make the kernel right for each family. Unless `is_stale` asks for a look, only news are acted upon."""
        todo = [want for want in wanted if is_stale or self._done.get(want.version) != want]
        lines: list[str] = []
        try:
            for want in todo:
                self._done.pop(want.version, None)
                self._bring_about(want, lines)
                self._done[want.version] = want
        except KernelRefused as error:
            return Filtered(error.message, tuple(lines))
        except FileNotFoundError as error:
            return Filtered(f"kernel: {error.filename}: not found on PATH: policy cannot be enforced", tuple(lines))
        return Filtered("", tuple(lines))

    def _bring_about(self, want: Filtering, lines: list[str]) -> None:
        have_sets = self._read_sets() if want.sets or self._may_have_sets(want.version) else {}
        self._restore_sets(list(set_lines(want.sets, have_sets)), lines)
        self._restore_tables(want.version, tables(want), lines)
        self._restore_sets(list(leftover_lines(want.sets, have_sets, want.version)), lines)

    def _may_have_sets(self, version: int) -> bool:
        """Whether there may be sets of ours, of this agent or of one before it."""
        before = self._done.get(version)
        return before is None or bool(before.sets)

    def _restore_tables(self, version: int, want: Mapping[str, Table], lines: list[str]) -> None:
        have = self._save(version)
        text = self._text(version, want, have, self._believed)
        if text:
            self._ask([f"{_TOOL[version]}-restore", "--noflush", "-w", _LOCK_WAIT_S], text)
            lines += [line for line in text.splitlines() if line[:1] != ":"]
            have = self._save(version)
            if self._text(version, want, have, {}):
                raise KernelRefused(f"{_TOOL[version]}: the rules differ again from what was just written")
        for name, present in have.items():
            self._believed[version, name] = present.ours()

    def _text(
        self,
        version: int,
        want: Mapping[str, Table],
        have: Mapping[str, Present],
        believed: Mapping[tuple[int, str], Ours],
    ) -> str:
        return "".join(
            restore_text(name, table, have.get(name, Present()), believed.get((version, name)))
            for name, table in want.items()
        )

    def _save(self, version: int) -> Mapping[str, Present]:
        """All tables that are there. Like: iptables-save"""
        return parse_save(self._ask([f"{_TOOL[version]}-save"]))

    def _read_sets(self) -> Mapping[str, AddressSet]:
        """Our sets as the kernel has them. Like: ipset save"""
        kinds: dict[str, str] = {}
        members: dict[str, set[str]] = {}
        for line in self._ask(["ipset", "save"]).splitlines():
            word, name, *rest = line.split(" ")
            if not name.startswith(OURS):
                continue
            if word == "create":
                kinds[name] = rest[0]
            else:
                members.setdefault(name, set()).add(rest[0])
        return {name: AddressSet(kind, frozenset(members.get(name, ()))) for name, kind in kinds.items()}

    def _restore_sets(self, todo: Iterable[str], lines: list[str]) -> None:
        """Like: ipset restore"""
        text = "".join(f"{line}\n" for line in todo)
        if text:
            self._ask(["ipset", "restore"], text)
            lines += text.splitlines()

    def _ask(self, argv: Sequence[str], stdin: str = "") -> str:
        finished = self._run(argv, stdin)
        if finished.code:
            said = " ".join(finished.err.split()) or f"exit code {finished.code}"
            raise KernelRefused(f"kernel: {' '.join(argv)}: {said}")
        return finished.out
