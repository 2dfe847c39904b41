"""What all tests share.

Signals mean something, also where nohup or a shell's `&` had them ignored for all below. Tests that run at the same
time, and labs of whoever runs them, keep their boxes apart. And who ends a run in the middle knows what had failed.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator

import pytest

for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _own_runtime_folder() -> Iterator[None]:
    """For each worker: who makes a box sweeps up what dead boxes have left, in another worker's test as well."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="tunlab-test.") as folder:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        yield


class _FailuresAtOnce:
    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self._terminal.write_line(f"\nFAILED {report.nodeid} ({report.when}, {report.duration:.0f} s)")
            self._terminal.write_line(f"{crash.message if crash else report.longreprtext}"[:600])


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Where xdist has workers, none of them has a terminal."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if isinstance(terminal, pytest.TerminalReporter):
        config.pluginmanager.register(_FailuresAtOnce(terminal))
