"""The pytest face of the judge: turns requirements into tests over labs and modes, and tests into verdicts.

Loaded by `-p tunlab.plugin`. Whoever runs tests holds a Judge; whoever reports holds a Clerk; without workers one
process is both. A row says `passed` only if the test's body was entered and came to its end, its evidence is sound,
and nothing was raised on the way: everything else that can happen to a test has another verdict.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten
from typing import Any

import pytest

from tunlab import seams
from tunlab.check.requirement import MANIFEST, Cell, Pending, Requirement, missing_ids, requirement_of
from tunlab.check.selection import CellKey, Options, choose_cells, fingerprint, read_shard, share_out, split_list
from tunlab.check.verdict import Key, NotOffered, Row, Verdict, judge, worst
from tunlab.child import die_with, die_with_asker
from tunlab.errors import Bug, SystemFault, TunlabError, WorldError
from tunlab.report.asserted import append_notes
from tunlab.report.record import Recorder, describe_options
from tunlab.report.results import Results, Selected, Selection, Share, read_results, read_selection, run_row
from tunlab.scheduler import CellScheduling
from tunlab.wire.expect import Note, noting

_ROW, _ABOUT, _CELLS = "tunlab_row", "tunlab_about", "tunlab_cells"
_SHORT = 120
_ENDED = "the run ended before this was judged, or the process that judged it died"


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Make the seams known."""
    pluginmanager.add_hookspecs(seams.Hooks)
    pluginmanager.register(seams, "tunlab-seams")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `./lab conform`, here already checked; lists are comma-separated or repeated."""
    group = parser.getgroup("tunlab")
    group.addoption("--system", default="refnet", help="what is judged")
    group.addoption("--mode", action="append", default=[], help="modes; all by default")
    group.addoption("--lab", action="append", default=[], help="labs; all by default")
    group.addoption("--level", default="core", help="core, or extended: core and more")
    group.addoption("--box", default="auto", help="auto, namespaces, uml")
    group.addoption("--with", dest="with_", action="append", default=[], help="PART=PATH: another build of a part")
    group.addoption("--keep", action="store_true", help="leave the labs standing")
    group.addoption("--tl-shard", default="", help="I/N: one of so many parts")
    group.addoption("--tl-seconds", default="", help="a results.json that says what cells take")
    group.addoption("--tl-out", default="", help="the run's folder; it exists")
    group.addoption("--tl-run", default="", help="the run's name")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Become a Judge (unless workers do that), a Clerk (unless a worker), and mortal."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        die_with(worker["tunlab_parent"])
    else:
        die_with_asker()
    if not config.getoption("--tl-out"):
        raise pytest.UsageError("tunlab.plugin wants --tl-out, the folder of the run")
    options = _options(config)
    if worker is None:
        config.pluginmanager.register(Clerk(config, options), "tunlab-clerk")
    if worker is not None or not config.getoption("numprocesses", None):
        config.pluginmanager.register(Judge(config, options), "tunlab-judge")


def _options(config: pytest.Config) -> Options:
    return Options(
        out=Path(config.getoption("--tl-out")),
        system=config.getoption("--system"),
        modes=split_list(config.getoption("--mode")),
        labs=split_list(config.getoption("--lab")),
        level=config.getoption("--level"),
        box=config.getoption("--box"),
        keep=config.getoption("--keep"),
        with_=dict(part.split("=", 1) for part in split_list(config.getoption("with_"))),
        shard=read_shard(config.getoption("--tl-shard")),
        seconds=_seconds(config.getoption("--tl-seconds")),
    )


def _seconds(path: str) -> Mapping[str, float]:
    """What each cell took in an earlier run."""
    found = read_results(Path(path).parent, Path(path).name) if path else None
    return found.cells if found else {}


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> Cell:
    """The cell that the test judges: open for all tests of one lab and mode, with fresh expectations for each."""
    chosen: Judge = request.config.pluginmanager.getplugin("tunlab-judge")
    return chosen.prepare(request.node)


@pytest.fixture
def scene(request: pytest.FixtureRequest) -> Cell:
    """The lab of its own that the tests of one scene do something to."""
    chosen: Judge = request.config.pluginmanager.getplugin("tunlab-judge")
    return chosen.prepare(request.node)


@dataclass
class Progress:
    """What is known of one test so far."""

    verdict: Verdict = Verdict.PASSED
    reasons: list[tuple[Verdict, str]] = field(default_factory=list)
    phases: set[str] = field(default_factory=set)
    seconds: float = 0.0
    is_begun: bool = False
    body_ended: bool = False
    notes: tuple[Note, ...] = ()
    evidence: tuple[str, ...] = ()

    def take(self, when: str, exception: BaseException | None) -> None:
        """What a phase (setup, call, teardown) ended with."""
        self.phases.add(when)
        verdict, reason = judge(exception)
        if isinstance(exception, pytest.skip.Exception | pytest.xfail.Exception):
            reason = f"the test skipped itself: {exception}; only the system may say that it does not offer something"
        if verdict is Verdict.NOT_OFFERED and when != "setup":
            verdict, reason = Verdict.BROKEN, f"said only during the test that it is not offered: {reason}"
        if verdict is not Verdict.PASSED:
            self.verdict = worst(self.verdict, verdict)
            self.reasons.append((verdict, reason))

    def conclude(self) -> tuple[Verdict, str]:
        """The verdict, with its reasons, the decisive ones first."""
        if self.verdict is Verdict.PASSED and not (self.body_ended and self.phases == {"setup", "call", "teardown"}):
            return Verdict.BROKEN, "the test did not run to its end"
        decisive = [reason for verdict, reason in self.reasons if verdict is self.verdict]
        return self.verdict, "\n".join(
            [*decisive, *(why for verdict, why in self.reasons if verdict is not self.verdict)]
        )


class Judge:
    """Runs the tests of this process: one cell open at a time, closed as soon as its last test is done."""

    def __init__(self, config: pytest.Config, options: Options) -> None:
        self._config = config
        self._options = options
        self._topologies = _topologies(config, options)
        self._keys = choose_cells(self._topologies, options)
        self._mistakes: list[str] = []
        self._share: Share | None = None
        self._elsewhere: list[Key] = []
        self._lacks: dict[str, str] = {}
        self._open_key: CellKey | None = None
        self._open: Cell | None = None
        self._refusal: TunlabError | None = None
        self._about: Mapping[str, str] = {}
        self._progress: dict[str, Progress] = {}
        self._opened_at = 0.0
        self._seconds: dict[str, float] = {}

    # ------------------------------------------------------------------ choosing
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test per cell to which the requirement applies."""
        declared = requirement_of(metafunc.function)
        if declared is not None and _fixture(declared) in metafunc.fixturenames:
            keys = [key for key in self._keys if declared.applies(self._topologies[key.lab], key.mode)]
            keys = [replace(key, scene=declared.scene) for key in keys if self._options.wants(declared)]
            metafunc.parametrize(_fixture(declared), keys, ids=str, indirect=True, scope="function")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what applies nowhere, refuse what is no requirement, and put the tests of a cell side by side."""
        chosen: list[tuple[tuple[int, str], pytest.Item]] = []
        for item in items:
            declared, key = _declared(item), _key_of(item)
            if declared is None:
                self._mistakes.append(f"{item.nodeid}: every test of a suite is a @requirement")
            elif _fixture(declared) not in getattr(item, "fixturenames", ()):
                self._mistakes.append(f"{item.nodeid}: takes no `{_fixture(declared)}`")
            elif key is not None:
                item.extra_keyword_matches.add(declared.id)
                chosen.append(((self._keys.index(replace(key, scene="")), key.scene), item))
        items[:] = self._own_share([item for _, item in sorted(chosen, key=lambda pair: pair[0])])

    def _own_share(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """Of whole cells those that this run is to judge, noting what is left to others; where nobody shares, all."""
        if self._options.shard is None:
            return items
        number, parts = self._options.shard
        shares = share_out((key for item in items if (key := _key_of(item))), parts, self._options)
        own = shares[number - 1]
        self._share = Share(tuple(sorted(map(str, own))), fingerprint(shares))
        for item in items:
            declared, key = _declared(item), _key_of(item)
            if declared is not None and key is not None and key not in own:
                self._elsewhere.append(Key(declared.id, key.lab, key.mode))
        return [item for item in items if _key_of(item) in own]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be read, or that skips itself as a whole, hides its requirements."""
        if report.outcome != "passed":
            text = str(report.longrepr).strip().splitlines() or ["without a word"]
            errors = [line for line in text if line.startswith("E ")]
            self._mistakes.append(f"{report.nodeid}: collection {report.outcome}: {(errors or text)[-1].strip()}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Put down what must be judged, before anything is."""
        self._mistakes += [
            f"{id}: stands in {MANIFEST}, and no file declares it" for id in missing_ids(Path(session.config.args[0]))
        ]
        tests = []
        for item in session.items:
            declared, key = _declared(item), _key_of(item)
            assert declared is not None and key is not None
            what = (declared.id, declared.title, declared.level)
            tests.append(Selected(*what, key.lab, key.mode, item.nodeid, key.scene, declared.source))
        found = Selection(tuple(tests), tuple(self._mistakes), self._share, tuple(self._elsewhere))
        found.write(self._options.out)

    # ------------------------------------------------------------------ running
    def prepare(self, item: pytest.Item) -> Cell:
        """Before a test's body: its cell is open and notes the state before. What the system does not offer is not
        asked, whether a lab gets up with it or not."""
        declared, key = _declared(item), _key_of(item)
        assert declared is not None and key is not None
        for ability in declared.needs:
            if ability not in self._lacks:
                self._lacks[ability] = self._config.hook.pytest_tunlab_lacks(ability=ability, options=self._options)
            if why := self._lacks[ability]:
                raise NotOffered(why)
        opened = self._opened(key, declared)
        opened.expectations = Pending()
        opened.begin(declared)
        self._progress_of(item).is_begun = True
        return opened

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Function) -> Generator[None, object, object]:
        """Witness that the body itself is run to its end and leaves no expectation unchecked."""
        progress = self._progress_of(item)
        with _witnessed(item, progress), noting() as notes:
            result = yield
        progress.notes = tuple(notes)
        if not progress.body_ended:
            raise Bug(f"{item.nodeid}: pytest went on without running the test's body to its end")
        if self._open is not None:
            self._open.expectations.settle()
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Gather the evidence first, while all is as the test left it; close the cell last, if nobody needs it next."""
        progress = self._progress_of(item)
        with ExitStack() as stack:
            stack.callback(self._close_after, item, nextitem)
            try:
                declared = _declared(item)
                if progress.is_begun and self._open is not None and declared is not None:
                    progress.evidence = tuple(self._open.end(declared, progress.verdict))
            finally:
                result = yield
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn what a phase ended with into a verdict; the last phase carries the row."""
        report = yield
        progress = self._progress_of(item)
        progress.take(call.when, call.excinfo.value if call.excinfo else None)
        if call.when == "call" or progress.seconds == 0.0:
            progress.seconds = call.duration
        verdict, _ = progress.conclude() if call.when == "teardown" else (progress.verdict, "")
        if verdict is Verdict.NOT_OFFERED and report.outcome == "failed":
            path, line, _ = report.location
            report.outcome, report.longrepr = "skipped", (path, line or 0, progress.reasons[0][1])
        elif verdict in (Verdict.FAILED, Verdict.BROKEN) and report.outcome == "skipped":
            report.outcome, report.longrepr = "failed", progress.reasons[-1][1]
        if call.when == "teardown":
            row = self._row(item, progress)
            report.user_properties.append((_ROW, row.to_json()))
            append_notes(self._options.out, row, progress.notes)
            report.user_properties.append((_ABOUT, dict(self._about)))
            report.user_properties.append((_CELLS, dict(self._seconds)))
            del self._progress[item.nodeid]
        return report

    def _close_after(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Close the cell after its last test, or after one that has left it unfit for others."""
        is_last = nextitem is None or _key_of(nextitem) != _key_of(item)
        if is_last or (self._open is not None and self._open.is_spent):
            self._close()

    def pytest_sessionfinish(self) -> None:
        """After an interruption a cell may still be open."""
        self._close()

    def _row(self, item: pytest.Item, progress: Progress) -> Row:
        declared, key = _declared(item), _key_of(item)
        assert declared is not None and key is not None
        verdict, reason = progress.conclude()
        seconds, evidence = round(progress.seconds, 3), progress.evidence
        return Row(declared.id, declared.title, declared.level, key.lab, key.mode, verdict, seconds, evidence, reason)

    def _progress_of(self, item: pytest.Item) -> Progress:
        return self._progress.setdefault(item.nodeid, Progress())

    # ------------------------------------------------------------------ the one open cell
    def _opened(self, key: CellKey, declared: Requirement) -> Cell:
        if self._open_key != key:
            self._close()
            self._open_key, self._opened_at = key, time.monotonic()
            try:
                self._open = self._config.hook.pytest_tunlab_open_cell(
                    lab=self._topologies[key.lab], mode=key.mode, scene=key.scene, options=self._options
                )
                self._about = dict(self._open.about()) if self._open is not None else {}
            except Exception as error:
                self._refusal = _short_refusal(error, key, declared.id)
                raise
        if self._refusal is not None:
            raise self._refusal
        if self._open is None:
            raise Bug(f"{key}: open the cell: nobody opened it")
        return self._open

    def _close(self) -> None:
        opened, self._open = self._open, None
        key, self._open_key, self._refusal = self._open_key, None, None
        if opened is not None:
            opened.close()
        if key is not None:
            taken = time.monotonic() - self._opened_at
            self._seconds[str(key)] = round(self._seconds.get(str(key), 0.0) + taken, 3)


class Clerk:
    """Takes down what the judges say, and what happens to them."""

    def __init__(self, config: pytest.Config, options: Options) -> None:
        self._options = options
        asked = {
            "system": options.system,
            "mode": list(options.modes),
            "lab": list(options.labs),
            "level": options.level,
            "box": options.box,
            "k": config.getoption("keyword", ""),
            "keep": options.keep,
            "with": dict(options.with_),
            "shard": config.getoption("--tl-shard"),
        }
        run = config.getoption("--tl-run") or options.out.name
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self._recorder = Recorder(options.out, Results(run, started, options.system, asked))
        self._asked = describe_options(asked)
        self._is_selected = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """A worker learns whose end must be its own."""
        node.workerinput["tunlab_parent"] = os.getpid()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> object:
        """A cell's tests go to one worker, one after the other."""
        return CellScheduling(config, log, self._options.out)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        """A worker has put down what must be judged."""
        self._tell_selected()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self) -> None:
        """The same, when there are no workers; where there are, this comes too early to say anything."""
        if read_selection(self._options.out) is not None:
            self._tell_selected()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A row travels with the last phase of its test."""
        if report.when == "teardown":
            told = dict(report.user_properties)
            self._recorder.learn(told.get(_ABOUT, {}), told.get(_CELLS, {}))  # type: ignore[arg-type]
            if _ROW in told:
                self._recorder.add(Row.from_json(told[_ROW]))  # type: ignore[arg-type]

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """A worker died during this test, which is nobody's verdict."""
        selection = read_selection(self._options.out)
        tests = selection.tests if selection else ()
        for test in (test for test in tests if test.nodeid == crashitem):
            self._recorder.add(test.broken("the process that judged it died"))

    def pytest_internalerror(self, excrepr: object) -> None:
        """pytest itself, or a hook of ours."""
        lines = str(excrepr).strip().splitlines() or ["without a word"]
        self._recorder.add(run_row(f"pytest: internal error: {lines[-1]}"))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """The exit status is what the rows say: 0, 1 or 2."""
        session.exitstatus = self._recorder.finish(_ENDED)

    def _tell_selected(self) -> None:
        if not self._is_selected:
            self._is_selected = True
            self._recorder.selected()


