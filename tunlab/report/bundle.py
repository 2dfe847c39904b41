"""bundle.tar: all that is needed to see a run's failures again: its labs, parts, manifests, versions and captures.

`./lab replay BUNDLE` builds the same cells from it and judges the same requirements.
"""

from __future__ import annotations

import filecmp
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tunlab.check.manifests import MANIFESTS, manifests_folder
from tunlab.check.verdict import Row, Verdict
from tunlab.errors import LabError, WorldError
from tunlab.lab.load import labs_folder
from tunlab.paths import ROOT
from tunlab.report.results import RUN_ID, Results
from tunlab.systems.refnet import PARTS, tree_of

BUNDLE, CONTENTS, SCHEMA = "bundle.tar", "replay.json", "tunlab/bundle/v1"
# What of the environment decides how it is judged: what HISTORY draws, and how long everything may take.
ENVIRONMENT = ("TUNLAB_SEED", "TUNLAB_TIME_FACTOR")
_LARGEST_BYTES = 512 * 1024 * 1024
_NO_SOURCES = ("__pycache__", "captures")


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

    @property
    def places(self) -> dict[str, str]:
        """Where in it other builds of parts are, by the part; a bundle that does not say so has each under its name."""
        told = self.data.get("parts")
        if told is None:
            told = {path.name: f"parts/{path.name}" for path in (self.folder / "parts").glob("*")}
        return {str(part): str(place) for part, place in told.items()}

    def strange(self) -> Iterator[str]:
        """What is another than it was then: the suites' commit, which judge, and the manifests, which stay unheeded."""
        then, now = str(self.data.get("commit", "")), commit()
        if then != now:
            yield f"the suites are of {now or 'no commit'}, then they were of {then or 'no commit'}"
        ours, theirs = MANIFESTS, self.folder / "manifests"
        for path in sorted(each.relative_to(theirs) for each in theirs.rglob("*") if each.is_file()):
            if not (ours / path).is_file() or not filecmp.cmp(ours / path, theirs / path, shallow=False):
                yield f"fixtures/manifests/{path} is another than the bundle's, which was applied"


def write_bundle(folder: Path, results: Results, labs: Mapping[str, Any]) -> Path:
    """Pack a run's folder, with what it was made of. Raises WorldError where it cannot, or nobody could read it.

    Like: tar -cf bundle.tar
    """
    path, part = folder / BUNDLE, folder / f".{BUNDLE}"
    places, files = _parts(results.options.get("with", {}))
    descriptions = [(f"labs/{name}.yaml", labs_folder() / f"{name}.yaml") for name in sorted(labs)]
    descriptions.append(("system.yaml", Path(results.system)))
    files += [(name, file) for name, file in descriptions if file.is_file()]
    files += _below(manifests_folder(), "manifests")
    files += [(name, file) for name, file in _below(folder, "run") if name not in (f"run/{BUNDLE}", f"run/{part.name}")]
    contents = (json.dumps(_contents(results, places), indent=1) + "\n").encode()
    try:
        _refuse_to_exceed(path, len(contents) + sum(file.stat().st_size for _, file in files))
        with tarfile.open(part, "w") as tar:
            _add(tar, CONTENTS, io.BytesIO(contents), len(contents))
            for name, file in files:
                with file.open("rb") as opened:
                    state = os.fstat(opened.fileno())
                    _add(tar, name, opened, state.st_size, mode=state.st_mode, mtime=state.st_mtime)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise WorldError(f"{path}: not written: {error}") from error
    return path


def read_bundle(path: Path, into: Path) -> Bundle:
    """Unpack a bundle into an empty folder. Raises LabError for what is none; nothing in it leaves that folder."""
    hint = "name a bundle.tar that `./lab conform` has written"
    try:
        with tarfile.open(path) as tar:
            if sum(member.size for member in tar.getmembers()) > _LARGEST_BYTES:
                raise LabError(f"{path}: holds more than {_LARGEST_BYTES >> 20} MiB", hint=hint)
            _unpack(tar, into)
        bundle = Bundle(into, json.loads((into / CONTENTS).read_text(encoding="utf-8")))
        is_ours = bundle.data["schema"] == SCHEMA and bool(bundle.rows)
        for part, place in bundle.places.items():
            if part not in PARTS or "," in place or not _is_below(place) or not (into / place).exists():
                raise LabError(f"{path}: no bundle: {part}={place}: no part that is in it", hint=hint)
    except tarfile.ReadError as error:
        raise LabError(f"{path}: no bundle: not a tar archive", hint=hint) from error
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(f"{path}: no bundle: {error}", hint=hint) from error
    if not is_ours:
        raise LabError(f"{path}: a bundle of another kind, or one with nothing judged in it", hint=hint)
    return bundle


