"""Waiting is looking: deadlines, late and never, runs of three, windows; on a clock that only moves when slept on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from tunlab.check.verdict import judge
from tunlab.errors import LabError
from tunlab.wait import LabNeverDid, NeverHappened, SystemNeverDid, eventually, steadily


class FakeClock:
    """Time passes by sleeping alone."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.time += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def at(clock: FakeClock, *changes: tuple[float, str]) -> Callable[[], str]:
    """What is seen after so many seconds."""
    start = clock.now()
    return lambda: [value for since, value in changes if clock.now() - start >= since - 1e-9][-1]


def test_what_is_right_at_once_takes_no_time(clock: FakeClock) -> None:
    assert eventually(lambda: 7, lambda n: n == 7, within_s=0, what="seven", clock=clock) == 7
    assert clock.time == 100.0


def test_never_says_what_was_seen_last(clock: FakeClock) -> None:
    with pytest.raises(SystemNeverDid, match=r"^the route: not within 5 s; last seen: \['10\.0\.0\.0/26'\]$") as caught:
        eventually(lambda: ["10.0.0.0/26"], lambda r: "x" in r, within_s=5, what="the route", clock=clock)
    assert (caught.value.last, caught.value.came_after_s) == (["10.0.0.0/26"], None)
    assert 107 < clock.time < 108, "it looked half as long again"


def test_what_takes_long_is_looked_for_less_often_but_at_the_deadline(clock: FakeClock) -> None:
    looked: list[float] = []

    def look() -> bool:
        looked.append(round(clock.time - 100, 2))
        return False

    with pytest.raises(NeverHappened):
        eventually(look, bool, within_s=40, every_s=0.1, late_s=0, what="it", clock=clock)
    assert looked[:4] == [0, 0.1, 0.2, 0.3] and len(looked) < 60
    assert max(later - sooner for sooner, later in pairwise(looked)) < 4.1
    assert looked[-1] == 40


def test_a_run_is_looked_at_as_often_as_asked(clock: FakeClock) -> None:
    look = at(clock, (0, "n"), (20, "y"))
    eventually(look, lambda seen: seen == "y", within_s=40, every_s=0.1, in_a_row=9, what="it", clock=clock)
    assert clock.time - 100 < 20 + 2 + 9 * 0.1 + 0.1


def test_late_reads_differently_from_never(clock: FakeClock) -> None:
    look = at(clock, (0, "no"), (2.5, "yes"))
    with pytest.raises(NeverHappened, match=r"^the route: came late, after 2\.50 s, wanted within 2 s$") as caught:
        eventually(look, lambda seen: seen == "yes", within_s=2, every_s=0.5, what="the route", clock=clock)
    assert caught.value.came_after_s == 2.5


