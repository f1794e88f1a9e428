# SPDX-License-Identifier: MIT
"""What a run imports: a list by name, so that no machine's speed is in it.

Seen to fail where a module of a run imported msgspec at its top.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sockd import importer
from sockd.cli.verbs import IMPORT_FORMATS

ROOT = Path(__file__).parents[2]
WATCH = """
import atexit, os, sys
def write():
    with open(os.environ["MODULES"], "w") as file:
        file.write("\\n".join(sys.modules))
def leave(code, leave=os._exit):
    write()
    leave(code)
atexit.register(write)
os._exit = leave
"""
"""A sitecustomize that writes down what was imported by the end."""

NEVER = [
    "asyncio", "ssl", "email", "importlib.metadata", "psutil", "uuid", "inspect", "dataclasses", "rich", "http",
    "hashlib",
]  # fmt: skip
"""Of what is not sockd's, in no run that does not ask for it: each takes between two and twenty milliseconds."""
RARELY = [
    *NEVER, "ctypes", "msgspec", "json", "pathlib", "datetime", "tomllib", "difflib", "subprocess",
    "shutil", "urllib", "pickle", "traceback", "tokenize", "textwrap", "importlib.util", "copy",
]  # fmt: skip
"""Nor these, where no configuration is read and nobody controls it."""
FOR_WORDS = ["argparse", "gettext", "locale", "sockd.cli.sockd_parser"]
"""Nor these, but for --help, --version and a mistake."""
OF_SOCKCTL = ["json", "traceback", "tokenize", "textwrap"]
"""What the control socket speaks, and what the log imports there."""
OTHERS = [
    "sockd.cli.check", "sockd.client.connect", "sockd.daemon.workers", "sockd.daemon.upgrade.receiver",
    "sockd.importer", "sockd.net.loop.asyncio_loop", "sockd.net.relay", "sockd.net.tls.context",
    "sockd.net.tls.starttls", "sockd.selftest", "sockd.services.builtin.http", "sockd.services.builtin.small_services",
    "sockd.services.exec.service",
    "sockd.services.handlers.batch", "sockd.services.handlers.blocking", "sockd.services.handlers.coroutine",
    "sockd.services.handlers.sinks", "sockd.services.handlers.text", "sockd.services.relay", "sockd.services.socks",
    "sockd.wire.http", "sockd.wire.socks_server",
]  # fmt: skip
"""Of sockd, what a service of the C core does not need."""
OF_DAEMONS = [
    "sockd.config.convert", "sockd.config.toml", "sockd.daemon.control", "sockd.daemon.daemon", "sockd.daemon.drain",
    "sockd.daemon.listeners", "sockd.daemon.reload",
    "sockd.daemon.upgrade.sender", "sockd.net.listen.bind", "sockd.net.listen.stream_listener", "sockd.net.udp",
    "sockd.process.pidfile", "sockd.wire.control",
]  # fmt: skip
"""What inetd mode, on a pipe, does not need besides."""
MODULES = 130
"""Of sockd, in inetd mode on a pipe, where there were 164: fifty microseconds each, and what is in it."""


@pytest.fixture
def imported(tmp_path, sockd_script):
    """Run a command, and return the names of the modules that it has imported."""
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    file = tmp_path / "modules"

    def run(*words: str, program: str = "sockd", code: int = 0) -> set[str]:
        script = str(Path(sockd_script).with_name(program))
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "MODULES": str(file)}
        done = subprocess.run(
            [script, *words], input=b"hi\n", capture_output=True, env=environment, cwd=tmp_path, timeout=60
        )
        assert done.returncode == code, done
        return set(file.read_text().split())

    return run


OF_ARGPARSE = """
import argparse
parser = argparse.ArgumentParser(formatter_class=lambda prog: argparse.HelpFormatter(prog, width=80))
parser.add_subparsers()
parser.format_help()
"""
OF_TRACEBACK = "import traceback; getattr(traceback, '_colorize', None)\n"  # 3.15 imports it when it is used


@pytest.fixture(scope="module")
def of_python():
    """What these import by themselves: from CPython 3.14 on both ask _colorize, which has dataclasses."""

    def run(program: str) -> set[str]:
        words = [sys.executable, "-P", "-c", f"import sys\n{program}\nprint(*sys.modules)"]
        return set(subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout.split())

    return run


def among(modules: set[str], names: list[str]) -> list[str]:
    """Return which of the names, or of modules in packages of these names, were imported."""
    return sorted(one for one in modules if any(one == name or one.startswith(f"{name}.") for name in names))


