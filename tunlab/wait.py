"""Waiting is looking: the only module that may sleep. Every wait has a deadline and says what it last saw."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

from tunlab.errors import LabError, SystemFault, TunlabError, WorldError

T = TypeVar("T")
Blame = Literal["system", "lab"]
FACTOR_VARIABLE = "TUNLAB_TIME_FACTOR"
# "no": nobody wants to know late from never, so nobody looks on after a deadline, nor has the system's stretched far.
LATE_VARIABLE = "TUNLAB_LATE"
WAITS_VARIABLE = "TUNLAB_WAITS"  # a file that takes one JSON line per wait, for whoever looks for slow ones
_LONGEST_SEEN = 300


class NeverHappened(TunlabError):
    """It did not come in time: `last` was seen last; `came_after_s` says how late it came, if it did."""

    def __init__(self, message: str, *, last: object, came_after_s: float | None = None) -> None:
        super().__init__(message)
        self.last = last
        self.came_after_s = came_after_s


class SystemNeverDid(NeverHappened, SystemFault):
    """The system under test did not do it in time."""


class LabNeverDid(NeverHappened, WorldError):
    """The lab or a tool did not do it in time; that says nothing about the system."""


class Clock(Protocol):
    """Where time comes from; a test brings its own."""

    def now(self) -> float:
        """Seconds, from any start, never going back."""

    def sleep(self, seconds: float) -> None:
        """Let that much time pass."""


class MonotonicClock:
    """The machine's own."""

    def now(self) -> float:
        """Seconds since some start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep. Nothing else in the program does."""
        time.sleep(seconds)


CLOCK: Clock = MonotonicClock()
_MOST_STRETCH_IN_A_HURRY = 5.0
_SELDOM = 0.1  # of the time that something has been looked for: the next pause


def time_factor() -> float:
    """By how much every deadline and window is stretched, from the environment; 1 without it. Raises LabError."""
    text = os.environ.get(FACTOR_VARIABLE, "1")
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor <= 1000:
        raise LabError(
            f"{FACTOR_VARIABLE}: {text!r} is no time factor", hint="a number above 0, at most 1000; usually 1"
        )
    return factor


def eventually(
    look: Callable[[], T],
    is_right: Callable[[T], object],
    *,
    within_s: float,
    every_s: float = 0.05,
    what: str,
    late_s: float | None = None,
    in_a_row: int = 1,
    blame: Blame = "system",
    slowness: Callable[[], float] | None = None,
    clock: Clock = CLOCK,
) -> T:
    """Look until `is_right` holds `in_a_row` times; return what was seen then.

    `is_right` says yes by being true, no by being false or by an AssertionError, whose text is told at the end. After
    `within_s` it looks on for `late_s` (half as long again, at most 3 s), so that late and never read differently:
    both raise NeverHappened (of the system's or the lab's kind). What `look` raises goes to the caller.
    It came late if a look that began at the deadline or after it still saw it wrong: what changed between two looks
    may have come in time, however far apart slow looks are.
    Until the deadline it looks the more seldom the longer it takes; between two looks it rests as long as one took.
    `slowness` measures by how much the place is slower than it should be; it is asked once, when the deadline is over,
    and stretches that: what nobody could have done in time is not late.
    """
    if in_a_row < 1 or within_s < 0:
        raise ValueError(f"in_a_row={in_a_row}, within_s={within_s}")
    factor = time_factor()
    deadline_s = within_s * factor
    late_s = (_late_s(within_s) if late_s is None else late_s) * factor
    start = clock.now()
    run, first_s, wrong_s = 0, 0.0, -1.0
    while True:
        looked_s = clock.now() - start
        if slowness is not None and looked_s > deadline_s:
            deadline_s, slowness = deadline_s * _stretch(slowness(), blame), None
        seen = look()
        why = _wrong(is_right, seen)
        if why is None:
            run, first_s = run + 1, looked_s if run == 0 else first_s
            # In time is a run that began in time: the looks themselves may take long.
            if run >= in_a_row:
                told_s = round(deadline_s, 2)
                _note(what, first_s, deadline_s)
                if wrong_s < deadline_s:
                    return seen
                raise _never(
                    blame,
                    f"{what}: came late, after {first_s:.2f} s, wanted within {told_s:g} s",
                    seen,
                    first_s,
                )
        else:
            run, wrong_s = 0, looked_s
        is_late = wrong_s >= deadline_s
        is_over = clock.now() - start >= deadline_s + late_s and (is_late or late_s == 0)
        if slowness is None and is_over and not (run and not is_late):
            shown, told_s = f"{why}; " if why else "", round(deadline_s, 2)
            _note(what, None, deadline_s)
            raise _never(blame, f"{what}: not within {told_s:g} s; {shown}last seen: {_short(seen)}", seen, None)
        clock.sleep(every_s if run else _pause_s(every_s, looked_s, clock.now() - start, deadline_s))


