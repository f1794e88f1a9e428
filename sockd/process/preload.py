# SPDX-License-Identifier: MIT
"""Load, before chroot(2), what would be loaded from files later (FAQ II.20).

In an empty root there is no module, no codec, no time zone and no shared library to be
found.  What a handler needs besides must be imported when its module is.
"""

from __future__ import annotations

import ctypes
import encodings
import importlib
import pkgutil
import socket
import time
from contextlib import suppress

LAZY_MODULES = ("linecache", "locale", "stringprep", "tokenize", "unicodedata")
"""What the standard library imports when it first needs it: for tracebacks, for names that are not ASCII."""


def load() -> None:
    """Load every codec, the time zone, the resolver's libraries and the modules that are imported late."""
    for module in LAZY_MODULES:
        with suppress(ImportError):
            importlib.import_module(module)
    for codec in pkgutil.iter_modules(encodings.__path__):
        with suppress(ImportError, LookupError):  # mbcs and oem are Windows'
            importlib.import_module(f"encodings.{codec.name}")
    time.tzset()
    time.localtime()
    with suppress(OSError):
        socket.getaddrinfo("localhost", None)  # nsswitch.conf(5) names libraries, which are loaded with the first name
    with suppress(OSError):
        ctypes.CDLL("libgcc_s.so.1")  # glibc loads it when a thread is ended, and aborts where it is not found