def test_inetd_mode(imported):
    modules = imported("--inetd", "upper")
    assert "sockd.daemon.inetd" in modules  # it was watched
    assert among(modules, [*RARELY, *FOR_WORDS, *OTHERS, *OF_DAEMONS]) == []
    assert len(among(modules, ["sockd"])) <= MODULES


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_what_says_a_word_imports_no_daemon(imported, of_python, word):
    modules = imported(word) - of_python(OF_ARGPARSE)
    assert "sockd.cli.sockd" in modules
    rarely = [one for one in RARELY if one != "textwrap"]  # which argparse imports
    of_daemons = [*OF_DAEMONS, "sockd.daemon.daemon", "sockd.services", "sockd.config"]
    assert among(modules, [*rarely, *OTHERS, *of_daemons]) == []


@pytest.mark.parametrize(
    ("words", "code"), [(["--version"], 0), (["--help"], 0), (["status", "--control", "none"], 71)]
)
def test_sockctl(imported, of_python, words, code):
    modules = imported(*words, program="sockctl", code=code) - of_python(OF_ARGPARSE + OF_TRACEBACK)
    assert "sockd.cli.sockctl" in modules
    rarely = [one for one in RARELY if one not in OF_SOCKCTL]
    of_daemons = [one for one in OF_DAEMONS if one != "sockd.wire.control"]
    assert among(modules, [*rarely, *OTHERS, *of_daemons, "sockd.daemon", "sockd.services"]) == []


def test_a_daemon_of_the_built_in_services(tmp_path, sockd_script, ask_until_up, of_python):
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "MODULES": str(tmp_path / "modules")}
    with subprocess.Popen(
        [sockd_script, "--foreground", "--listen", f"unix:{tmp_path}/upper=upper", "--listen", "tcp://127.0.0.1:0=echo"],
        env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert ask_until_up(process, f"{tmp_path}/upper") == b"HI\n"
        process.terminate()
        process.stdout.read()
    assert process.returncode == 0
    modules = set((tmp_path / "modules").read_text().split())
    assert "traceback" in modules  # to log an exception when no descriptor is left to import it by
    of_upgrades = {"inspect", "uuid"}  # from msgspec; the next process may be another version's, so these are there
    assert set(among(modules - of_python(OF_TRACEBACK), [*NEVER, *OTHERS])) <= of_upgrades


@pytest.fixture
def ask_until_up():
    """Wait for the banner of a daemon, then ask it over a Unix socket."""
    import socket

    def ask(process, path: str) -> bytes:
        for line in process.stdout:
            if b"Press Ctrl-C" in line:
                break
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(path)
            sock.sendall(b"hi\n")
            return sock.recv(100)

    return ask


def test_no_function_imports_a_part_of_sockd():
    """Else load_all() would not know of it, and after chroot(2) it would not be found."""
    allowed = {"sockd/cli", "sockd/selftest", "sockd/testing"}  # a command, or a test, keeps its library
    found = []
    for path in (ROOT / "sockd").rglob("*.py"):
        if any(str(path.relative_to(ROOT)).startswith(one) for one in allowed):
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = [one for one in ast.walk(function) if isinstance(one, ast.Import | ast.ImportFrom)]
                found += [f"{path.relative_to(ROOT)}: {ast.unparse(one)}" for one in inner]
    assert sorted(found) == [
        "sockd/values/late.py: from dataclasses import FrozenInstanceError",
        "sockd/values/late.py: import dataclasses",
    ]


def test_every_late_module_can_be_imported():
    """In a process of its own: a name that is misspelt would be found by its first user alone."""
    code = (
        "import asyncio, sockd.cli.sockd, sockd.lazy as lazy; from sockd.cli import inetd, serve; "
        "lazy.load_all(); import sys; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.split())
    assert {"ssl", "psutil", "msgspec", "sockd.services.socks", "sockd.services.handlers.coroutine"} <= modules
    missing = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "sockd").rglob("*.py")
        if path.relative_to(ROOT).parts[1] in ("daemon", "services", "net", "process", "wire", "log")
    } - modules
    assert missing == set()


def test_the_formats_that_sockctl_names_are_those_of_the_importer():
    assert importer.FORMATS == IMPORT_FORMATS


def test_what_cannot_be_imported_is_refused_where_it_is_used():
    """Seen failing with a load_all() that raises: a daemon under chroot did not start where Python has no ssl."""
    program = (
        "import sys; sys.modules['_ssl'] = None\n"
        "from sockd import errors, lazy\n"
        "tls = lazy.lazily('sockd.net.tls.context')\n"
        "lazy.load_all()\n"
        "try: tls.ServerContext\n"
        "except errors.SystemFault as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("sockd.net.tls.context cannot be imported: "), done.stderr
