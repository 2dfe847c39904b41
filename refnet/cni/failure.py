"""What the plugin answers when it cannot do as asked: a code of the CNI spec and a message (CNI spec, section 5)."""

from __future__ import annotations

from refnet.errors import (
    AlreadyExists,
    InvalidResource,
    KernelRefused,
    NoAddress,
    NotFound,
    RefnetError,
    StoreConflict,
    StoreCorrupt,
    StoreUnavailable,
)

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any

INCOMPATIBLE_VERSION, ENVIRONMENT, DECODING, CONFIGURATION, TRY_LATER, UNAVAILABLE = 1, 4, 6, 7, 11, 50
"""Codes of the CNI spec."""

NO_ADDRESS, KERNEL_REFUSED, ALREADY_EXISTS, NOT_AS_PROMISED, STORE_CORRUPT, BUG = 101, 102, 103, 104, 105, 199
"""Codes of our own: the spec leaves 100 and above to plugins."""

_CODES: tuple[tuple[type[RefnetError], int], ...] = (
    (InvalidResource, CONFIGURATION),
    (StoreUnavailable, TRY_LATER),
    (StoreConflict, TRY_LATER),
    (StoreCorrupt, STORE_CORRUPT),
    (NoAddress, NO_ADDRESS),
    (KernelRefused, KERNEL_REFUSED),
    (AlreadyExists, ALREADY_EXISTS),
    (NotFound, NOT_AS_PROMISED),
)


class CniFailure(RefnetError):
    """A refusal with its CNI code."""

    def __init__(self, code: int, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


def error_object(version: str, error: RefnetError) -> dict[str, Any]:
    """The JSON that goes to stdout."""
    if isinstance(error, CniFailure):
        code = error.code
    else:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), BUG)
    return {"cniVersion": version, "code": code, "msg": error.message, "details": error.hint}