def _pause_s(every_s: float, looked_s: float, gone_s: float, deadline_s: float) -> float:
    """What has not come for a while is looked for less often, for a look may cost; after the deadline as asked.

    Nor does a look that takes long keep busy what is waited for: it rests as long as it took.
    """
    took_s = gone_s - looked_s
    next_s = min(max(looked_s + _SELDOM * gone_s, gone_s + took_s), deadline_s)
    return max(every_s, next_s - gone_s)


def _late_s(within_s: float) -> float:
    return 0.0 if _is_in_a_hurry() else min(3.0, max(0.5, within_s / 2))


def _stretch(slowness: float, blame: Blame) -> float:
    hurries = _is_in_a_hurry() and blame == "system"
    return max(1.0, min(slowness, _MOST_STRETCH_IN_A_HURRY) if hurries else slowness)


def _is_in_a_hurry() -> bool:
    return os.environ.get(LATE_VARIABLE) == "no"


def steadily(
    look: Callable[[], T],
    is_right: Callable[[T], object],
    *,
    for_s: float,
    every_s: float = 0.05,
    what: str,
    blame: Blame = "system",
    clock: Clock = CLOCK,
) -> T:
    """Look throughout a window, both ends included; return the last seen. Raises NeverHappened at the first no."""
    window_s = for_s * time_factor()
    start = clock.now()
    while True:
        looked_s = clock.now() - start
        seen = look()
        why = _wrong(is_right, seen)
        if why is not None:
            shown = f"{why}; " if why else ""
            raise _never(
                blame,
                f"{what}: held for {looked_s:.2f} s, wanted {window_s:g} s; {shown}then seen: {_short(seen)}",
                seen,
                None,
            )
        if looked_s >= window_s:
            return seen
        clock.sleep(min(every_s, max(0.0, window_s - (clock.now() - start))))


def _note(what: str, took_s: float | None, deadline_s: float) -> None:
    """Put a wait's end down where somebody asked for that; None: it never came."""
    path = os.environ.get(WAITS_VARIABLE)
    if path:
        took = None if took_s is None else round(took_s, 3)
        line = json.dumps({"what": what, "seconds": took, "within_s": deadline_s}) + "\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, line.encode())  # in one go: several processes write
        finally:
            os.close(descriptor)


def _wrong(is_right: Callable[[T], object], seen: T) -> str | None:
    """None if right, else why not ("" if nobody said)."""
    try:
        return None if is_right(seen) else ""
    except AssertionError as error:
        return str(error).split("\n", 1)[0] or "it did not hold"


def _never(blame: Blame, message: str, last: object, came_after_s: float | None) -> NeverHappened:
    kind = SystemNeverDid if blame == "system" else LabNeverDid
    return kind(message, last=last, came_after_s=came_after_s)


def _short(seen: object) -> str:
    text = " ".join((seen if isinstance(seen, str) else repr(seen)).split())
    return text if len(text) <= _LONGEST_SEEN else f"{text[:_LONGEST_SEEN]}… ({len(text)} characters)"