def test_who_does_not_want_to_know_late_from_never_waits_no_longer_than_it_must(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNLAB_LATE", "no")
    see = at(clock, (0, "nothing"), (2.5, "a route"))
    with pytest.raises(NeverHappened, match=r"^the route: not within 2 s; last seen: nothing$"):
        eventually(see, lambda seen: seen == "a route", within_s=2, what="the route", clock=clock)
    assert clock.now() - 100.0 == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(
    ("blame", "kind", "verdict"), [("system", SystemNeverDid, "failed"), ("lab", LabNeverDid, "broken")]
)
def test_the_blame_is_the_callers_to_say(clock: FakeClock, blame: str, kind: type[Exception], verdict: str) -> None:
    with pytest.raises(kind) as caught:
        eventually(lambda: 0, bool, within_s=1, what="it", blame=blame, clock=clock)  # type: ignore[arg-type]
    assert judge(caught.value)[0] == verdict


def test_an_assertion_is_a_no_with_a_reason(clock: FakeClock) -> None:
    def is_right(seen: int) -> bool:
        assert seen > 3, "too few routes\nand more"
        return True

    with pytest.raises(NeverHappened, match=r"^it: not within 1 s; too few routes; last seen: 3$"):
        eventually(lambda: 3, is_right, within_s=1, what="it", clock=clock)


def test_what_looking_raises_is_not_waited_away(clock: FakeClock) -> None:
    with pytest.raises(ZeroDivisionError):
        eventually(lambda: 1 // 0, bool, within_s=1, what="it", clock=clock)


def test_three_in_a_row_begins_again_after_each_no(clock: FakeClock) -> None:
    seen = iter("yynyynyyy")
    assert eventually(lambda: next(seen), lambda s: s == "y", within_s=9, in_a_row=3, what="it", clock=clock) == "y"
    assert next(seen, "end") == "end"


def test_a_run_that_began_in_time_may_end_after_the_deadline(clock: FakeClock) -> None:
    look = at(clock, (0, "n"), (1, "y"))
    assert eventually(look, lambda s: s == "y", within_s=1, every_s=0.5, in_a_row=9, what="it", clock=clock) == "y"


@pytest.mark.parametrize(("comes_s", "is_late"), [(3.5, False), (5.9, False), (6.1, True)])
def test_what_came_between_two_slow_looks_may_have_come_in_time(
    clock: FakeClock, comes_s: float, is_late: bool
) -> None:
    see = at(clock, (0, "n"), (comes_s, "y"))

    def look() -> str:
        seen = see()
        clock.sleep(6.0)  # looks begin at 0, 6 and 12 s
        return seen

    def wait() -> str:
        return eventually(look, lambda s: s == "y", within_s=5, every_s=0, what="it", clock=clock)

    if is_late:
        with pytest.raises(NeverHappened, match=r"^it: not within 5 s; last seen: n$"):
            wait()
    else:
        assert wait() == "y"


def test_it_rests_as_long_as_a_look_takes_and_looks_at_the_deadline(clock: FakeClock) -> None:
    begun: list[float] = []

    def look() -> str:
        begun.append(round(clock.now(), 2))
        clock.sleep(2.0)
        return "n"

    with pytest.raises(NeverHappened):
        eventually(look, lambda s: s == "y", within_s=7, every_s=0.1, late_s=0.0, what="it", clock=clock)
    assert begun == [100.0, 104.0, 107.0]


def test_the_time_factor_stretches_deadlines(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNLAB_TIME_FACTOR", "3")
    look = at(clock, (0, "n"), (2.5, "y"))
    assert eventually(look, lambda s: s == "y", within_s=1, what="it", clock=clock) == "y"


def test_a_slow_place_has_as_much_longer_and_is_measured_once_and_only_at_the_deadline(clock: FakeClock) -> None:
    measured: list[float] = []

    def three_times_as_slow() -> float:
        measured.append(clock.now() - 100)
        return 3.0

    def wait(answer_s: float) -> str:
        look = at(clock, (0, "n"), (answer_s, "y"))
        return eventually(
            look, lambda s: s == "y", within_s=2, every_s=0.5, what="it", slowness=three_times_as_slow, clock=clock
        )

    assert wait(2) == "y"
    assert measured == []
    assert wait(5) == "y"
    assert measured == [pytest.approx(2 + 2.5)]
    with pytest.raises(NeverHappened, match=r"^it: came late, after 6\.50 s, wanted within 6 s$"):
        wait(6.5)


def test_who_is_in_a_hurry_stretches_less_and_does_not_look_on(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNLAB_LATE", "no")
    look = at(clock, (0, "n"), (9.9, "y"))
    assert eventually(look, lambda s: s == "y", within_s=2, what="it", slowness=lambda: 9.0, clock=clock) == "y"
    with pytest.raises(NeverHappened, match=r"^it: not within 10 s; last seen: n$"):
        eventually(lambda: "n", lambda s: s == "y", within_s=2, what="it", slowness=lambda: 9.0, clock=clock)
    with pytest.raises(NeverHappened, match=r"^it: not within 18 s; last seen: n$"):
        eventually(
            lambda: "n", lambda s: s == "y", within_s=2, what="it", blame="lab", slowness=lambda: 9.0, clock=clock
        )


def test_a_quick_place_has_no_less(clock: FakeClock) -> None:
    with pytest.raises(NeverHappened, match=r"^it: not within 2 s; last seen: n$"):
        eventually(lambda: "n", lambda s: s == "y", within_s=2, what="it", slowness=lambda: 0.1, clock=clock)


@pytest.mark.parametrize("text", ["", "fast", "0", "-1", "nan", "inf"])
def test_a_wrong_time_factor_is_the_callers_mistake(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TUNLAB_TIME_FACTOR", text)
    with pytest.raises(LabError, match=r"^TUNLAB_TIME_FACTOR: '.*' is no time factor"):
        eventually(lambda: 1, bool, within_s=1, what="it")


def test_steadily_holds_for_the_whole_window_and_looks_at_its_end(clock: FakeClock) -> None:
    assert steadily(lambda: 5, lambda n: n == 5, for_s=1, every_s=0.3, what="silence", clock=clock) == 5
    assert clock.time == pytest.approx(101.0)
    look = at(clock, (0, "quiet"), (1.0, "a packet"))
    with pytest.raises(NeverHappened, match=r"^silence: held for 1\.00 s, wanted 1 s; then seen: a packet$"):
        steadily(look, lambda s: s == "quiet", for_s=1, every_s=0.3, what="silence", clock=clock)


def test_a_long_value_is_shown_short(clock: FakeClock) -> None:
    with pytest.raises(NeverHappened, match=r"last seen: x{300}… \(5000 characters\)$"):
        eventually(lambda: "x" * 5000, lambda _: False, within_s=0, what="it", clock=clock)
