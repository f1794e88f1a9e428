# SPDX-License-Identifier: MIT
"""As much of Redis as its own programs need to measure a server: PING and ECHO, inline and in arrays.

In this directory, then in another terminal:

    sockd --foreground --listen tcp://127.0.0.1:6380=redis_ping:service
    redis-benchmark -p 6380 -t ping_inline,ping_mbulk
    redis-cli -p 6380 ping

A command is a line of words, or an array of words with the length before each: `*2`, `$4`, `ECHO`, `$2`, `hi` (Redis
serialization protocol specification).  A word of several lines is refused, for what comes in here are lines.
"""

import re

import sockd

MOST_WORDS = 16

KEPT_REPLY_BYTES = 64 * 1024  # of a line, and so of a word

# Replies end in CR LF; requests may end in LF alone.
service = sockd.Service(framing=sockd.Line(KEPT_REPLY_BYTES, b"\r\n"))


def execute(words: list[bytes]) -> bytes:
    """Answer one command, which has at least its name."""
    match [words[0].upper(), *words[1:]]:
        case [b"PING"]:
            return b"+PONG"
        case [(b"PING" | b"ECHO"), word]:
            return b"$%d\r\n%b" % (len(word), word)
        case _:
            return b"-ERR unknown command '%b'" % words[0][:128]


def number(line: bytes, kind: bytes, most: int) -> int:
    """Read `*2` or `$4`; what is neither ends the connection, as it does in Redis."""
    digits = line.removeprefix(kind)
    if digits == line or not re.fullmatch(rb"\d{1,5}", digits) or int(digits) > most:
        raise sockd.Close(b"-ERR Protocol error: expected '%b' and a number up to %d" % (kind, most))
    return int(digits)


@service.connect
class Redis(sockd.LineProtocol):
    """One client: between commands, or in the middle of an array."""

    missing = 0  # words of the array that have not come
    length: int | None = None  # of the word that comes next, once that is known

    def line_received(self, line: bytes) -> None:
        """Take a command, or one more line of it."""
        if self.missing:
            self.word_received(line)
        elif line.startswith(b"*"):
            self.missing = number(line, b"*", MOST_WORDS)
            self.words: list[bytes] = []
        elif words := line.split():
            self.send_line(execute(words))

    def word_received(self, line: bytes) -> None:
        """Take the length of a word of the array, then the word; behind the last one, answer."""
        if self.length is None:
            self.length = number(line, b"$", KEPT_REPLY_BYTES)
            return
        if len(line) != self.length:
            raise sockd.Close(b"-ERR Protocol error: a word of another length, or of several lines")
        self.words.append(line)
        self.length = None
        self.missing -= 1
        if not self.missing:
            self.send_line(execute(self.words))