def _topologies(config: pytest.Config, options: Options) -> Mapping[str, Any]:
    known: Mapping[str, Any] = config.hook.pytest_tunlab_labs()
    unknown = [name for name in options.labs if name not in known]
    if unknown:
        raise pytest.UsageError(f"--lab {', '.join(unknown)}: no such lab; legal: {', '.join(known)}")
    return known


def _declared(item: pytest.Item) -> Requirement | None:
    return requirement_of(getattr(item, "function", None))


def _fixture(declared: Requirement) -> str:
    """What the requirement's test must ask for."""
    return "scene" if declared.scene else "cell"


def _key_of(item: pytest.Item) -> CellKey | None:
    """The cell of a test; None for one that applies nowhere."""
    callspec = getattr(item, "callspec", None)
    key = (
        next((callspec.params[name] for name in ("cell", "scene") if name in callspec.params), None)
        if callspec
        else None
    )
    return key if isinstance(key, CellKey) else None


def _short_refusal(error: Exception, key: CellKey, told_at: str) -> TunlabError:
    """What the other tests of a cell say that could not be opened: same blame, and where it is told in full."""
    if isinstance(error, NotOffered):
        return error
    verdict, reason = judge(error)
    kind = SystemFault if verdict is Verdict.FAILED else WorldError
    first: Sequence[str] = reason.splitlines() or [""]
    return kind(f"{key} could not be opened (told in full at {told_at}): {shorten(first[0], _SHORT, placeholder=' …')}")


def _witnessed(item: pytest.Function, progress: Progress) -> ExitStack:
    """Until the end of the `with`, running the item's function leaves a mark in `progress` when it returns."""
    original: Callable[..., object] = item.obj

    def body(**arguments: object) -> None:
        result = original(**arguments)
        if result is not None:
            if hasattr(result, "close"):
                result.close()  # a coroutine that nobody awaits would warn
            raise Bug(f"{item.nodeid}: returned {type(result).__name__}, and a returned value asserts nothing")
        progress.body_ended = True

    stack = ExitStack()
    stack.callback(setattr, item, "obj", original)
    item.obj = body
    return stack
