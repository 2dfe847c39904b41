"""The text of a lab file as plain data, with the line of every key; doubled keys are mistakes here."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import yaml

from tunlab.lab.mistakes import KeyPath, Mistake, shown


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed file: `data` as YAML's safe loader sees it, and the line (from 1) on which each path stands."""

    data: object
    lines: dict[KeyPath, int]
    mistakes: tuple[Mistake, ...]

    def line(self, path: KeyPath) -> int:
        """The line of a path, or of the nearest thing around it that the file really has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_text(text: str) -> Source:
    """Parse YAML. What is no YAML at all comes back as one mistake and no data."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            lines: dict[KeyPath, int] = {}
            doubled = [] if root is None else list(_walk(root, (), lines, ()))
            data = None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        return Source(None, {(): _line_of(error)}, (_not_yaml(error),))
    return Source(data, lines, tuple(doubled))


def _walk(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], above: tuple[yaml.Node, ...]) -> Iterator[Mistake]:
    lines.setdefault(path, node.start_mark.line + 1)
    if any(node is each for each in above):
        raise yaml.constructor.ConstructorError(None, None, "an alias that contains itself", node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*path, index), lines, (*above, node))
    elif isinstance(node, yaml.MappingNode):
        seen: dict[Hashable, int] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            line = key.start_mark.line + 1
            if name in seen:
                yield Mistake(
                    (*path, name),
                    f"written twice, on lines {seen[name]} and {line}",
                    "each key once",
                    "YAML would silently keep the second one: delete one of them",
                )
            seen.setdefault(name, line)
            lines.setdefault((*path, name), line)
            yield from _walk(value, (*path, name), lines, (*above, node))


def _not_yaml(error: yaml.YAMLError) -> Mistake:
    reason = "it cannot be read"
    if isinstance(error, yaml.MarkedYAMLError):
        # PyYAML puts the reason into `problem` and, for half of its errors, the circumstances into `context`.
        reason = ", ".join(each for each in (error.context, error.problem) if each)
    elif isinstance(error, yaml.reader.ReaderError):
        reason = f"the character {shown(chr(error.character))} is not allowed"
    return Mistake(
        (),
        f"not YAML: {reason}",
        "a YAML mapping with description, segments, nodes, …",
        "look at this line and the one above it: indentation with spaces, a space after each colon",
    )


def _line_of(error: yaml.YAMLError) -> int:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return mark.line + 1 if mark is not None else 1
