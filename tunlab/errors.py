"""Every error of the judge, sorted by whose fault it is; the command line maps them to exit codes.

TunlabError
├── LabError      the description is wrong: a lab file, an option, a manifest; mending it is the caller's work
├── WorldError    the kernel or a tool refused; the lab is broken, which says nothing about the system
├── SystemFault   the system under test did not keep its word (it died, was not ready in time, refused a pod)
└── Bug           this program contradicts itself
"""

from __future__ import annotations


class TunlabError(Exception):
    """One mistake or refusal: *where: what was asked: what came back*, and how to mend it on a line of its own."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class LabError(TunlabError):
    """The description is wrong. `mistakes` holds one text per mistake when a file has several."""

    def __init__(self, message: str, *, hint: str = "", mistakes: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.mistakes = mistakes


class WorldError(TunlabError):
    """The kernel, a tool or the box refused or vanished."""


class SystemFault(TunlabError):
    """The system under test broke a promise outside any single requirement."""


class Bug(TunlabError):
    """The judge contradicts itself; never the system's fault."""
