# SPDX-License-Identifier: MIT
"""The command line of `sockd` by argparse: --help, every form of an option, and what was meant by a mistake."""

from __future__ import annotations

import argparse
import os
import re
import sys
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from sockd._version import VERSION
from sockd.cli.arguments import Parser
from sockd.cli.options import OPTIONS, REPEATABLE, Options
from sockd.errors import EX_USAGE
from sockd.lazy import lazily

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sockd.cli import config_source
else:
    config_source = lazily("sockd.cli.config_source")


class _Parser(Parser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        unknown, found = message.partition("unrecognized arguments: ")[1:]
        if unknown:
            word = found.split(" ")[0]
            message = _what_was_meant(word, self._option_string_actions)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def _what_was_meant(word: str, options: Iterable[str]) -> str:
    """Return the message for a word that is no option."""
    from sockd.settings.builtin import BUILTINS  # here, for --help has no use for these
    from sockd.text import nearest
    from sockd.wire.control import VERBS

    if re.fullmatch(r"[\w.]+:[\w.]+", word) or word in BUILTINS:
        listen = f"--listen tcp://{config_source.EXAMPLE_ADDRESS}={word}"
        return f"{word}: a service needs an address; did you mean {listen}?"
    if word.endswith(".toml"):
        return f"{word}: did you mean --config {word}?"
    if re.match(r"[a-z]+:", word):
        return f"{word}: did you mean --listen {word}{'' if '=' in word else '=SERVICE'}?"
    if word.startswith("="):
        return f"{word}: write ADDRESS=SERVICE in one word, such as tcp://{config_source.EXAMPLE_ADDRESS}=upper"
    names = {option.lstrip("-"): option for option in options if option.startswith("--")}
    name = word.lstrip("-").partition("=")[0]
    if name in VERBS and name not in names:
        return f"{word}: did you mean sockctl {name}?"
    if word.endswith(".py"):
        listen = f"--listen tcp://{config_source.EXAMPLE_ADDRESS}={os.path.basename(word).removesuffix('.py')}:FUNCTION"
        return f"{word}: a service needs an address; did you mean {listen}?"
    near = nearest(word, options) if len(word) == len("-x") else names.get(nearest(name, names) or "")
    if word.startswith("-"):
        return f"{word}: no such option; did you mean {near}?" if near else f"{word}: no such option: sockd --help"
    if word in names:
        return f"{word}: did you mean {near}?"
    return f"{word}: sockd has no verbs; it starts a daemon by its options, and sockctl talks to one"


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line; the man pages and the completions are made from it."""
    parser = _Parser(
        prog="sockd",
        description="Serve small network services: a function returns the reply to a line.",
        epilog="Without --foreground, sockd goes to the background and the command returns once it serves. Without "
        "--config, it reads ./sockd.toml (not as root), else /etc/sockd/sockd.toml, else, with --foreground, serves a "
        "built-in example.",
        allow_abbrev=False,
    )
    for flags, name, metavar, text in OPTIONS:
        add = partial(parser.add_argument, *flags.split(), dest=name, help=text, default=argparse.SUPPRESS)
        if metavar:
            add(metavar=metavar, action="append" if name == REPEATABLE else "store")
        else:
            add(action="store_true")
    parser.add_argument("-V", "--version", action="version", version=f"sockd {VERSION}")
    return parser


def parse(words: Sequence[str]) -> Options:
    """Return what a command line says; SystemExit is raised behind --help, --version, and for a mistake."""
    given = vars(make_parser().parse_args(words))
    return Options(**{**given, "listen": tuple(given.get("listen", ()))})


__all__ = ["make_parser", "parse"]
