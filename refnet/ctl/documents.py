"""Manifests: YAML or JSON, one or many documents, lists of resources; all read and checked before anything is done."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from refnet.errors import InvalidResource, Mistake
from refnet.model.kinds import Kind, Resource, kind_of
from refnet.model.reading import shown

_MOST_VALUES = 1_000_000


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a time stays the text it is: resources are stored as JSON, which has no times."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


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
            named = "" if error.where == "resource" else error.where
            place = [part for part in (where, named) if part]
            mistakes += [Mistake(": ".join([*place, m.path]), m.given, m.legal, m.hint) for m in error.mistakes]
            continue
        called = f"{kind.name}/{value.name}"
        warnings = tuple(f"{called}: {path}: has no effect here" for path in kind.unknown(resource))
        documents.append(Document(kind, dict(resource), value, warnings))
    if not documents and not mistakes:
        mistakes.append(Mistake("(whole file)", "empty", "one or more resources"))
    if mistakes:
        raise InvalidResource(_called(file), mistakes)
    return documents


def _weight(value: object, known: dict[int, int]) -> int:
    """How many values these are with every alias written out: a few lines of YAML can stand for billions."""
    if id(value) in known:
        return known[id(value)]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    known[id(value)] = 1  # what contains itself is refused elsewhere; here it must only come to an end
    known[id(value)] += sum(_weight(child, known) for child in children)
    return known[id(value)]


def _resources(file: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except OSError as error:
        raise InvalidResource(file, [Mistake("-f", error.strerror or str(error), "a readable file, or -")]) from error
    except UnicodeDecodeError as error:
        raise InvalidResource(_called(file), [Mistake("(whole file)", "not UTF-8 text", "YAML or JSON")]) from error
    try:
        written = [document for document in yaml.load_all(text, _Loader) if document is not None]
        weight = sum(_weight(document, {}) for document in written)
    except RecursionError as error:
        raise _endless(file) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "(whole file)"
        problem = getattr(error, "problem", None) or str(error)
        raise InvalidResource(_called(file), [Mistake(place, problem, "YAML or JSON")]) from error
    if weight > _MOST_VALUES:
        given, legal = f"{weight} values once its aliases are written out", f"at most {_MOST_VALUES}"
        raise InvalidResource(_called(file), [Mistake("(whole file)", given, legal)])
    try:
        json.dumps(written)
    except (ValueError, RecursionError) as error:
        raise _endless(file) from error
    except TypeError as error:
        legal = "mappings, lists, texts, numbers, true, false"
        raise InvalidResource(_called(file), [Mistake("(whole file)", f"not plain data: {error}", legal)]) from error
    for number, document in enumerate(written, 1):
        where = f"document {number}" if len(written) > 1 else ""
        if isinstance(document, list):
            items = document
        elif isinstance(document, Mapping) and str(document.get("kind", "")).endswith("List"):
            items = document.get("items") or []
        else:
            yield where, _mapping(file, where, document)
            continue
        for index, item in enumerate(items):
            place = f"{where} [{index}]".lstrip()
            yield place, _mapping(file, place, item)


def _endless(file: str) -> InvalidResource:
    mistake = Mistake("(whole file)", "nested too deeply, or in itself", "resources of projectcalico.org/v3")
    return InvalidResource(_called(file), [mistake])


def _mapping(file: str, where: str, document: object) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        legal = "a mapping with apiVersion, kind, metadata, spec"
        raise InvalidResource(_called(file), [Mistake(where or "(whole file)", shown(document), legal)])
    return document


def _called(file: str) -> str:
    return "stdin" if file == "-" else file
