"""Frozen values as dataclasses make them, without what `import dataclasses` costs (with its classes some 15 ms, a
quarter of the CNI plugin's time). For the modules that the plugin loads; all others use dataclasses.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as mypy knows it, without importing typing

if TYPE_CHECKING:
    from typing import Any, TypeVar, dataclass_transform

    T = TypeVar("T")

    @dataclass_transform(frozen_default=True)
    def value(cls: type[T]) -> type[T]: ...

    def changed(one: T, **changes: Any) -> T: ...

else:

    def value(cls):
        """Give the class an __init__ from its annotations, equality, a hash and a repr, and freeze its instances.

        Defaults must be immutable. Attributes without an annotation are the class's own.
        """
        names = tuple(cls.__annotations__)
        defaults = {name: getattr(cls, name) for name in names if hasattr(cls, name)}

        def __init__(self, *positional, **named):
            if len(positional) > len(names) or not named.keys() <= set(names[len(positional) :]):
                raise TypeError(f"{cls.__name__}: takes {', '.join(names)}")
            fields = {**defaults, **dict(zip(names, positional, strict=False)), **named}
            if missing := [name for name in names if name not in fields]:
                raise TypeError(f"{cls.__name__}: lacks {', '.join(missing)}")
            self.__dict__.update(fields)

        def refuse(self, name, *_):
            raise AttributeError(f"{cls.__name__}.{name}: a value does not change")

        def content(self):
            return tuple(self.__dict__[name] for name in names)

        cls.__init__ = __init__
        cls.__setattr__ = cls.__delattr__ = refuse
        cls.__eq__ = lambda self, other: content(self) == content(other) if type(other) is cls else NotImplemented
        cls.__hash__ = lambda self: hash((cls, content(self)))
        cls.__repr__ = lambda self: f"{cls.__name__}({', '.join(f'{n}={self.__dict__[n]!r}' for n in names)})"
        return cls

    def changed(one, **changes):
        """A copy with some fields changed."""
        return type(one)(**{**one.__dict__, **changes})
