# SPDX-License-Identifier: MIT
"""Standard output and standard error of a command: whatever they are, one clear line, and no traceback.

What they cannot write in their encoding, such as ü of a path in ASCII, is written as an escape.  An output that cannot
be written, as its reader has gone or the disk is full, is told on standard error, and no more is written there.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.errors import EX_OK, EX_OSERR, fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import SupportsWrite

OUTPUT_FAILURES = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT, errno.EFBIG)
OUTPUT = 1


class Parser(argparse.ArgumentParser):
    """argparse, which does not pass over an output that cannot be written."""

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        if message:
            (file or sys.stderr).write(message)


def with_output(program: str, run: Callable[[], int]) -> int:
    """Run a command, and write what it has for standard output.

    Args:
        program: its name, for messages.

    Returns:
        Its exit code; 71 where its output could not be written.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run()
    except SystemExit as stop:  # argparse: --help, --version and usage errors
        code = stop.code if isinstance(stop.code, int) else EX_OK
    except OSError as error:
        if error.filename is not None or error.errno not in OUTPUT_FAILURES:
            raise
        return _failed(program, error)
    try:
        sys.stdout.flush()
    except OSError as error:
        return code or _failed(program, error)
    return code


def _failed(program: str, error: OSError) -> int:
    give_up_output()
    tell(f"{program}: {fault(error, 'standard output')}")
    return EX_OSERR


def give_up_output() -> None:
    """Write nothing to standard output any more: what waits to be written there would fail again at the end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, OUTPUT)
    os.close(null)


def tell(line: str) -> None:
    """Write a line to standard error, in one piece, if that can be."""
    with suppress(OSError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


__all__ = ["Parser", "give_up_output", "tell", "with_output"]
