# SPDX-License-Identifier: MIT
"""Text as mdoc(7): sentences, and the Markdown of generator.outside."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

from sockd.config.check_daemon import LOG_TARGETS
from sockd.settings import LogFormat, LogLevel, Multiplexer

if TYPE_CHECKING:
    from collections.abc import Iterator

LITERALS = {*get_args(Multiplexer), *get_args(LogLevel), *get_args(LogFormat), *LOG_TARGETS}
"""Words that are written as they are, also where a sentence begins."""
_ENDS = re.compile(r"(?<=[^.]\.) (?=[A-Z`])")
_CODE = re.compile(r"([(]?)`([^`]+)`([).,:;]*)")
_BLOCK = re.compile(r"(```\w*\n.*?\n```)", re.S)


def sentences(text: str) -> Iterator[str]:
    """Write text, a sentence a line, each with a capital, unless it begins with a list of literals, and a full stop."""
    for sentence in re.split(r"(?<=[^.]\.) (?=[A-Z])", text.strip()):
        if sentence:
            whole = sentence if sentence.endswith((".", ":")) else f"{sentence}."
            listed = re.match(r"(\w+)(?:,| or) ", whole)
            as_is = re.match(r"\w+[:_/.]\S", whole) or (listed and listed[1] in LITERALS)
            yield escape(whole if as_is else whole[0].upper() + whole[1:])


def from_markdown(text: str) -> Iterator[str]:
    """Write headings, paragraphs, lists and blocks of code."""
    is_list = follows_text = False
    for part in filter(str.strip, _BLOCK.split(text)):
        for line in [part] if part.startswith("```") else filter(None, part.replace("\n  ", " ").split("\n")):
            is_item, is_heading = line.startswith("- "), line.startswith("### ")
            if is_list and not is_item:
                yield ".El"
            if is_item and not is_list:
                yield ".Bl -bullet -compact"
            is_list = is_item
            if is_heading:
                yield f".Ss {line[4:]}"
            elif line.startswith("```"):
                yield from (".Bd -literal -offset indent", *map(escape, line.split("\n")[1:-1]), ".Ed")
            else:
                yield from [".It"] if is_item else [".Pp"] if follows_text else []
                yield from _with_code(line.removeprefix("- "))
            follows_text = not is_heading
    if is_list:
        yield ".El"


def _with_code(text: str) -> Iterator[str]:
    """Write sentences; `code` is literal, with the brackets and stops that are at it."""
    for sentence in _ENDS.split(text):
        plain, *rest = _CODE.split(sentence)
        yield from [escape(plain.strip())] if plain.strip() else []
        for before, code, behind, after in zip(*(rest[number::4] for number in range(4)), strict=True):
            literal = escape(code).replace('"', "\\(dq")
            literal = f"\\&{code}" if len(code) == 1 else f'"{literal}"' if " " in code else literal  # "?" is a stop
            yield " ".join((".Li", *before, literal, *behind))
            yield from [escape(after.strip())] if after.strip() else []


def escape(text: str) -> str:
    """Escape what roff would take for its own."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text


def word(text: str) -> str:
    """Escape one argument of a macro."""
    return f'"{text}"' if " " in text else text.replace("-", "\\-") if len(text) > 1 else text