def _parts(parts: Mapping[str, str]) -> tuple[dict[str, str], list[tuple[str, Path]]]:
    """Where each part is in the bundle, and the files that makes: a program alone, or all that it cannot do without.

    A tree keeps its name, which its scripts look for, and comes once, however many parts are of it.
    """
    places: dict[str, str] = {}
    trees: dict[Path, str] = {}
    files: list[tuple[str, Path]] = []
    for name, path in sorted((name, Path(path).resolve()) for name, path in parts.items()):
        tree = path if path.is_dir() else tree_of(path)
        if tree is None:
            places[name] = f"parts/{name}"
            files.append((places[name], path))
            continue
        if tree not in trees:
            trees[tree] = f"trees/{len(trees) + 1}/{tree.name}"
            files += _below(tree, trees[tree], without=_NO_SOURCES)
        places[name] = str(PurePosixPath(trees[tree], path.relative_to(tree)))
    return places, files


def _below(folder: Path, name: str, without: Collection[str] = ()) -> Iterator[tuple[str, Path]]:
    """The files below a folder, and what they are called in the bundle. Raises WorldError for a link to a folder in it.

    A link becomes the file that it leads to; one that leads out of the folder stays out: that is nobody's business.
    """
    home = folder.resolve()
    for path in sorted(home.rglob("*")):
        place = path.relative_to(home)
        if path.is_symlink() and path.is_dir() and path.resolve().is_relative_to(home):
            raise WorldError(f"{path}: a link to a folder, which no bundle holds", hint="make it a folder of its own")
        if path.is_file() and path.resolve().is_relative_to(home) and not set(place.parts) & set(without):
            yield str(PurePosixPath(name, place)), path


def _refuse_to_exceed(path: Path, size_bytes: int) -> None:
    if size_bytes > _LARGEST_BYTES:
        what = f"would hold {size_bytes / 2**20:.1f} MiB, and `./lab replay` reads no more than {_LARGEST_BYTES >> 20}"
        raise WorldError(f"{path}: {what}", hint="judge less at once: name labs, modes, or with -k what failed")


def _contents(results: Results, places: Mapping[str, str]) -> dict[str, Any]:
    told = results.to_json()
    kept = ("run", "started", "system", "system_version", "box", "kernel", "tools", "options")
    return {
        "schema": SCHEMA,
        **{name: told[name] for name in kept},
        "python": sys.version.split()[0],
        "commit": commit(),
        # Names, MACs and addresses follow from the lab's text.
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "parts": dict(places),
        "rows": told["requirements"],
    }


def commit() -> str:
    """Which suites judged: the checkout's commit, with a + where files differ from it; "" where there is no git."""
    argv = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _add(
    tar: tarfile.TarFile, name: str, content: BinaryIO, size_bytes: int, *, mode: int = 0o644, mtime: float = 0
) -> None:
    """Put a file in. Whose it was is nobody's business."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size_bytes, _plain(mode), mtime
    tar.addfile(member, content)


def _unpack(tar: tarfile.TarFile, into: Path) -> None:
    """Files and folders below `into`, and nothing else: without links a name without .. cannot lead out of there.

    By hand, for there are Pythons 3.11 (Debian's) in which `extractall` has no filter yet.
    """
    for member in tar:
        if not _is_below(member.name) or not (member.isfile() or member.isdir()):
            raise ValueError(f"{member.name}: no file or folder of a bundle")
        path = into / member.name
        (path if member.isdir() else path.parent).mkdir(parents=True, exist_ok=True)
        if source := tar.extractfile(member):  # a folder has none
            with path.open("wb") as file:
                shutil.copyfileobj(source, file)
            path.chmod(_plain(member.mode))


def _is_below(name: str) -> bool:
    """Whether a name leads to something below where it is looked up."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _plain(mode: int) -> int:
    """Of a file's mode what says whether it is a program."""
    return 0o755 if mode & 0o100 else 0o644
