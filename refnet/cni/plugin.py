"""The CNI plugin: one request from the environment and stdin, one JSON document on stdout (CNI spec, sections 2, 5)."""

# pathlib costs 8 ms of start-up:
# ruff: noqa: PTH103, PTH120, PTH123

from __future__ import annotations

import json
import os
import signal
import sys

from refnet.cni.failure import BUG, CniFailure, error_object
from refnet.cni.request import (
    LOG_LEVELS,
    OF_NO_POD,
    VERSIONS,
    Attachment,
    Configuration,
    read_attachment,
    read_command,
    read_configuration,
    read_json,
    version_of,
)
from refnet.errors import RefnetError
from refnet.model.block import timestamp

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any


def main() -> int:
    """Answer one request; the exit code: 0, or 1 with an error object on stdout."""
    signal.signal(signal.SIGTERM, _give_up)
    version = VERSIONS[-1]
    try:
        command = read_command(os.environ)
        text = sys.stdin.buffer.read()
        if command == "VERSION":
            return _say(_versions(text))
        version = _version_in(text)
        pod = None if command in OF_NO_POD else read_attachment(command, os.environ)
        conf = read_configuration(command, read_json(text))
        return _say(_answer(command, pod, conf))
    except RefnetError as error:
        return _fail(error_object(version, error))
    except Exception as error:  # noqa: BLE001 - the runtime is owed a JSON object, whatever happens
        import traceback

        bug = CniFailure(BUG, f"refnet-cni contradicts itself: {type(error).__name__}: {error}")
        bug.hint = traceback.format_exc()
        return _fail(error_object(version, bug))


def _answer(command: str, pod: Attachment | None, conf: Configuration) -> dict[str, Any] | None:
    whom = f"{pod.container_id} {pod.ifname}" if pod else conf.network
    _log(conf, "debug", f"{command} {pod or conf.network}")
    try:
        result = _do(command, pod, conf)
    except RefnetError as error:
        _log(conf, "error", f"{command} {whom}: {error.message}")
        raise
    _log(conf, "info", f"{command} {whom}: done")
    return result


def _do(command: str, pod: Attachment | None, conf: Configuration) -> dict[str, Any] | None:
    if pod is None:
        from refnet.cni import upkeep

        return {"STATUS": upkeep.status, "GC": upkeep.collect}[command](conf)
    from refnet.cni import attach  # the rest of the house; VERSION and refusals do without

    return {"ADD": attach.add, "DEL": attach.delete, "CHECK": attach.check}[command](pod, conf)


def _version_in(text: bytes) -> str:
    """The version to refuse in, before anything is known to be right."""
    try:
        return version_of(read_json(text))
    except RefnetError:
        return VERSIONS[-1]


def _versions(text: bytes) -> dict[str, Any]:
    """Our versions; the asked one is echoed (CNI spec, VERSION)."""
    asked = read_json(text).get("cniVersion") if text.strip() else None
    return {"cniVersion": asked if isinstance(asked, str) else VERSIONS[-1], "supportedVersions": list(VERSIONS)}


def _say(document: dict[str, Any] | None) -> int:
    if document is not None:
        print(json.dumps(document), flush=True)
    return 0


def _fail(document: dict[str, Any]) -> int:
    print(json.dumps(document), flush=True)
    print(f"refnet-cni: {document['msg']}", file=sys.stderr)
    return 1


def _log(conf: Configuration, level: str, message: str) -> None:
    """One line to the log file, if there is one. A full disk must not unplug pods: that only goes to stderr."""
    if not conf.log_file or LOG_LEVELS.index(level) < LOG_LEVELS.index(conf.log_level):
        return
    line = f"{timestamp()} [{level.upper()}] {message}\n"
    try:
        os.makedirs(os.path.dirname(conf.log_file) or ".", exist_ok=True)
        with open(conf.log_file, "a") as file:
            file.write(line)
    except OSError as error:
        print(f"refnet-cni: log file {conf.log_file}: {error.strerror}", file=sys.stderr)


def _give_up(*_: object) -> None:
    """On the first SIGTERM: unwind, so that an ADD takes back what it did."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise CniFailure(11, "ended by SIGTERM")
