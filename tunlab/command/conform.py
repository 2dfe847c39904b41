"""`./lab conform`: checks what was asked, runs the suites in a child process, and ends with verdicts and an exit code.

The child runs pytest and tells every verdict over a pipe; this process shows them, and at the end writes the results
from what it was told, so that a child that dies, hangs or cannot even start leaves complete results all the same.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from tunlab.box.machine import BOXES
from tunlab.check.requirement import LEVELS
from tunlab.check.selection import CellKey, Options, choose_cells, read_shard, split_list
from tunlab.check.verdict import Row
from tunlab.child import PARENT_VARIABLE
from tunlab.command.crew import has_exited, is_gone
from tunlab.command.pages import open_report
from tunlab.command.parts import read_parts
from tunlab.command.progress import Progress, progress_for
from tunlab.errors import LabError, WorldError
from tunlab.lab.load import lab_names, load_lab
from tunlab.lab.mistakes import meant, refuse
from tunlab.lab.topology import MODES
from tunlab.paths import CAPTURES, ROOT, shown
from tunlab.report.baseline import compare, read_baseline
from tunlab.report.bundle import write_bundle
from tunlab.report.html.page import write_report
from tunlab.report.junit import write_junit
from tunlab.report.record import EVENTS_VARIABLE, finish
from tunlab.report.results import (
    CANARY_LOG,
    RESULTS,
    Results,
    blindness,
    exit_code,
    read_canaries,
    read_selection,
    run_row,
)
from tunlab.report.runs import new_run
from tunlab.report.table import canary_line, console_for, last_line, print_table, share_line
from tunlab.systems.catalogue import find_system
from tunlab.wait import eventually, time_factor

_WORKERS = 2
_GRACE_S = 5.0
_LAST_WORDS_S = 60.0  # from the end of what it tells to its end
_CANARIES_S = 120.0  # from the end of the verdicts to theirs; they take 6 s, and 60 s in a user-mode kernel
_LAST_LINES = 15
SECONDS = "earlier.json"  # what an earlier run said that cells take


class Terminated(BaseException):
    """SIGTERM arrived and nobody above handles it."""


@dataclass(frozen=True)
class Places:
    """Where suites are found and results go; a test of ours brings its own."""

    suites: Path = ROOT / "suites"
    captures: Path = CAPTURES
    labs: Mapping[str, Any] | None = None
    canaries: tuple[str, ...] = (sys.executable, "-P", "-m", "tunlab.mutants.canary")


def judge(*, opens: bool, **asked: Any) -> int:
    """`run`, whose code it is; with `opens` the report is then served until Ctrl-C, unless a signal ended the run."""
    code, folder = run(**asked)
    if opens and code < 128:
        with suppress(KeyboardInterrupt):
            open_report(str(folder), 0)
    return code


def run(
    *,
    system: str = "refnet",
    modes: Sequence[str] = (),
    labs: Sequence[str] = (),
    level: str = "core",
    box: str = "auto",
    expression: str = "",
    keep: bool = False,
    timeout_s: float | None = None,
    out: str = "",
    parts: Sequence[str] = (),
    baseline: str = "",
    shard: str = "",
    bundle: bool = False,
    places: Places | None = None,
    stream: TextIO | None = None,
) -> tuple[int, Path]:
    """Judge a system; 0, 1 or 2, or 130 or 143 after a signal, and its folder. Raises LabError with all mistakes.

    `timeout_s` is for the whole run: what is not judged by then is broken. `out` takes the place of captures/RUN.
    With a `baseline`, an earlier results.json, only what got worse counts. `shard` is I/N: one of N parts of the cells.
    A `bundle` for `replay` is written for a run in which something failed or is broken, or always if asked for.
    """
    places = places or Places()
    topologies = places.labs if places.labs is not None else _labs()
    earlier = read_baseline(baseline, shard) if baseline else None
    asked = check_options(topologies, system, modes, labs, level, box, timeout_s, parts, shard)
    cells = choose_cells(topologies, asked)
    started = datetime.now(UTC)
    folder = new_run(places.captures, Path(out) if out else None, started)
    asked = Options(**{**vars(asked), "out": folder, "keep": keep, "seconds": earlier.cells if earlier else {}})
    if earlier:
        (folder / SECONDS).write_text(json.dumps(earlier.to_json()))
    options: dict[str, Any] = {
        "mode": list(asked.modes),
        "lab": list(asked.labs),
        "level": level,
        "box": box,
        "k": expression,
    }
    options |= {"keep": keep, "timeout": timeout_s, "with": dict(asked.with_), "shard": shard}
    results = Results(folder.name, started.isoformat(timespec="seconds"), system, options)
    results.write(folder)
    show = progress_for(stream or sys.stdout, len(cells))
    ended_by = _watch(Child(asked, cells, expression, places), results, folder, show, timeout_s)
    comparison = _compare(earlier, baseline, results, folder) if earlier else []
    kept = [f"report: {shown(write_report(folder))}"]
    if bundle or exit_code(results.rows) != 0:
        kept.append(f"bundle: {_bundled(folder, results, topologies)}")
    console = console_for(stream or sys.stdout)
    print_table(results, console)
    said = (canary_line(results), share_line(results), *comparison, *kept, last_line(results, shown(folder / RESULTS)))
    for line in filter(None, said):
        console.print(line, soft_wrap=True)
    if isinstance(ended_by, KeyboardInterrupt | Terminated):
        return 128 + (signal.SIGINT if isinstance(ended_by, KeyboardInterrupt) else signal.SIGTERM), folder
    if ended_by is not None:
        raise ended_by
    return results.exit or 0, folder


def _bundled(folder: Path, results: Results, topologies: Mapping[str, Any]) -> str:
    """Where the bundle is, or why there is none: the verdicts count all the same."""
    try:
        return str(shown(write_bundle(folder, results, topologies)))
    except WorldError as error:
        return f"none: {error}"


def _compare(earlier: Results, path: str, results: Results, folder: Path) -> list[str]:
    """Only what got worse counts from here on, of a run that is not broken; what is to be told of it."""
    selection = read_selection(folder)
    found = compare(earlier, results, path, selection.elsewhere if selection else ())
    results.exit = 2 if exit_code(results.rows) == 2 else found.exit
    results.baseline = found.to_json()
    results.write(folder)
    return found.lines()


def _watch(
    child: Child, results: Results, folder: Path, show: Progress, timeout_s: float | None
) -> BaseException | None:
    """See the child to its end and its results to disk; answers the signal that ended it, as the exception it was."""
    reason = "the run ended before this was judged"
    with sigterm_raises():
        try:
            reason = child.run(results, show, timeout_s)
        except Exception as error:
            reason = f"the run was ended by an error of its own ({type(error).__name__}: {error})"
            raise
        except KeyboardInterrupt as error:
            reason = "the run was interrupted (SIGINT)"
            return error
        except Terminated as error:
            reason = "the run was ended (SIGTERM)"
            return error
        except BaseException as error:  # noqa: BLE001 - the caller's way of being told of a signal; raised there
            reason = f"the run was ended ({error})"
            return error
        finally:
            show.close()
            child.stop()
            _conclude(results, folder, reason, child)
    return None


def check_options(
    topologies: Mapping[str, Any],
    system: str,
    modes: Sequence[str],
    labs: Sequence[str],
    level: str,
    box: str,
    timeout_s: float | None,
    parts: Sequence[str],
    shard: str = "",
) -> Options:
    """The options, once all are right; `out` is still to come. Raises LabError with one message per mistake."""
    chosen_modes, chosen_labs = split_list(modes), split_list(labs)
    mistakes = [
        *_strangers("mode", chosen_modes, MODES),
        *_strangers("lab", chosen_labs, tuple(topologies)),
        *_strangers("level", (level,), LEVELS),
        *_strangers("box", (box,), ("auto", *BOXES)),
    ]
    replaced, wrong_parts = read_parts(parts)
    mistakes += wrong_parts
    if timeout_s is not None and not 0 < timeout_s < 1e9:
        mistakes.append(f"--timeout: {timeout_s:g}: no such limit\n  legal: seconds above 0\n  hint: leave it out")
    if shard and read_shard(shard) is None:
        mistakes.append(f"--shard: {shard}: no part of a whole\n  legal: I/N, I from 1 to N\n  hint: such as 1/3")
    try:
        find_system(system, {part: Path(path) for part, path in replaced.items()} or None)
    except LabError as error:
        mistakes += error.mistakes or (str(error),)
    if not mistakes:
        mistakes += _idle(topologies, chosen_modes, chosen_labs)
    if mistakes:
        raise refuse(mistakes)
    return Options(Path(), system, chosen_modes, chosen_labs, level, box, with_=replaced, shard=read_shard(shard))


def _labs() -> Mapping[str, Any]:
    """All of labs/; a file that is wrong says so with all its mistakes."""
    return {name: load_lab(name) for name in lab_names()}


def _strangers(option: str, values: Sequence[str], legal: Sequence[str]) -> Iterator[str]:
    for value in values:
        if value not in legal:
            hint = meant(value, legal, "leave the option out to take the default")
            yield f"--{option}: {value}: no such {option}\n  legal: {', '.join(legal)}\n  hint: {hint}"


def _idle(topologies: Mapping[str, Any], modes: Sequence[str], labs: Sequence[str]) -> Iterator[str]:
    """What was named and yet would take no part: a run that leaves it out would seem to have judged it."""
    for lab in labs:
        if modes and not set(modes) & set(topologies[lab].modes):
            yield f"--lab: {lab}: takes part in none of {', '.join(modes)}\n  hint: {', '.join(topologies[lab].modes)}"
    for mode in modes:
        if not any(mode in topologies[lab].modes for lab in labs or topologies):
            yield f"--mode: {mode}: no lab asked for takes part in it\n  hint: leave --lab out"


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM end this process by an exception, so that the child is stopped; leaves another handler as it is."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _conclude(results: Results, folder: Path, reason: str, child: Child) -> None:
    """The last word on disk; it must agree with what pytest itself ended with."""
    finish(results, folder, reason)
    if complaint := child.complaint(results.exit):
        results.rows.append(run_row(complaint))
        finish(results, folder, reason)
    results.canaries, error = read_canaries(folder)
    if blind := blindness(results.canaries, error):
        results.rows.extend(blind)
        finish(results, folder, reason)
    results.write(folder)
    write_junit(results, folder)


class Child:
    """The process that runs pytest, its workers in the same group, and the pipe over which it tells verdicts."""

    def __init__(self, options: Options, cells: Sequence[CellKey], expression: str, places: Places) -> None:
        self._options = options
        self._places = places
        self._argv = _pytest_line(options, cells, expression, places)
        self._log = options.out / "pytest.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._canaries: subprocess.Popen[bytes] | None = None
        self._was_stopped = False
        self._is_silent = False

    def run(self, results: Results, show: Progress, timeout_s: float | None) -> str:
        """Take in what it tells, to its end or the time limit; answers why anything may be missing."""
        deadline = time.monotonic() + timeout_s if timeout_s is not None else None
        reading, writing = os.pipe()
        try:
            try:
                self._start(writing)
            finally:
                os.close(writing)
            reason = self._listen(reading, results, show, deadline, timeout_s)
            self._await_canaries(show, deadline)
            return reason
        finally:
            os.close(reading)

    def stop(self) -> None:
        """Leave no process behind: ask as the terminal would, wait a little, then kill the group and see it gone.

        A child is reaped last: until then its group's number cannot belong to anybody else.
        """
        process = self._process
        if process is None:
            return
        if not has_exited(process.pid, _LAST_WORDS_S if self._is_silent else 0.0):
            self._was_stopped = True
            process.send_signal(signal.SIGINT)
            has_exited(process.pid, _GRACE_S)
        for each, whose in ((process, "the workers'"), (self._canaries, "the canaries'")):
            if each is not None:
                with suppress(ProcessLookupError):
                    os.killpg(each.pid, signal.SIGKILL)
                each.wait()
                eventually(partial(is_gone, each.pid), bool, within_s=10, what=f"{whose} end", blame="lab")

    def complaint(self, expected: int | None) -> str:
        """What is to be said if pytest ended in a way that the verdicts do not explain; "" if all is well."""
        if self._process is None:
            return "pytest was not started"
        code = self._process.returncode
        if self._was_stopped or code == expected:
            return ""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        last = [line for line in text.splitlines() if line.strip()][-_LAST_LINES:]
        errors = [line for line in last if line.startswith(("ERROR", "E "))] or last[-1:]
        return "\n".join([f"pytest ended with {code}, not {expected}: {errors[0] if errors else 'no output'}", *last])

    def _start(self, events: int) -> None:
        environment = {**os.environ, EVENTS_VARIABLE: str(events), PARENT_VARIABLE: str(os.getpid())}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}
        environment.pop("PYTEST_ADDOPTS", None)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=ROOT,
                pass_fds=[events],
                start_new_session=True,
            )
        self._plant_canaries(environment)

    def _plant_canaries(self, environment: Mapping[str, str]) -> None:
        """Beside pytest, not within: whether the judge sees is not for it to say."""
        with (self._options.out / CANARY_LOG).open("wb") as log:
            self._canaries = subprocess.Popen(
                [*self._places.canaries, str(self._options.out)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=ROOT,
                start_new_session=True,
            )

    def _await_canaries(self, show: Progress, deadline: float | None) -> None:
        """They are quicker than any run but the smallest; see them to their end, or to the time limit."""
        last = time.monotonic() + _CANARIES_S * time_factor()
        last = last if deadline is None else min(last, deadline)
        while self._canaries is not None and (left_s := last - time.monotonic()) > 0:
            if has_exited(self._canaries.pid, min(left_s, 1.0)):
                return
            show.tick()

    def _listen(
        self, events: int, results: Results, show: Progress, deadline: float | None, timeout_s: float | None
    ) -> str:
        buffer = b""
        with selectors.DefaultSelector() as selector:
            selector.register(events, selectors.EVENT_READ)
            while True:
                left_s = deadline - time.monotonic() if deadline is not None else None
                if left_s is not None and left_s <= 0:
                    return f"the time limit of {timeout_s:g} s was over before this was judged"
                if not selector.select(min(left_s, 1.0) if left_s is not None else 1.0):
                    show.tick()
                    continue
                data = os.read(events, 65536)
                if not data:
                    break
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    _take(json.loads(line), results, show)
        self._is_silent = True
        return f"no verdict came of it (see {self._log.name})"


def _take(event: Mapping[str, Any], results: Results, show: Progress) -> None:
    if "selected" in event:
        show.selected(event["selected"])
    elif "about" in event:
        results.learn(event["about"])
        results.cells |= event["cells"]
    elif "row" in event:
        row = Row.from_json(event["row"])
        results.rows.append(row)
        show.verdict(row)


def _pytest_line(options: Options, cells: Sequence[CellKey], expression: str, places: Places) -> list[str]:
    workers = min(_WORKERS, len(cells))
    line = [sys.executable, "-m", "pytest", str(places.suites), "-p", "tunlab.plugin", f"--rootdir={ROOT}"]
    line += ["-o", "filterwarnings=default", "-o", "xfail_strict=true", "-q", "--tb=long", "--color=no"]
    line += ["-p", "no:tmpdir"]  # no suite wants its folder, which it would leave behind below /tmp
    line += [f"--tl-out={options.out}", f"--tl-run={options.out.name}", f"--system={options.system}"]
    line += [f"--level={options.level}", f"--box={options.box}"]
    line += [
        f"--{name}={value}" for name, values in (("mode", options.modes), ("lab", options.labs)) for value in values
    ]
    line += [f"--with={part}={path}" for part, path in options.with_.items()]
    line += ["--keep"] if options.keep else []
    if options.shard is not None:
        line += [f"--tl-shard={options.shard[0]}/{options.shard[1]}"]
        line += [f"--tl-seconds={options.out / SECONDS}"] if options.seconds else []
    line += ["-k", expression] if expression else []
    if workers > 1:
        return [*line, "-n", str(workers), "--dist=loadscope", "--max-worker-restart=4"]
    return [*line, "-n", "0"]
