# SPDX-License-Identifier: MIT
"""The two readers of a command line of `sockd` are of one mind: the loop over the table, and argparse.

Seen to fail, each once: a short option with "=" read by the loop, a value that begins with "-", two values of --listen
of which the second replaced the first.
"""

from __future__ import annotations

import random

import pytest

from sockd.cli.options import OPTIONS, Options, read_plain
from sockd.cli.sockd_parser import make_parser, parse
from sockd.values import fields

PLAIN = [
    [],
    ["--inetd", "upper"],
    ["--inetd=upper", "--user", "nobody", "-g", "nogroup"],
    ["-f", "--listen", "tcp://127.0.0.1:0=upper", "-l", "unix:/tmp/x=a:b", "--listen=udp://:7=echo"],
    ["-c", "sockd.toml", "--check", "--check"],
    ["-T", "--config=a b", "--config", "c"],
    ["--log-level", "info", "--log-format=json", "--multiplexer", "poll", "--trace", "--reload", "-t"],
    ["--pidfile", "=x", "--chroot=a=b"],
]
FOR_ARGPARSE = [
    ["-fc", "x"],
    ["-cx"],
    ["-c=x"],
    ["--config="],
    ["--config", ""],
    ["-c", "-"],
    ["--foreground=yes"],
    ["--inetd"],
    ["-c", "--inetd=x"],
    ["--conf", "x"],
    ["upper"],
    ["--"],
    ["-h"],
    ["--version"],
    [""],
]


@pytest.mark.parametrize("words", PLAIN, ids=" ".join)
def test_a_plain_line_is_read_as_argparse_reads_it(words):
    assert read_plain(words) == parse(words)


@pytest.mark.parametrize("words", FOR_ARGPARSE, ids=" ".join)
def test_every_other_form_is_for_argparse(words):
    assert read_plain(words) is None


def test_lines_of_random_words():
    draw = random.Random(22)
    flags = [flag for row in OPTIONS for flag in row[0].split()]
    words = [*flags, *(f"{flag}=x" for flag in flags), "x", "-", "--", "", "-x", "a b", "=", "--user=", "-fx", "-1"]
    read = 0
    for _ in range(3000):
        line = draw.choices(words, k=draw.randrange(5))
        found = read_plain(line)
        if found is not None:
            assert found == parse(line), line
            read += 1
    assert read > 300


def test_the_table_and_the_values_name_the_same_options():
    assert [name for _, name, _, _ in OPTIONS] == [one.name for one in fields(Options)]
    actions = make_parser()._actions
    assert [action.dest for action in actions if action.dest not in ("help", "version")] == [row[1] for row in OPTIONS]
