# SPDX-License-Identifier: MIT
"""`sockctl password NAME`: prompts for a password, and prints the line of a users file."""

from __future__ import annotations

import getpass
import sys

from sockd.errors import UsageError
from sockd.services.socks.users import hash_password

MAX_BYTES = 255  # RFC 1929: one octet of length


def user_line(user: str) -> str:
    """Read a password, twice on a terminal, else one line of standard input; return NAME:HASH.

    Raises:
        UsageError: name or password is not valid, or the two passwords differ.
    """
    if ":" in user or user.startswith("#") or user != user.strip() or not 1 <= len(user.encode()) <= MAX_BYTES:
        raise UsageError(
            f'"{user}" is not a valid user name: use 1 to {MAX_BYTES} bytes, no colon, no "#" or blank at either end'
        )
    password = _ask(user).encode(errors="surrogateescape")
    if not 1 <= len(password) <= MAX_BYTES or b"\0" in password:
        raise UsageError(f"a password must have 1 to {MAX_BYTES} bytes and no NUL")
    return f"{user}:{hash_password(password)}"


def _ask(user: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass(f"password of {user}: ")
    if getpass.getpass("repeat it: ") != password:
        raise UsageError("the two passwords differ; no line was printed")
    return password


__all__ = ["user_line"]
