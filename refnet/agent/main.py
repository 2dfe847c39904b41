"""The agent's command line: `refnet-agent` runs it, `refnet-agent --ready` asks the one that runs."""

from __future__ import annotations

import os
import sys

_USAGE = "usage: refnet-agent [--ready | --version]"
_VERSION = "refnet-agent 0.1.0"


def main() -> int:
    """0: ended by a signal, or ready. 1: not ready, or it cannot work here. 2: wrong environment or usage."""
    match sys.argv[1:]:
        case []:
            return _run()
        case ["--ready"]:
            from refnet.agent.status import readiness

            is_ready, reason = readiness()
            print(reason)
            return 0 if is_ready else 1
        case ["--version"]:
            print(_VERSION)
            return 0
        case ["--help" | "-h"]:
            print(_USAGE)
            return 0
    return _complain(f"{' '.join(sys.argv[1:])}: not understood; {_USAGE}", 2)


def _run() -> int:
    from refnet.agent.settings import read_settings
    from refnet.errors import InvalidResource, RefnetError

    try:
        settings = read_settings(os.environ)
    except InvalidResource as error:
        for mistake in error.mistakes:
            _complain(f"environment: {mistake.path}: {mistake.given}; legal: {mistake.legal}", 2)
        return 2
    from refnet.agent.agent import Agent
    from refnet.agent.status import StatusFile

    try:
        status_file = StatusFile()
        if not status_file.take():
            return _complain("another agent runs on this node", 1)
        Agent(settings, status_file).run()
    except FileNotFoundError as error:
        return _complain(f"{error.filename}: not found on PATH" if error.filename else str(error), 1)
    except PermissionError as error:
        return _complain(f"{error.filename}: {error.strerror}; the agent needs root on its node", 1)
    except RefnetError as error:
        return _complain(error.message, 1)
    return 0


def _complain(message: str, code: int) -> int:
    print(f"refnet-agent: {message}", file=sys.stderr)
    return code
