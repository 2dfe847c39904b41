"""What `./lab` starts: reads the line, runs the task, and turns whatever happens into one message and an exit code.

0 nothing failed or broken · 1 a requirement failed or a mutant survived · 2 lab, tool, usage, or our own fault ·
129, 130, 143 ended by SIGHUP, SIGINT, SIGTERM · 141 the reader of our output went away.
"""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time
import traceback
from collections.abc import Sequence
from types import FrameType

import invoke

from tunlab.command.line import find_task, read_line
from tunlab.command.menu import entries, show_help, show_menu
from tunlab.errors import LabError, TunlabError
from tunlab.paths import ROOT, shown

JUDGES = ("conform", "mutants", "replay", "flake", "check")
OK, FAILED, BROKEN, NOBODY_READS = 0, 1, 2, 128 + signal.SIGPIPE
_KEPT_TRACEBACKS = 10


class Ended(BaseException):
    """A signal asked for the end; raised where the program stands, so that everything open is closed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def main(words: Sequence[str]) -> int:
    """Run one line; returns the exit code and never raises."""
    debug = bool(os.environ.get("TUNLAB_DEBUG"))
    if words[:1] == ["--debug"]:
        debug, words = True, words[1:]
    _listen_to_signals()
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _say_ended(signal.SIGINT)
    except Ended as ended:
        return _say_ended(ended.number)
    except BrokenPipeError:
        # Nobody reads standard output any more; Python would complain once more while it closes the file.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    except TunlabError as error:
        if debug:
            traceback.print_exc()
        _say_error(error)
        return BROKEN
    except Exception as error:  # noqa: BLE001 -- the last place that can say where the traceback is
        _say_own_fault(error, words, debug=debug)
        return BROKEN


def _run(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help") or list(words) == ["help"]:
        print(show_menu())
        return OK
    if words[0] == "help":
        for name in words[1:]:
            print(show_help(find_task(name, entries())))
        return OK
    before = words[: words.index("--")] if "--" in words else words
    if "-h" in before or "--help" in before:
        print(show_help(find_task(words[0], entries())))
        return OK
    request = read_line(words, entries())
    try:
        result = request.entry.task(invoke.Context(), **request.arguments)
    except SystemExit as ending:
        # A number that some library chose means nothing here.
        if ending.code:
            raise LabError(f"{request.entry.name}: ended with {ending.code}") from ending
        return OK
    code = result if isinstance(result, int) else OK
    # Whatever else ends with another code (a command in a pod, pytest, ruff) has not judged anything.
    allowed = (OK, FAILED, BROKEN) if request.entry.name in JUDGES else (OK, BROKEN)
    return code if code in (*allowed, 128 + signal.SIGINT, 128 + signal.SIGTERM) else BROKEN


def _listen_to_signals() -> None:
    def end(number: int, _: FrameType | None) -> None:
        raise Ended(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup a closed terminal is no reason to end
            signal.signal(number, end)
    # A shell without job control starts background jobs deaf to Ctrl-C, and what we start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _say_ended(number: int) -> int:
    print(f"lab: ended by {signal.Signals(number).name}", file=sys.stderr)
    return 128 + number


def _say_error(error: TunlabError) -> None:
    mistakes = error.mistakes if isinstance(error, LabError) and error.mistakes else (str(error),)
    for text in mistakes:
        print(_wrap(text), file=sys.stderr)


def _wrap(text: str) -> str:
    """Fold prose to 80 columns; a hint with a command in it stays on one line, so that it can be copied."""
    lines = []
    for number, line in enumerate(text.splitlines()):
        indent = "  " if number == 0 else "        "
        whole = line.lstrip().startswith("hint: ") and ("./lab " in line or "sudo " in line)
        lines.append(
            line
            if whole or len(line) <= 80
            else textwrap.fill(line, 80, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        )
    return "\n".join(lines)


def _say_own_fault(error: Exception, words: Sequence[str], *, debug: bool) -> None:
    text = "".join(traceback.format_exception(error))
    name = words[0] if words else "menu"
    summary = f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if debug:
        print(text, file=sys.stderr)
        hint = "the traceback is above"
    else:
        hint = f"this is tunlab's own fault; the traceback is in {_keep_traceback(text, words)}"
    print(f"{_wrap(summary.rstrip(': '))}\n  hint: {hint}", file=sys.stderr)


def _keep_traceback(text: str, words: Sequence[str]) -> str:
    folder = ROOT / "captures" / "faults"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
        path.write_text(f"./lab {' '.join(words)}\n{text}")
        for old in sorted(folder.iterdir())[:-_KEPT_TRACEBACKS]:
            old.unlink(missing_ok=True)
    except OSError as refusal:
        return f"nowhere ({refusal}); TUNLAB_DEBUG=1 prints it"
    return str(shown(path))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
