# SPDX-License-Identifier: MIT
"""Values from outside of the configuration: ${NAME}, ${NAME:-default}, ${credential:NAME} and ${file:/path} in texts.

Credentials are those of the service manager (systemd.exec(5), LoadCredential=).  What comes from a credential or a file
is a secret: hide() puts back what is written in its place, so that no message and no `sockd --print` shows it.  Values
are read each time that the configuration is; what can no longer be read, after a drop of privileges, stays as it was.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError, SockdError
from sockd.files import trusted
from sockd.lazy import pattern
from sockd.text import LONGEST_SHOWN, keep_references, quote, show, suggest
from sockd.values import dataclass

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from sockd.config.toml import KeyPath

DIRECTORY_VARIABLE = "CREDENTIALS_DIRECTORY"
"""systemd.exec(5), CREDENTIALS."""
MAX_SECRET_BYTES = 64 * 1024
SHORTEST_HIDDEN = 4
"""Characters of a secret that is hidden within other text, too: a shorter one is in many words."""
_REFERENCE = pattern(
    r"\$(\$\{|\{(?:(?P<source>credential|file):)?(?P<name>[^}:]*)(?::-(?P<default>[^}]*))?(?P<end>\}?))"
)
_NAME = pattern(r"[A-Za-z_][A-Za-z0-9_]*")

_secrets: dict[str, str] = {}
"""What is written in the configuration, by the value."""
_last: dict[str, str] = {}
"""The last content of each file."""


@dataclass(frozen=True)
class Unresolved:
    """A reference that leads nowhere: the key, the text that has it, and what to do."""

    path: KeyPath
    value: str
    text: str


class _Missing(ValueError):
    """The text of an Unresolved."""


def substitute(document: dict[str, object], problems: list[Unresolved]) -> dict[str, object]:
    """Return a document of TOML with what its texts refer to; keys are left alone.

    Args:
        document: as it is parsed.
        problems: gets what cannot be found; such a text stays as it is.
    """
    return {key: _value(value, (key,), problems) for key, value in document.items()}


def _value(value: object, path: KeyPath, problems: list[Unresolved]) -> object:
    if isinstance(value, dict):
        return {key: _value(one, (*path, key), problems) for key, one in value.items()}
    if isinstance(value, list):
        return [_value(one, (*path, index), problems) for index, one in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    try:
        return expand(value)
    except _Missing as error:
        problems.append(Unresolved(path, value, str(error)))
        return value


def expand(text: str) -> str:
    """Return a text with what it refers to; `$${` is a plain `${`.

    Raises:
        ValueError: says which reference leads nowhere, and what to do.
    """
    is_secret = False

    def found(match: re.Match[str]) -> str:
        nonlocal is_secret
        if match[1] == "${":
            return "${"
        if not match["end"]:
            raise _Missing(f"{match[0]} has no closing brace; write $${{ for a plain ${{")
        if match["source"] is None:
            return _variable(match["name"], match["default"])
        is_secret = True
        secret = _credential(match["name"]) if match["source"] == "credential" else _file(match["name"])
        if secret:  # also by itself: a message may have only a part of the text
            _secrets[secret] = match[0]
        return secret

    value = _REFERENCE.sub(found, text)
    if is_secret and value:
        _secrets[value] = text
    return value


def _variable(name: str, default: str | None) -> str:
    if not _NAME.fullmatch(name):
        known = "${NAME}, ${NAME:-default}, ${credential:NAME} and ${file:/path}"
        raise _Missing(f"${{{name}}} is no name of a variable; known: {known}; write $${{ for a plain ${{")
    value = os.environ.get(name)
    if value or (value is not None and default is None):
        return value
    if default is not None:
        return default
    meant = suggest(name, os.environ)
    raise _Missing(f"{name} is not set in the environment{meant}; set it, or write ${{{name}:-default}}")


def _credential(name: str) -> str:
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if not directory:
        raise _Missing(f"{DIRECTORY_VARIABLE} is not set, so there is no credential {name}; {_remedy(name)}")
    if not name or "/" in name or name.startswith("."):
        raise _Missing(f"{name!r} is no name of a credential; see LoadCredential= in systemd.exec(5)")
    path = os.path.join(directory, name)
    if path not in _last and not os.path.exists(path):
        raise _Missing(f"no credential {name} in {directory}; {_remedy(name)}")
    return _file(path)


def _remedy(name: str) -> str:
    return f"write LoadCredential={name}:/path into the unit"


def _file(path: str) -> str:
    if not path.startswith("/"):
        raise _Missing(f"{path!r} is relative; write ${{file:/path}}")
    try:
        data = trusted.read(path, path, MAX_SECRET_BYTES + 1)
    except SockdError as error:
        if path in _last and not isinstance(error, ConfigurationError):  # which is a file that others may write
            return _last[path]
        raise _Missing(str(error)) from None
    if len(data) > MAX_SECRET_BYTES:
        raise _Missing(f"{path}: larger than {MAX_SECRET_BYTES} bytes")
    try:
        text = data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise _Missing(f"{path}: is not UTF-8") from None
    _last[path] = text
    return text


def hide(text: str) -> str:
    """Return a text with what is written in the configuration in place of each secret, however it is quoted or cut."""
    for value, written in sorted(_forms(), key=lambda pair: -len(pair[0])):
        if text == value or len(value) >= SHORTEST_HIDDEN:
            text = text.replace(value, written)
    return text


def as_written(text: str) -> str:
    """Return a text as a configuration has it: what is written in place of each secret, and a plain `${` as `$${`."""
    for value, reference in sorted(_secrets.items(), key=lambda pair: -len(pair[0])):
        if text == value:
            return reference
        if len(value) >= SHORTEST_HIDDEN and value in text:
            return reference.join(map(as_written, text.split(value)))
    return keep_references(text)


@contextmanager
def hidden() -> Iterator[None]:
    """Have errors that are raised within name no secret."""
    try:
        yield
    except SockdError as error:
        error.args = tuple(hide(one) if isinstance(one, str) else one for one in error.args)
        raise


def _forms() -> Iterator[tuple[str, str]]:
    """Yield each secret as messages have it: as it is, quoted as TOML and as Python do, and cut (sockd.text)."""
    for value, written in _secrets.items():
        yield value, written
        yield quote(value)[1:-1], written
        yield repr(value)[1:-1], written
        if len(value) > LONGEST_SHOWN:
            yield show(value)[1:-1], written


__all__ = ["Unresolved", "as_written", "expand", "hidden", "hide", "substitute"]
