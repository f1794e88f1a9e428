# SPDX-License-Identifier: MIT
"""A dictionary server, by a part of the DICT protocol (RFC 2229): DEFINE, MATCH, SHOW, CLIENT, STATUS, QUIT.

In this directory, then in another terminal:

    sockd --foreground --listen tcp://127.0.0.1:2628=dictionary:service
    dict -h 127.0.0.1 -p 2628 socket
    dict -h 127.0.0.1 -p 2628 --match --strategy prefix so
    curl dict://127.0.0.1:2628/d:socket

The words are in dictionary.words, or in the file that $DICTIONARY_WORDS names: `WORD: what it means`, a line each.
"""

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import sockd

WORDS = Path(os.environ.get("DICTIONARY_WORDS", Path(__file__).with_suffix(".words")))
MAX_LINE_BYTES = 1024  # RFC 2229, 2.3
DATABASE = 'words "The words of this dictionary"'
STRATEGIES: dict[str, Callable[[str, str], bool]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
    "substring": str.__contains__,
}

service = sockd.Service(framing=sockd.Line(MAX_LINE_BYTES, b"\r\n"), idle_timeout=600)


def load(path: Path) -> dict[str, str]:
    """Read the words and their meanings."""
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return {word.strip(): meaning.strip() for word, _, meaning in lines if meaning}


words = load(WORDS)


class Refused(Exception):
    """A command that is not carried out; its text is the answer."""


def check(database: str) -> None:
    """Refuse a database that is not here; `*` is all of them, `!` the first that has the word."""
    if database not in ("words", "*", "!"):
        raise Refused("550 Invalid database, use SHOW DB for list")


def search(database: str, strategy: str, wanted: str) -> list[str]:
    """Return the words that are like the wanted one, whatever their letters' case; `.` leaves to us how."""
    check(database)
    is_like = STRATEGIES.get("prefix" if strategy == "." else strategy)
    if is_like is None:
        raise Refused("551 Invalid strategy, use SHOW STRAT for list")
    found = [word for word in words if is_like(word.casefold(), wanted.casefold())]
    if not found:
        raise Refused("552 No match")
    return found


@service.connect
class Dictionary(sockd.LineProtocol):
    """One client; it may send commands before the earlier ones are answered."""

    def connection_made(self, transport: sockd.Connection) -> None:
        """Speak first: no capabilities, and an id of no use without AUTH (RFC 2229, 3.1)."""
        super().connection_made(transport)
        self.say("220 sockd <> <0@localhost>")

    def line_received(self, line: bytes) -> None:
        """Carry out one command; a word may stand in quotes (RFC 2229, 2.2)."""
        try:
            command, *parameters = shlex.split(line.decode()) or [""]
        except ValueError:  # no UTF-8, or a quote without its end
            self.say("501 Syntax error, illegal parameters")
            return
        try:
            self.obey(command.upper(), parameters)
        except Refused as answer:
            self.say(str(answer))

    def obey(self, command: str, parameters: list[str]) -> None:
        """Carry out a command, if it has the parameters that it needs."""
        match command, parameters:
            case "DEFINE", [database, word]:
                self.define(search(database, "exact", word))
            case "MATCH", [database, strategy, word]:
                found = search(database, strategy, word)
                self.say_list(f"152 {len(found)} matches found", [f'words "{word}"' for word in found])
            case "SHOW", [what, *more]:
                self.show(what.upper(), more)
            case "CLIENT", _:  # who asks, for those who keep statistics
                self.say("250 ok")
            case "STATUS", []:
                self.say("210 ok")
            case "QUIT", []:
                self.say("221 bye")
                self.transport.close()
            case (("DEFINE" | "MATCH" | "SHOW" | "STATUS" | "QUIT"), _):
                self.say("501 Syntax error, illegal parameters")
            case _:
                self.say("500 Syntax error, command not recognized")

    def define(self, found: list[str]) -> None:
        """Tell what words mean; words that differ in case alone are several."""
        self.say(f"150 {len(found)} definitions retrieved")
        for word in found:
            self.say_text(f'151 "{word}" {DATABASE}', [word, f"    {words[word]}"])
        self.say("250 ok")

    def show(self, what: str, parameters: list[str]) -> None:
        """Tell of databases, strategies, a database, this server."""
        match what, parameters:
            case (("DB" | "DATABASES"), []):
                self.say_list("110 1 databases present", [DATABASE])
            case (("STRAT" | "STRATEGIES"), []):
                lines = [f'{name} "Match by {name}"' for name in STRATEGIES]
                self.say_list(f"111 {len(lines)} strategies available", lines)
            case "INFO", [database]:
                check(database)
                self.say_list("112 information follows", [DATABASE])
            case "SERVER", []:
                self.say_list("114 information follows", [f"{len(words)} words"])
            case _:
                self.say("501 Syntax error, illegal parameters")

    def say(self, text: str) -> None:
        """Send one line."""
        self.send_line(text.encode())

    def say_list(self, head: str, lines: list[str]) -> None:
        """Send a status with a text, and that this was all."""
        self.say_text(head, lines)
        self.say("250 ok")

    def say_text(self, head: str, lines: list[str]) -> None:
        """Send a status, then text up to a dot alone: one that begins a line is doubled (RFC 2229, 2.4.1)."""
        self.say(head)
        for line in lines:
            self.say("." + line if line.startswith(".") else line)
        self.say(".")
