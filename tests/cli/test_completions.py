# SPDX-License-Identifier: MIT
"""Completions: the shells themselves are asked, and offer every option of --help.

Seen failing, each once: an option taken out of the parser's list in each of the three files.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

DIRECTORY = Path(__file__).parents[2] / "packaging" / "completions"
BIN = Path(sys.executable).parent
VERBS = (
    "connect", "selftest", "bind", "import",
    "status", "connections", "close", "drain", "reload", "plan", "stop", "top", "log-level",
)  # fmt: skip
COMMANDS = [("sockd",), ("sockctl",), *(("sockctl", verb) for verb in VERBS)]
LIMIT_S = 60

pytestmark = pytest.mark.skipif(not DIRECTORY.is_dir(), reason="the tests stand alone, without packaging/")

BASH = r"""
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
compopt() { :; }
"_$1"
printf '%s\n' "${COMPREPLY[@]}"
"""


def flags_of(words):
    done = subprocess.run(
        [BIN / words[0], *words[1:], "--help"], capture_output=True, text=True, cwd="/", timeout=LIMIT_S
    )
    lines = done.stdout.partition("options:")[2].splitlines()
    return {flag for line in lines for flag in re.findall(r"(?:^  |, )(--?[\w-]+)", line)}


def bash(*words, cwd="/"):
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", DIRECTORY / "bash" / words[0], *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=LIMIT_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


def fish(*words, cwd="/"):
    if shutil.which("fish") is None:
        pytest.skip("needs fish(1)")
    script = f'source {DIRECTORY}/fish/{words[0]}.fish; complete -C "$argv"'
    done = subprocess.run(
        ["fish", "--no-config", "-c", script, *words], capture_output=True, text=True, cwd=cwd, timeout=LIMIT_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    return {line.partition("\t")[0] for line in done.stdout.splitlines()}


@pytest.fixture(params=[bash, fish], ids=["bash", "fish"])
def ask(request):
    """`ask("sockd", "--f")`: what the shell offers for the last word."""
    if shutil.which(request.param.__name__) is None:
        pytest.skip(f"needs {request.param.__name__}(1)")
    return request.param


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_option_is_offered(ask, words):
    flags = flags_of(words)
    assert flags
    offered = ask(*words, "--") | ask(*words, "-")
    assert {flag for flag in flags if flag not in offered} == set()


def test_verbs(ask):
    assert set(VERBS) <= ask("sockctl", "")
    assert ask("sockctl", "im") == {"import"}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("sockd", "--multiplexer", ""), {"auto", "epoll", "poll", "select"}),
        (("sockd", "--log-level", "w"), {"warning"}),
        (("sockd", "--log-format", ""), {"text", "json"}),
        (("sockctl", "import", "--format", "x"), {"xinetd"}),
        (("sockctl", "selftest", "IV.12"), {"IV.12"}),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_values(ask, words, offered):
    assert ask(*words) == offered


@pytest.mark.parametrize("words", [("sockd", "-c", "ine"), ("sockctl", "import", "ine")], ids=" ".join)
def test_files(ask, words, tmp_path):
    (tmp_path / "inetd.conf").touch()
    assert ask(*words, cwd=tmp_path) == {"inetd.conf"}


def test_users(ask):
    assert "nobody" in ask("sockd", "--user", "nob")


def test_values_behind_an_equals_sign():
    assert bash("sockctl", "import", "--format", "=", "x") == {"xinetd"}
    assert bash("sockctl", "import", "--format", "=") >= {"xinetd", "openbsd"}


# ---- zsh, at a terminal


class Terminal:
    """A zsh with its completion system, to type at."""

    def __init__(self, directory):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir("/")
            os.environ.update(TERM="dumb", PS1="READY> ", ZDOTDIR=str(directory), LISTMAX="0")
            os.execlp("zsh", "zsh", "-f", "-i")
        self.type(
            f"unset zle_bracketed_paste; PS1='READY> '; LISTMAX=0; fpath=({DIRECTORY}/zsh $fpath)\n"
            "autoload -U compinit\n"
        )
        self.type(f"compinit -u -d {directory}/dump; echo LOA''DED\n")
        self.until("LOADED")

    def type(self, text):
        os.write(self.fd, text.encode())

    def until(self, pattern):
        seen, end = "", time.monotonic() + LIMIT_S
        while not re.search(pattern, seen):
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{pattern!r} was not seen in {seen!r}"
            seen += os.read(self.fd, 65536).decode(errors="replace").replace("\a", "")
        return seen

    def close(self):
        os.close(self.fd)
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(tmp_path):
    if shutil.which("zsh") is None:
        pytest.skip("needs zsh(1)")
    one = Terminal(tmp_path)
    yield one
    one.close()


@pytest.mark.parametrize(
    ("typed", "done"),
    [
        ("sockd --foreg", r"--foreground "),
        ("sockd --multiplexer ep", r"epoll "),
        ("sockctl impo", r"import "),
        ("sockctl import --form", r"--format "),
        ("sockctl import --format xi", r"xinetd "),
        ("sockctl bind --std", r"--stdin "),
        ("sockctl selftest IV.1", r"IV\.1\d?"),
    ],
)
def test_zsh_completes(terminal, typed, done):
    terminal.type(f"{typed}\t")
    terminal.until(done)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_zsh_knows_every_option(words):
    text = (DIRECTORY / "zsh" / f"_{words[0]}").read_text()
    if len(words) > 1:
        text = text.partition(f"\n  {words[1]})\n")[2].partition(";;")[0]
    assert {flag for flag in flags_of(words) if f"'*{flag}[" not in text and f"'{flag}:" not in text} == set()
