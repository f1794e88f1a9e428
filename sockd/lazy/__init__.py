# SPDX-License-Identifier: MIT
"""Modules that are imported when they are first used, so that a run pays for what it does and not for what it could do.

Two forms.  What is not sockd's stands below under its own name (`from sockd.lazy import json`).  A part of sockd that
only some services or commands need is named where the parts are put together:

    if TYPE_CHECKING:
        from sockd.services import relay
    else:
        relay = lazily("sockd.services.relay")

Likewise a regular expression is compiled when it is first used (`_WORD = pattern(r"[a-z]+")`), and what a module of the
standard library imports for its own rare cases can wait (`with without("traceback"): import logging`).

Such a module is used by its name (`relay.RelayService`), in functions alone: what is done at import loads it.  Outside
of commands (sockd.cli) and the self-test, whose library stays readable, no function has an import of its own, so that
load_all() knows each module: before the root directory changes, or where the serving user could not read this library,
everything that may be used later is imported (sockd.daemon.startup).
Names of sockd are found through the package, and those outside before any directory of handlers, which is the last on
sys.path (sockd.services.handlers_path).  Source: PEP 690, which was not accepted; PEP 810.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.lazy.modules import lazily, load, load_all, load_resident, without
from sockd.lazy.patterns import pattern

if TYPE_CHECKING:
    import ctypes
    import datetime
    import difflib
    import fractions
    import hashlib
    import hmac
    import importlib.util as importlib_util
    import inspect
    import json
    import pathlib
    import pkgutil
    import random
    import shutil
    import sysconfig
    import tempfile
    import tomllib
    import urllib.parse as urls

    import msgspec
    import psutil
else:
    ctypes, datetime, difflib, fractions, hashlib, hmac = map(
        lazily, ("ctypes", "datetime", "difflib", "fractions", "hashlib", "hmac")
    )
    inspect, json, msgspec, pathlib = map(lazily, ("inspect", "json", "msgspec", "pathlib"))
    pkgutil, psutil, random, shutil, sysconfig, tempfile, tomllib = map(
        lazily, ("pkgutil", "psutil", "random", "shutil", "sysconfig", "tempfile", "tomllib")
    )
    importlib_util, urls = lazily("importlib.util"), lazily("urllib.parse")

__all__ = [
    "ctypes",
    "datetime",
    "difflib",
    "fractions",
    "hashlib",
    "hmac",
    "importlib_util",
    "inspect",
    "json",
    "lazily",
    "load",
    "load_all",
    "load_resident",
    "msgspec",
    "pathlib",
    "pattern",
    "pkgutil",
    "psutil",
    "random",
    "shutil",
    "sysconfig",
    "tempfile",
    "tomllib",
    "urls",
    "without",
]
