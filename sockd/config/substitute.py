# SPDX-License-Identifier: MIT
"""Values from outside of the configuration: ${NAME}, ${NAME:-default}, ${credential:NAME} and ${file:/path} in texts.

Credentials are those of the service manager (systemd.exec(5), LoadCredential=).  What comes from a credential or a file
is a secret: hide() puts back what is written in its place, so that no message and no `sockd --print` shows it.  Values
are read each time that the configuration is.  What this process can no longer reach, after a drop of privileges or a
change of the root directory, stays as it was, and the log says so; what is gone is an error.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError, SockdError, fault
from sockd.files import trusted
from sockd.lazy import pattern
from sockd.text import LONGEST_SHOWN, keep_references, quote, show, suggest
from sockd.values import dataclass

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from sockd.text import KeyPath

DIRECTORY_VARIABLE = "CREDENTIALS_DIRECTORY"
"""systemd.exec(5), CREDENTIALS."""
MAX_SECRET_BYTES = 64 * 1024
SHORTEST_HIDDEN = 4
"""Characters of a secret that is hidden within other text, too: a shorter one is in many words."""
_REFERENCE = pattern(
    r"\$(\$\{|\{(?:(?P<source>credential|file):)?(?P<name>[^}]*?)(?::-(?P<default>[^}]*))?(?P<end>\}|\Z))"
)
_NAME = pattern(r"[A-Za-z_][A-Za-z0-9_]*")

logger = logging.getLogger("sockd.config")
_KNOWN = "known: ${NAME}, ${NAME:-default}, ${credential:NAME} and ${file:/path}; write $${ for a plain ${"

_secrets: dict[str, str] = {}
"""What is written in the configuration, by the value."""
_last: dict[str, tuple[str, tuple[int, int]]] = {}
"""The last content of each file, and the root directory below which it was found."""


@dataclass(frozen=True)
class Unresolved:
    """A reference that leads nowhere: the key, the text that has it, and what to do."""

    path: KeyPath
    value: str
    text: str


class _Missing(ValueError):
    """The text of an Unresolved."""


class FromEnvironment(str):
    """A text that has a variable and no secret: where a number or true is wanted, it may be one."""

    __slots__ = ()


class AskedVariables(Mapping[str, str]):
    """Variables of an environment, of which it is noted which ones a configuration asks for.

    Args:
        environment: as os.environ.

    Attributes:
        found: those that were asked for and are set, with their values.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.found: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        self.found[name] = self._environment[name]
        return self.found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._environment)

    def __len__(self) -> int:
        return len(self._environment)


def substitute(
    document: dict[str, object], problems: list[Unresolved], environment: Mapping[str, str] = os.environ
) -> dict[str, object]:
    """Return a document of TOML with what its texts refer to; keys are left alone.

    Args:
        document: as it is parsed.
        problems: gets what cannot be found; such a text stays as it is.
        environment: the variables.
    """
    return {key: _value(value, (key,), problems, environment) for key, value in document.items()}


def _value(value: object, path: KeyPath, problems: list[Unresolved], environment: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {key: _value(one, (*path, key), problems, environment) for key, one in value.items()}
    if isinstance(value, list):
        return [_value(one, (*path, index), problems, environment) for index, one in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    try:
        return expand(value, environment)
    except _Missing as error:
        problems.append(Unresolved(path, value, str(error)))
        return value


def expand(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return a text with what it refers to; `$${` is a plain `${`.

    Args:
        text: as it is written.
        environment: the variables.

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
        if "${" in match[0][1:]:
            raise _Missing(f"{match[0]} has a reference within another; write one after the other")
        if match["source"] is None:
            return _variable(match["name"], match["default"], environment)
        if match["default"] is not None:
            raise _Missing(f"{match[0]}: a default is for variables only; write the reference without it")
        is_secret = True
        secret = _credential(match["name"], environment) if match["source"] == "credential" else _file(match["name"])
        if secret:  # also by itself: a message may have only a part of the text
            _secrets[secret] = match[0]
        return secret

    value = _REFERENCE.sub(found, text)
    if is_secret and value:
        _secrets[value] = text
    return value if is_secret or value == text else FromEnvironment(value)


def _variable(name: str, default: str | None, environment: Mapping[str, str]) -> str:
    if not _NAME.fullmatch(name):
        raise _Missing(f"${{{name}}} is no name of a variable; {_KNOWN}")
    value = environment.get(name)
    if value or (value is not None and default is None):
        return value
    if default is not None:
        return default
    meant = suggest(name, environment)
    remedy = f"set it where that is started, or write ${{{name}:-default}}"
    raise _Missing(f"{name} is not set in the environment of sockd{meant}; {remedy}")


def _credential(name: str, environment: Mapping[str, str]) -> str:
    directory = environment.get(DIRECTORY_VARIABLE)
    if not directory:
        outside = "to check it outside of the unit, set the variable to /run/credentials/UNIT"
        raise _Missing(f"{DIRECTORY_VARIABLE} is not set, so there is no credential {name}; {_remedy(name)}; {outside}")
    if not name or "/" in name or name.startswith("."):
        raise _Missing(f"{name!r} is no name of a credential; see LoadCredential= in systemd.exec(5)")
    missing = f"no credential {name} in {directory}; {_remedy(name)}"
    return _file(os.path.join(directory, name), missing, is_credential=True)


def _remedy(name: str) -> str:
    return f"write LoadCredential={name}:/path into the unit"


def _file(path: str, missing: str = "", *, is_credential: bool = False) -> str:
    """Return the content of a file; `missing` says that there is none."""
    if not path.startswith("/"):
        raise _Missing(f"{path!r} is relative; write ${{file:/path}}")
    try:
        with os.fdopen(trusted.open_file(path, path, is_credential=is_credential), "rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        if path in _last and _is_out_of_reach(error, _last[path][1]):
            logger.warning(
                "file of a value cannot be read any more, keeping its last content",
                extra={"event": {"file": path, "error": os.strerror(error.errno or 0)}},
            )
            return _last[path][0]
        is_missing = isinstance(error, FileNotFoundError)
        remedy = "; create it, or write the text itself" if is_missing else ""
        raise _Missing((missing if is_missing else "") or f"{fault(error, path)}{remedy}") from None
    except ConfigurationError as error:  # it is no file, or others may write it
        raise _Missing(str(error)) from None
    if len(data) > MAX_SECRET_BYTES:
        raise _Missing(f"{path}: larger than {MAX_SECRET_BYTES} bytes")
    try:
        text = data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise _Missing(f"{path}: is not UTF-8") from None
    _last[path] = text, _root()
    return text


def _is_out_of_reach(error: OSError, root: tuple[int, int]) -> bool:
    """Tell whether a file may be as it was where it was found: it is not below this root, or not for this user."""
    return isinstance(error, PermissionError) or (
        isinstance(error, FileNotFoundError | NotADirectoryError) and root != _root()
    )


def _root() -> tuple[int, int]:
    status = os.stat(os.sep)
    return status.st_dev, status.st_ino


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


__all__ = ["AskedVariables", "FromEnvironment", "Unresolved", "as_written", "expand", "hidden", "hide", "substitute"]
