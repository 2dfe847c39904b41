"""Manifests: YAML or JSON, one or many documents, lists of resources; all read and checked before anything is done."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from refnet.errors import InvalidResource, Mistake
from refnet.model.kinds import Kind, Resource, kind_of
from refnet.model.reading import shown


@dataclass(frozen=True)
class Document:
    """One resource of a manifest: as written, as understood, and what in it has no effect."""

    kind: Kind
    written: dict[str, Any]
    value: Resource
    warnings: tuple[str, ...]


def read_manifest(file: str) -> list[Document]:
    """All resources of a file (`-` is stdin). Raises InvalidResource with the mistakes of all of them."""
    documents: list[Document] = []
    mistakes: list[Mistake] = []
    for where, resource in _resources(file):
        try:
            kind = kind_of(resource)
            value = kind.read(resource)
        except InvalidResource as error:
            prefix = where if error.where == "resource" else f"{where}: {error.where}"
            mistakes += [Mistake(f"{prefix}: {m.path}", m.given, m.legal, m.hint) for m in error.mistakes]
            continue
        warnings = tuple(f"{where}: {path}: has no effect here" for path in kind.unknown(resource))
        documents.append(Document(kind, dict(resource), value, warnings))
    if not documents and not mistakes:
        mistakes.append(Mistake("(whole file)", "empty", "one or more resources"))
    if mistakes:
        raise InvalidResource(_called(file), mistakes)
    return documents


def _resources(file: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except OSError as error:
        raise InvalidResource(file, [Mistake("-f", error.strerror or str(error), "a readable file, or -")]) from error
    except UnicodeDecodeError as error:
        raise InvalidResource(_called(file), [Mistake("(whole file)", "not UTF-8 text", "YAML or JSON")]) from error
    try:
        written = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "(whole file)"
        problem = getattr(error, "problem", None) or str(error)
        raise InvalidResource(_called(file), [Mistake(place, problem, "YAML or JSON")]) from error
    for number, document in enumerate(written, 1):
        where = f"document {number}" if len(written) > 1 else "document"
        if isinstance(document, list):
            items = document
        elif isinstance(document, Mapping) and str(document.get("kind", "")).endswith("List"):
            items = document.get("items") or []
        else:
            yield where, _mapping(file, where, document)
            continue
        for index, item in enumerate(items):
            yield f"{where} [{index}]", _mapping(file, f"{where} [{index}]", item)


def _mapping(file: str, where: str, document: object) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        legal = "a mapping with apiVersion, kind, metadata, spec"
        raise InvalidResource(_called(file), [Mistake(where, shown(document), legal)])
    return document


def _called(file: str) -> str:
    return "stdin" if file == "-" else file
