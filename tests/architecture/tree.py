"""Reads the project's Python files for the laws of the house; each law is a function from files to offences."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("tunlab", "refnet", "tests", "suites", "bench")


@dataclass(frozen=True)
class Source:
    """One file: its path in the checkout and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def package(self) -> str:
        """The package that relative imports start from."""
        return self.module if self.path.endswith("/__init__.py") else self.module.rpartition(".")[0]

    def at(self, node: ast.AST, words: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 0)}: {words}"


def project() -> list[Source]:
    """Every Python file of the project, also those without a suffix that a shebang names."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file() and is_python(path)]
    return [Source(str(path.relative_to(ROOT)), path.read_text()) for path in sorted([*found, ROOT / "tasks.py"])]


def is_python(path: Path) -> bool:
    if path.suffix:
        return path.suffix == ".py"
    with path.open("rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and b"python" in first


def imports(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Every module that a file names in an import, wherever it stands; `from a import b` is `a.b`.

    What an `if TYPE_CHECKING:` imports counts as well: a type is knowledge too.
    """
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            start = source.package.split(".")
            above = ".".join(start[: len(start) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, [above, node.module or ""]))
            for alias in node.names:
                yield node, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and called(node) in ("importlib.import_module", "import_module", "__import__"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node, argument.value


def called(node: ast.Call) -> str:
    """The dotted name of what is called, as it is written."""
    return dotted(node.func)


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def strings(source: Source) -> Iterator[ast.Constant]:
    """Every string that is a value: docstrings and comments may speak of anything."""
    spoken = set()
    for node in ast.walk(source.tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                spoken.add(id(statement.value))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in spoken:
            yield node


def functions(source: Source) -> Iterable[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
