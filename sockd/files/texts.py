# SPDX-License-Identifier: MIT
"""Files whose contents are sent to clients as they are: read once, before the first client comes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError
from sockd.files.trusted import open_regular
from sockd.text import show

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES = 4096
"""Of one text, all of its files together: so much fits into the buffer of every socket at once, wmem_default and
tcp_wmem(7) at their smallest."""


def read_texts(place: str, paths: Iterable[str]) -> bytes:
    """Read files, one behind the other.

    Args:
        place: the key that names them, for messages.
        paths: absolute.

    Returns:
        Their contents, as they are: clients of old protocols look for CR LF, or for none.

    Raises:
        ConfigurationError: one cannot be read, or they are too long; names it.
    """
    text = b""
    for index, path in enumerate(paths):
        here = f"{place}[{index}]: {show(path)}"
        try:
            with os.fdopen(open_regular(path, here), "rb") as file:
                text += file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(f"{here}: {error.strerror}") from None
        if len(text) > MAX_BYTES:
            raise ConfigurationError(f"{here} is too long: at most {MAX_BYTES} bytes are sent, of all files together")
    return text


__all__ = ["MAX_BYTES", "read_texts"]
