"""`./lab report` and `./lab open`: a run's page, made anew and served to this machine alone."""

from __future__ import annotations

from pathlib import Path

from tunlab.errors import LabError
from tunlab.paths import CAPTURES, shown
from tunlab.report.html.page import REPORT, write_report
from tunlab.report.results import RESULTS
from tunlab.report.runs import LATEST
from tunlab.report.serve import serving


def report(run: str) -> None:
    """Make a run's page anew and say where it is. Raises LabError for what is no run."""
    print(f"report: {shown(_written(_folder(run)))}")


def open_report(run: str, port: int) -> None:
    """Serve a run's folder on loopback until Ctrl-C; its page is made if it is not there."""
    folder = _folder(run)
    if not (folder / REPORT).exists():
        _written(folder)
    with serving(folder, port) as server:
        server.serve_until_ctrl_c(f"report: {server.address(REPORT)} (Ctrl-C ends it)")


def _folder(run: str) -> Path:
    """The folder of a run: the latest, one below captures/ by name, or a path."""
    named = CAPTURES / (run or LATEST)
    folder = named if named.is_dir() else Path(run or named)
    if not (folder / RESULTS).is_file():
        raise LabError(
            f"{run or 'latest'}: no run that `./lab conform` has left"
            + (f" (no {RESULTS} there)" if folder.is_dir() else ""),
            hint="a name of captures/, or the folder itself" if run else "./lab conform --lab same-subnet --mode vxlan",
        )
    return folder.resolve()


def _written(folder: Path) -> Path:
    try:
        return write_report(folder)
    except OSError as error:
        raise LabError(
            f"{folder}: write {REPORT}: {error.strerror}", hint="copy the run's folder to a place of yours"
        ) from error
