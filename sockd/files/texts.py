# SPDX-License-Identifier: MIT
"""Files whose contents are sent to clients as they are: read once, before the first client comes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError, under_key
from sockd.files.trusted import open_regular
from sockd.text import show

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES = 4096
"""Of one text, all of its files together: so much fits into the buffer of every socket at once, wmem_default and
tcp_wmem(7) at their smallest."""


def read_texts(paths: Iterable[str]) -> bytes:
    """Read files, one behind the other.

    Args:
        paths: absolute.

    Returns:
        Their contents, as they are: clients of old protocols look for CR LF, or for none.

    Raises:
        ConfigurationError: one cannot be read, or they are too long; names it.
    """
    text = b""
    for index, path in enumerate(paths):
        with under_key(index):
            text += _read_text(path)
            if len(text) > MAX_BYTES:
                limit = f"at most {MAX_BYTES} bytes are sent, of all files together"
                raise ConfigurationError(f"{show(path)} is too long: {limit}")
    return text


def _read_text(path: str) -> bytes:
    try:
        with os.fdopen(open_regular(path, show(path)), "rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{show(path)}: {error.strerror}") from None


__all__ = ["MAX_BYTES", "read_texts"]
