# SPDX-License-Identifier: MIT
"""Standard output and standard error of a command: any failure gives one clear line, and no traceback.

Characters that the encoding lacks, such as ü of a path in ASCII, are written as escapes.  An output that cannot be
written, because its reader has gone or the disk is full, is reported on standard error, and nothing more is written to
it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.errors import EX_OK, EX_OSERR, fault
from sockd.process.descriptors import complete_streams

if TYPE_CHECKING:
    from collections.abc import Callable

OUTPUT_FAILURES = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT, errno.EFBIG)
OUTPUT = 1


def with_output(program: str, run: Callable[[], int]) -> int:
    """Run a command, and write its result to standard output.

    Args:
        program: its name, for messages.

    Returns:
        Its exit code; 71 if its output could not be written.
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
    complete_streams()  # Python flushes them at exit, and a handler may have closed or replaced them
    try:
        sys.stdout.flush()
    except OSError as error:
        return code or _failed(program, error)
    return code


def _failed(program: str, error: OSError) -> int:
    give_up_output()
    print_error(f"{program}: {fault(error, 'standard output')}")
    return EX_OSERR


def give_up_output() -> None:
    """Write nothing more to standard output: data waiting there would fail again at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, OUTPUT)
    os.close(null)


def print_error(line: str) -> None:
    """Write a line to standard error, in one piece if possible."""
    with suppress(OSError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


__all__ = ["OUTPUT", "give_up_output", "print_error", "with_output"]
