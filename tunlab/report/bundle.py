"""bundle.tar: all that is needed to see a run's failures again: its labs, parts, versions, commands and captures.

`./lab replay BUNDLE` builds the same cells from it and judges the same requirements.
"""

from __future__ import annotations

import filecmp
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunlab.check.verdict import Row, Verdict
from tunlab.errors import LabError
from tunlab.lab.load import labs_folder
from tunlab.paths import ROOT
from tunlab.report.results import RUN_ID, Results

BUNDLE, CONTENTS, SCHEMA = "bundle.tar", "replay.json", "tunlab/bundle/v1"
# What of the environment decides how it is judged: what HISTORY draws, and how long everything may take.
ENVIRONMENT = ("TUNLAB_SEED", "TUNLAB_TIME_FACTOR")
_MANIFESTS = ROOT / "fixtures" / "manifests"
_LARGEST_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class Bundle:
    """An unpacked bundle: what was asked, and which rows there were."""

    folder: Path
    data: Mapping[str, Any]

    @property
    def rows(self) -> list[Row]:
        """What was judged, the run's own row left out."""
        return [Row.from_json(one) for one in self.data["rows"] if one["id"] != RUN_ID]

    @property
    def again(self) -> list[Row]:
        """What is worth judging again: what failed or is broken; all, where nothing did."""
        bad = [row for row in self.rows if row.verdict in (Verdict.FAILED, Verdict.BROKEN)]
        return bad or self.rows

    @property
    def environment(self) -> dict[str, str]:
        """What of the run's environment decided how it was judged; nothing else of a bundle's goes into one's own."""
        told = self.data.get("environment")
        return {name: str(told[name]) for name in ENVIRONMENT if name in told} if isinstance(told, dict) else {}

    def strange(self) -> Iterator[str]:
        """What judges now and is not as it was then: the suites' commit, and manifests that tests apply."""
        then, now = str(self.data.get("commit", "")), commit()
        if then != now:
            yield f"the suites are of {now or 'no commit'}, then they were of {then or 'no commit'}"
        ours, theirs = _MANIFESTS, self.folder / "manifests"
        for path in sorted(each.relative_to(theirs) for each in theirs.rglob("*") if each.is_file()):
            if not (ours / path).is_file() or not filecmp.cmp(ours / path, theirs / path, shallow=False):
                yield f"fixtures/manifests/{path} is another than it was then"


def write_bundle(folder: Path, results: Results, labs: Mapping[str, Any]) -> Path:
    """Pack a run's folder, with what it was made of. Like: tar -cf bundle.tar"""
    path, part = folder / BUNDLE, folder / f".{BUNDLE}"
    with tarfile.open(part, "w") as tar:
        _add_text(tar, CONTENTS, json.dumps(_contents(results), indent=1) + "\n")
        for name in sorted(labs):
            if (lab := labs_folder() / f"{name}.yaml").is_file():
                tar.add(lab, f"labs/{name}.yaml", filter=_anonymous)
        tar.add(_MANIFESTS, "manifests", filter=_anonymous)
        for name, part_of_it in dict(results.options.get("with", {})).items():  # a program, or a folder of them
            tar.add(Path(part_of_it).resolve(), f"parts/{name}", filter=_anonymous)
        if (system := Path(results.system)).is_file():
            tar.add(system, "system.yaml", filter=_anonymous)
        for each in sorted(folder.iterdir()):
            if each not in (path, part):
                tar.add(each, f"run/{each.name}", filter=_anonymous)
    part.replace(path)
    return path


def read_bundle(path: Path, into: Path) -> Bundle:
    """Unpack a bundle into an empty folder. Raises LabError for what is none; nothing in it leaves that folder."""
    hint = "name a bundle.tar that `./lab conform` has written"
    try:
        with tarfile.open(path) as tar:
            if sum(member.size for member in tar.getmembers()) > _LARGEST_BYTES:
                raise LabError(f"{path}: holds more than {_LARGEST_BYTES >> 20} MiB", hint=hint)
            tar.extractall(into, filter="data")
        data = json.loads((into / CONTENTS).read_text(encoding="utf-8"))
        is_ours = data["schema"] == SCHEMA and bool(Bundle(into, data).rows)
    except tarfile.ReadError as error:
        raise LabError(f"{path}: no bundle: not a tar archive", hint=hint) from error
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise LabError(f"{path}: no bundle: {error}", hint=hint) from error
    if not is_ours:
        raise LabError(f"{path}: a bundle of another kind, or one with nothing judged in it", hint=hint)
    return Bundle(into, data)


def _contents(results: Results) -> dict[str, Any]:
    told = results.to_json()
    kept = ("run", "started", "system", "system_version", "box", "kernel", "tools", "options")
    return {
        "schema": SCHEMA,
        **{name: told[name] for name in kept},
        "python": sys.version.split()[0],
        "commit": commit(),
        # Names, MACs and addresses follow from the lab's text.
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "rows": told["requirements"],
    }


def commit() -> str:
    """Which suites judged: the checkout's commit, with a + where files differ from it; "" where there is no git."""
    argv = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Whose files these were is nobody's business; what is neither file nor folder stays out."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member if member.isfile() or member.isdir() else None
