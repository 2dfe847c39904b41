"""The four verdicts, who is to blame for an exception, and the row that a judged requirement leaves in the results."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from tunlab.errors import SystemFault, TunlabError


class Verdict(StrEnum):
    """What is known about one requirement after it was (or could not be) looked at."""

    PASSED = "passed"
    FAILED = "failed"
    BROKEN = "broken"
    NOT_OFFERED = "not_offered"

    @property
    def words(self) -> str:
        """For people."""
        return self.value.replace("_", " ")


class NotOffered(TunlabError):
    """The system says beforehand that it does not offer this; neither its fault nor the lab's."""


# When a test says several things (its body, its evidence, its tidying up), the one that weighs most counts: what is
# broken proves nothing, not even a failure.
_WEIGHT = {Verdict.PASSED: 0, Verdict.NOT_OFFERED: 1, Verdict.FAILED: 2, Verdict.BROKEN: 3}


def worst(*verdicts: Verdict) -> Verdict:
    """The verdict that weighs most."""
    return max(verdicts, key=lambda verdict: _WEIGHT[verdict])


def judge(exception: BaseException | None) -> tuple[Verdict, str]:
    """Whose fault an exception is, and its text: the system's, or nobody's (then the lab or a tool is broken).

    AssertionError (Mismatch included) and SystemFault accuse the system. An assertion that fails inside the standard
    library or an installed package is that tool's own, so it accuses nobody.
    """
    if exception is None:
        return Verdict.PASSED, ""
    if isinstance(exception, NotOffered):
        return Verdict.NOT_OFFERED, str(exception)
    if isinstance(exception, SystemFault):
        return Verdict.FAILED, str(exception)
    if isinstance(exception, AssertionError):
        where = _frame_of(exception)
        if not _is_installed(where):
            return Verdict.FAILED, str(exception) or f"an assertion without words at {where}"
        return Verdict.BROKEN, f"an assertion of a tool's own at {where}: {exception}"
    if isinstance(exception, TunlabError):
        return Verdict.BROKEN, str(exception)
    return Verdict.BROKEN, f"{type(exception).__name__}: {exception} (at {_frame_of(exception)})"


def _frame_of(exception: BaseException) -> str:
    frames = traceback.extract_tb(exception.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"


def _is_installed(where: str) -> bool:
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(where.startswith(f"{folder}/") for folder in folders)


@dataclass(frozen=True, order=True)
class Key:
    """What makes a row unique."""

    id: str
    lab: str
    mode: str

    def __str__(self) -> str:
        return f"{self.id} {self.lab}-{self.mode}"


@dataclass(frozen=True)
class Row:
    """One requirement in one lab and mode; `evidence` are paths below the run's folder, `seconds` the test's own."""

    id: str
    title: str
    level: str
    lab: str
    mode: str
    verdict: Verdict
    seconds: float
    evidence: tuple[str, ...] = ()
    reason: str = ""

    @property
    def key(self) -> Key:
        """What makes it unique."""
        return Key(self.id, self.lab, self.mode)

    def to_json(self) -> dict[str, Any]:
        """As it stands in results.json."""
        return {**asdict(self), "verdict": self.verdict.value, "evidence": list(self.evidence)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """Back from results.json."""
        return cls(**{**data, "verdict": Verdict(data["verdict"]), "evidence": tuple(data["evidence"])})
