# SPDX-License-Identifier: MIT
"""What can fail in TLS, by a peer's doing or for lack of memory, and how it is called."""

from __future__ import annotations

import ssl
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILURES = (OSError, ValueError, MemoryError)
"""Exceptions that a peer, or a lack of memory, can cause in ssl: ssl.SSLError is an OSError, and ValueError is
raised if bytes of the peer are not text (UnicodeDecodeError).
"""


@contextmanager
def invalid_names_unreported() -> Iterator[None]:
    """Suppress an invalid server name of a client: the handshake fails, and that is reported.

    ssl calls sni_callback with it as ASCII, and has a failure of that printed to standard error, traceback and all.
    """
    before = sys.unraisablehook

    def report_other(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is not UnicodeDecodeError:
            before(unraisable)

    sys.unraisablehook = report_other
    try:
        yield
    finally:
        sys.unraisablehook = before


def words(error: BaseException) -> str:
    """Describe a failure, for the log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verification failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason: str | None = getattr(error, "reason", None)
        return reason.replace("_", " ").lower() if reason else str(error)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) or type(error).__name__


__all__ = ["FAILURES", "invalid_names_unreported", "words"]
