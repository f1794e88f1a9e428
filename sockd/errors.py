# SPDX-License-Identifier: MIT
"""Errors that a person can act on, each with its exit code of sysexits(3).

Errors of the caller (usage, configuration) and refusals of the system are different types; an error of a peer is never
an exception of this module, but a close reason (see sockd.wire.close_reason).
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeGuard, cast

from sockd.text import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.text import KeyPath

EX_OK = 0
EX_USAGE = 64
EX_SOFTWARE = 70
EX_OSERR = 71
EX_TEMPFAIL = 75
EX_PROTOCOL = 76
EX_NOPERM = 77
EX_CONFIG = 78


class SockdError(Exception):
    """Base of every error that sockd raises itself; str() is the message: place, key, text.

    Args:
        text: what is wrong, with the value, and what to do about it.
        key: the setting that is wrong, if one is: its path, or the end of it that is known here (under_key).

    Attributes:
        key: as given, and completed.
        place: where that is written, as `file:line` (sockd.settings.Settings.located).
        is_reported: it is already in the log on standard error.
    """

    exit_code = EX_OSERR
    is_reported = False

    def __init__(self, text: str = "", *, key: KeyPath = ()) -> None:
        super().__init__(text)
        self.key = key
        self.place = ""

    @property
    def text(self) -> str:
        """What is wrong, without the key."""
        return super().__str__()

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.place, dotted(self.key), self.text)))


class UsageError(SockdError):
    """The command line is wrong."""

    exit_code = EX_USAGE


class ConfigurationError(SockdError):
    """The configuration is wrong; the message names file, key path and value."""

    exit_code = EX_CONFIG


class AddressError(ConfigurationError, ValueError):
    """The text is not an address; the message names the text and the reason."""


class HandlerError(ConfigurationError):
    """A handler cannot be imported or is not a handler; names file and line."""


class SystemFault(SockdError):
    """The system refused; the message names the address or path and the cause."""


class TemporaryFault(SockdError):
    """The same command may succeed later: refused, timed out, unreachable."""

    exit_code = EX_TEMPFAIL


class RemoteError(SockdError):
    """Another process refuses; with its reason and exit code."""

    def __init__(self, text: str, exit_code: int, *, key: KeyPath = ()) -> None:
        super().__init__(text, key=key)
        self.exit_code = exit_code


class PermissionFault(SockdError):
    """The system requires privileges that this process does not have."""

    exit_code = EX_NOPERM


TABLES = ("daemon", "listen", "service")
"""Of a configuration: what a complete path of a key begins with."""


@contextmanager
def under_key(*path: str | int) -> Iterator[None]:
    """Have errors that are raised within be about a key: this path stands before their own, unless that is complete."""
    try:
        yield
    except SockdError as error:
        is_complete = len(error.key) > 1 and error.key[0] in TABLES
        error.key = error.key if is_complete else (*path, *error.key)
        raise


def fault(error: OSError, subject: str) -> SockdError:
    """Add the subject (an address, a path) to an OSError.

    Args:
        error: what a system call raised.
        subject: the address or path it was raised for.

    Returns:
        PermissionFault for EACCES and EPERM, SystemFault for everything else.
    """
    code = error.errno or 0
    name = errno.errorcode.get(code, "error")
    text = f"{subject}: {os.strerror(code) if code else error} ({name})"
    kind = PermissionFault if code in (errno.EACCES, errno.EPERM) else SystemFault
    return kind(text)


def say_reader() -> str:
    """Return whom a file is closed to, for the end of the message that it cannot be read."""
    return f"it was read as uid {os.geteuid()}, which needs read access"


class Close(Exception):
    """Raised by a handler: close this connection gracefully, after these last words.

    Args:
        last_words: a last reply, framed like every other; None for none. With `Service(text=...)` it is text.

    Raises:
        TypeError: last_words is no reply; raised in the handler, where the error is.
    """

    def __init__(self, last_words: bytes | bytearray | memoryview | str | tuple[object, ...] | None = None) -> None:
        if last_words is not None and not isinstance(last_words, (bytes, bytearray, memoryview, str, tuple)):
            raise TypeError(f"last_words: expected a bytes-like object, not {type(last_words).__name__}")
        super().__init__(last_words)
        if isinstance(last_words, (bytearray, memoryview)):
            last_words = bytes(last_words)
        self.last_words: bytes | bytearray | memoryview | tuple[object, ...] | None
        self.last_words = last_words  # type: ignore[assignment]  # text: a service of text encodes it


def as_exception(error: BaseException) -> Exception:
    """Return the exception for connection_lost() after a handler error; StopIteration means something else there."""
    if issubclass(type(error), Exception) and not issubclass(type(error), (StopIteration, StopAsyncIteration)):
        return cast("Exception", error)
    wrapped = RuntimeError(f"the handler raised {type(error).__name__}")
    wrapped.__cause__ = error
    return wrapped


def is_close(error: BaseException) -> TypeGuard[Close]:
    """Return whether a handler has raised Close; its real class decides, not its `__class__`."""
    return issubclass(type(error), Close)
