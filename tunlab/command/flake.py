"""`./lab flake`: judges the same again and again under pressure, and says what was not the same each time."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from tunlab.check.verdict import Verdict
from tunlab.command import conform
from tunlab.command.crew import Crew, Job
from tunlab.command.hog import LOADS, load
from tunlab.errors import LabError
from tunlab.lab.load import lab_names, load_lab
from tunlab.lab.mistakes import meant
from tunlab.paths import CAPTURES, shown
from tunlab.report.bundle import commit
from tunlab.report.flake import FLAKE, Flakes, Run, read_waits
from tunlab.report.results import RESULTS, read_results
from tunlab.report.runs import new_run
from tunlab.wait import WAITS_VARIABLE

_BAD = re.compile(r"^\[\d+/\d+\] ((?:FAILED|BROKEN) .*)$")


def run(
    *,
    runs: int = 10,
    pressure: str = "cpu",
    expression: str = "",
    modes: Sequence[str] = (),
    labs: Sequence[str] = (),
    level: str = "core",
    box: str = "auto",
    out: str = "",
    system: str = "refnet",
    parts: Sequence[str] = (),
    resume: str = "",
    captures: Path = CAPTURES / "flake",
    judge: str = "tunlab.command",
    stream: TextIO | None = None,
) -> int:
    """Repeat `conform`; answers 0 if every run was clean, 1 if one failed, 2 if one was broken. Raises LabError.

    With `resume`, the folder of a series that was cut off, goes on with that as it was asked for: the rest is unheeded.
    """
    if resume:
        folder, flakes = _begun(Path(resume))
    else:
        if pressure not in LOADS:
            hint = meant(pressure, LOADS, "leave it out for cpu")
            raise LabError(f"--load: {pressure}: no such load\n  legal: {', '.join(LOADS)}", hint=hint)
        asked = conform.check_options(
            {name: load_lab(name) for name in lab_names()}, system, modes, labs, level, box, None, parts
        )
        started = datetime.now(UTC)
        folder = new_run(captures, Path(out) if out else None, started)
        options = {"runs": runs, "load": pressure, "k": expression, "mode": list(asked.modes), "lab": list(asked.labs)}
        options |= {"level": level, "box": box, "system": system, "with": dict(asked.with_), "commit": commit()}
        flakes = Flakes(folder.name, started.isoformat(timespec="seconds"), options)
    flakes.write(folder)
    count: int = flakes.options["runs"]
    words = _words(flakes.options)
    repetition = _Repetition(flakes, folder, count, stream or sys.stdout)
    with load(flakes.options["load"], folder):
        for number in range(len(flakes.runs) + 1, count + 1):
            repetition.once(_run_name(number, count), judge, words)
    flakes.exit = flakes.verdict
    flakes.write(folder)
    for line in summary(flakes, shown(folder / FLAKE)):
        print(line, file=stream)
    return flakes.exit


def _words(options: Mapping[str, Any]) -> list[str]:
    """The line that judges once."""
    words = ["conform", "--level", options["level"], "--box", options["box"]]
    words += ["-k", options["k"]] if options["k"] else []
    words += [word for mode in options["mode"] for word in ("--mode", mode)]
    words += [word for lab in options["lab"] for word in ("--lab", lab)]
    words += ["--system", options["system"]]
    return words + [word for part in options["with"].items() for word in ("--with", "=".join(part))]


def _run_name(number: int, count: int) -> str:
    """A repetition's folder; names sort as numbers do."""
    return f"run-{number:0{len(str(count))}}"


def _begun(folder: Path) -> tuple[Path, Flakes]:
    """A series that was cut off, up to its last whole run; what was begun after that is removed."""
    try:
        flakes = Flakes.read(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(
            f"--resume: {folder}: no series of ./lab flake is there", hint="captures/flake/RUN, as it said at its end"
        ) from error
    begun_with = flakes.options.get("commit")
    if begun_with != commit():
        raise LabError(
            f"--resume: {folder}: it was begun with {begun_with or 'no commit'}, this is {commit()}",
            hint="what was judged by other suites is no part of the series: begin a new one, without --resume",
        )
    for path in folder.glob(f"{_run_name(len(flakes.runs) + 1, flakes.options['runs'])}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder, flakes


class _Repetition:
    """One run after the other, and what is told of each."""

    def __init__(self, flakes: Flakes, folder: Path, count: int, stream: TextIO) -> None:
        self._flakes = flakes
        self._folder = folder
        self._count = count
        self._stream = stream

    def once(self, name: str, judge: str, words: Sequence[str]) -> None:
        """Judge once, and take in what came of it."""
        own, waits = self._folder / name, self._folder / f"{name}.waits"
        begun, codes, bad = time.monotonic(), list[int](), list[str]()

        def hear(job: Job, line: str) -> None:
            del job
            bad.extend(_BAD.findall(line))

        job = Job(judge, (*words, "--out", str(own)), self._folder / f"{name}.log", {WAITS_VARIABLE: str(waits)})
        Crew(1).run([job], hear, lambda job, code: codes.append(code))
        code, seconds = codes[0], round(time.monotonic() - begun, 1)
        results = read_results(own) if (own / RESULTS).exists() else None
        totals = results.to_json()["totals"] if results else {}
        self._flakes.add(Run(name, code, seconds, totals), results, read_waits(waits, name))
        if code and self._flakes.first_bad is None:
            rows = results.rows if results else []
            others = [f"{row.verdict.words} {row.key}: {row.reason}" for row in rows if row.verdict in _WORST]
            log = job.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            step = (bad or others or [f"conform ended with {code}: {log[-1]}"])[0]
            self._flakes.first_bad = {"run": name, "step": step}
        self._flakes.write(self._folder)
        if code == 0:
            _strip(own)
            waits.unlink(missing_ok=True)
            job.log.unlink(missing_ok=True)
        counts = " ".join(f"{verdict}={count}" for verdict, count in totals.items() if count)
        told = f"; {bad[0]}" if bad else ""
        print(
            f"[{len(self._flakes.runs)}/{self._count}] exit={code} {counts} {seconds} s{told}",
            file=self._stream,
            flush=True,
        )


_WORST = (Verdict.FAILED, Verdict.BROKEN)


def _strip(run: Path) -> None:
    """Of a clean run the results are enough: fifty runs' captures are gigabytes."""
    for path in run.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != RESULTS:
            path.unlink()


def summary(flakes: Flakes, path: Path) -> list[str]:
    """What was not the same each time, the slowest waits, and one line for machines."""
    lines = [""]
    for one in flakes.rates():
        if one["rate"] not in (1.0, None):
            lines.append(f"{one['id']} {one['lab']} {one['mode']}: passed {one['passed']} of {one['judged']} times")
    lines += [
        f"slow wait: {_seconds(one.seconds)} of {one.within_s:g} s in {one.run}: {one.what}" for one in flakes.waits[:5]
    ]
    if flakes.first_bad:
        lines.append(f"first bad step, in {flakes.first_bad['run']}: {flakes.first_bad['step']}")
    clean = sum(run.exit == 0 for run in flakes.runs)
    return [*lines, f"tunlab: exit={flakes.exit} runs={len(flakes.runs)} clean={clean} results={path}"]


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"
