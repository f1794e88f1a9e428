# SPDX-License-Identifier: MIT
"""The command lines of sockd and sockctl as values, read from their parsers."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import get_args

from sockd.cli.sockctl import make_parser as sockctl_parser
from sockd.cli.sockd_parser import make_parser as sockd_parser
from sockd.settings import LogFormat, LogLevel, Multiplexer

VALUES = {
    "--multiplexer": get_args(Multiplexer),
    "--log-level": get_args(LogLevel),
    "--log-format": get_args(LogFormat),
}


@dataclass(frozen=True)
class Argument:
    """An option, or a positional argument (no flags); `values` are the words that it takes, if they are known.

    `count` is "*" or "+" for an argument that may be repeated, as for argparse.
    """

    flags: tuple[str, ...]
    metavar: str
    help: str
    values: tuple[str, ...]
    count: str = ""


@dataclass(frozen=True)
class Command:
    """A program, or a verb of one."""

    name: str
    help: str
    description: str
    arguments: tuple[Argument, ...]
    verbs: tuple[Command, ...] = ()


def sockd() -> Command:
    return _command("sockd", "", sockd_parser())


def sockctl() -> Command:
    return _command("sockctl", "", sockctl_parser())


def _command(name: str, help_text: str, parser: argparse.ArgumentParser) -> Command:
    arguments, verbs = [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            words = {choice.dest: choice.help or "" for choice in action._choices_actions}
            verbs = [_command(verb, words[verb], one) for verb, one in action.choices.items()]
        else:
            arguments.append(_argument(parser, action))
    return Command(name, help_text, parser.description or "", tuple(arguments), tuple(verbs))


def _argument(parser: argparse.ArgumentParser, action: argparse.Action) -> Argument:
    flags = tuple(action.option_strings)
    values = tuple(action.choices or ()) or next((VALUES[flag] for flag in flags if flag in VALUES), ())
    metavar = action.metavar or (action.choices and flags[-1].lstrip("-").upper()) or ""
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    count = action.nargs if action.nargs in ("*", "+") else ""
    return Argument(flags, "" if action.nargs == 0 else str(metavar), text, values, count)
