# SPDX-License-Identifier: MIT
"""`sockctl password NAME`: asks for a password, and gives the line of a users' file."""

from __future__ import annotations

import getpass
import sys

from sockd.errors import UsageError
from sockd.services.socks.users import hash_password

MAX_BYTES = 255  # RFC 1929: one octet of length


def line_of(user: str) -> str:
    """Ask for a password, twice on a terminal, else one line of standard input; return NAME:HASH.

    Raises:
        UsageError: name or password cannot be one, or the two differ.
    """
    if ":" in user or user.startswith("#") or user != user.strip() or not 1 <= len(user.encode()) <= MAX_BYTES:
        raise UsageError(f'"{user}" cannot be a user: 1 to {MAX_BYTES} bytes, no colon, no "#" or blank at its ends')
    password = _ask(user).encode(errors="surrogateescape")
    if not 1 <= len(password) <= MAX_BYTES or b"\0" in password:
        raise UsageError(f"a password has 1 to {MAX_BYTES} bytes and no NUL")
    return f"{user}:{hash_password(password)}"


def _ask(user: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass(f"password of {user}: ")
    if getpass.getpass("once more: ") != password:
        raise UsageError("the two differ; nothing was made")
    return password


__all__ = ["line_of"]
