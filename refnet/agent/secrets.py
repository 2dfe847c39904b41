"""Passwords of BGP sessions: files on the node, NAME/KEY below one folder, as Kubernetes mounts its Secrets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from refnet.model.bgp import SecretKey

FOLDER = Path("/etc/calico/secrets")
# TCP_MD5SIG_MAXKEYLEN of linux/tcp.h
_MAX_BYTES = 80


def read_secrets(needed: Iterable[SecretKey], folder: Path = FOLDER) -> tuple[dict[SecretKey, str], str]:
    """The passwords that are there, and what is wrong with the first of the others. A last newline does not count."""
    found: dict[SecretKey, str] = {}
    wrong = ""
    for secret in sorted(needed):
        path = folder / secret.name / secret.key
        try:
            password = path.read_text().removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "not text"
            wrong = wrong or f"bgp password: {path}: {reason}"
            continue
        if not _is_usable(password):
            wrong = wrong or f"bgp password: {path}: not 1 to {_MAX_BYTES} printable characters without quotes"
            continue
        found[secret] = password
    return found, wrong


def _is_usable(password: str) -> bool:
    """BIRD's texts know no escapes, and TCP's MD5 option no longer keys."""
    return 0 < len(password) <= _MAX_BYTES and password.isascii() and password.isprintable() and '"' not in password
