"""A password from the first line of a file: for a server that asks us for one."""

from __future__ import annotations

import os

from sockd.errors import ConfigurationError, fault
from sockd.trusted import open_file

MAX_BYTES = 255  # RFC 1929


def read_password(path: str, place: str) -> str:
    """Read the first line of a file, without its end.

    Args:
        place: what messages begin with.

    Raises:
        ConfigurationError: it is empty, too long, or no text, or others may write it.
        SystemFault, PermissionFault: it cannot be read.
    """
    try:
        with os.fdopen(open_file(path, f"{place}: {path}"), "rb") as file:
            line = file.readline(MAX_BYTES + 2).rstrip(b"\r\n")
        password = line.decode("utf-8")
    except OSError as error:
        raise fault(error, f"{place}: {path}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{place}: {path}: its first line is not UTF-8") from None
    if not 1 <= len(line) <= MAX_BYTES:
        raise ConfigurationError(f"{place}: {path}: its first line has {len(line)} bytes; 1 to {MAX_BYTES} are needed")
    return password


__all__ = ["read_password"]
