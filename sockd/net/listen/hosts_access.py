# SPDX-License-Identifier: MIT
"""Rules of hosts.allow and hosts.deny: read as libwrap reads them, and held against a client.

Pure but for the reading of the two files.  The first line of hosts.allow that matches lets a client in, then the first
of hosts.deny refuses it, and a client of neither is let in.  Commands of a rule are not executed: one whose command
would serve the client, or decide about it, refuses it.  Source: hosts_access(5), hosts_options(5); tcpdmatch(8) decides
where these are silent (tests/interop/test_hosts_access.py).
"""

from __future__ import annotations

import fnmatch
import ipaddress
import os
import re
from typing import TYPE_CHECKING

from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sockd.settings.listen import HostsAccessSettings

UNKNOWN = "unknown"
"""The name of who has none."""
DECIDING = ("allow", "deny", "twist", "aclexec")
IGNORED = ("banners", "group", "keepalive", "linger", "nice", "rfc931", "setenv", "severity", "spawn", "umask", "user")
"""Options without influence on who is let in."""
LAST = ("allow", "deny", "twist")
"""They must be the last option of a line."""
MAX_FILE_BYTES = 1024 * 1024
_BREAKS = re.compile(r"[ \t\r\n,]+")
_KEYWORDS = ("ALL", "EXCEPT", "KNOWN", "LOCAL")


@dataclass(frozen=True)
class AccessClient:
    """Who is judged.

    Attributes:
        daemon: the name of the service in the rules.
        host, local: the addresses of both ends, IPv4 as IPv4.
        name: the confirmed name of the client.
    """

    daemon: str
    host: str
    local: str = UNKNOWN
    name: str = UNKNOWN


@dataclass(frozen=True)
class AccessRule:
    """One line: lists of daemons and clients, as words, and the verdict of its options."""

    daemons: tuple[str, ...]
    clients: tuple[str, ...]
    verdict: bool | None

    def matches(self, client: AccessClient) -> bool:
        """Tell whether it is about a client."""
        return _in_list(self.daemons, lambda word: _is_daemon(word, client)) and _in_list(
            self.clients, lambda word: _is_client(word, client)
        )

    @property
    def asks_name(self) -> bool:
        """Whether a name can make a difference."""
        return any(not re.fullmatch(r"ALL|EXCEPT|[\d./*?]+|\[.*", word.rpartition("@")[2]) for word in self.clients)


class AccessRules:
    """Both files.

    Args:
        allow, deny: their texts.

    Attributes:
        asks_name: whether the name of a client can make a difference.
    """

    def __init__(self, allow: str, deny: str) -> None:
        self._allow, self._deny = [*parse_rules(allow)], [*parse_rules(deny)]
        self.asks_name = any(one.asks_name for one in (*self._allow, *self._deny))

    def admit(self, client: AccessClient) -> bool:
        """Tell whether a client is let in."""
        for rules, otherwise in ((self._allow, True), (self._deny, False)):
            for rule in rules:
                if rule.matches(client):
                    return otherwise if rule.verdict is None else rule.verdict
        return True


class HostsFiles:
    """Both files, read again when one of them has changed.

    Args:
        settings: their paths, and the name of the service.
    """

    def __init__(self, settings: HostsAccessSettings) -> None:
        self.daemon = settings.daemon
        self._paths = (settings.allow, settings.deny)
        self._seen: tuple[tuple[int, ...], ...] = ()
        self._rules = AccessRules("", "")

    def rules(self) -> AccessRules:
        """Return the rules as they are now.

        Raises:
            OSError: a file cannot be read; nobody is let in by what it may say.
        """
        if (seen := tuple(map(_fingerprint, self._paths))) != self._seen:
            self._rules = AccessRules(*map(read_access_file, self._paths))
            self._seen = seen
        return self._rules


def _fingerprint(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


# ---- reading


def parse_rules(text: str) -> Iterator[AccessRule]:
    """Yield the rules of a file; a line that has no colon, or does not end, is none, as for libwrap."""
    lines = text.replace("\\\n", "").split("\n")
    for line in lines[:-1]:
        if not line.strip() or line.startswith("#"):
            continue
        daemons, *rest = _split_at_colons(line)
        if rest:
            clients, *options = rest
            yield AccessRule(_words(daemons), _words(clients), _verdict([one.strip() for one in options]))


def _split_at_colons(line: str) -> list[str]:
    r"""Split at colons, but for those within [ ] of IPv6, and after a \ in options."""
    fields, depth, start = [], 0, 0
    for index, mark in enumerate(line):
        depth = depth + 1 if mark == "[" else 0 if mark == "]" else depth
        if mark == ":" and not depth and line[index - 1 : index] != "\\":
            fields.append(line[start:index])
            start = index + 1
    return [*fields, line[start:]]


def _words(text: str) -> tuple[str, ...]:
    """Split a list; its keywords in any case are in upper case then, as libwrap compares them."""
    return tuple("@".join(map(_keyword, word.split("@"))) for word in _BREAKS.split(text) if word)


def _keyword(word: str) -> str:
    return word.upper() if word.upper() in _KEYWORDS else word


def _verdict(options: Sequence[str]) -> bool | None:
    """Return what options decide: None for nothing; a wrong one refuses, as for libwrap."""
    for index, option in enumerate(options):
        word, *argument = re.split(r"[\s=]+", option, maxsplit=1)
        if word not in (*DECIDING, *IGNORED):
            return False
        if word in LAST and index < len(options) - 1:
            return False
        if word in ("allow", "deny"):
            return word == "allow" and not argument
        if word in DECIDING:
            return False
    return None


# ---- matching


def _in_list(words: Iterable[str], matches: Callable[[str], bool]) -> bool:
    """Hold words against one, up to EXCEPT, behind which is a list of those that it does not mean."""
    rest = iter(words)
    for word in rest:
        if word == "EXCEPT":
            return False
        if matches(word):
            return "EXCEPT" not in rest or not _in_list(rest, matches)
    return False


def _is_daemon(word: str, client: AccessClient) -> bool:
    daemon, at, local = word.partition("@")
    if daemon and at:
        return _is_text(daemon, client.daemon) and _is_host(local, UNKNOWN, client.local)
    return _is_text(word, client.daemon)


def _is_client(word: str, client: AccessClient) -> bool:
    user, at, host = word.rpartition("@")
    if user and at:  # nobody has asked for the user
        return _is_host(host, client.name, client.host) and _is_text(user, UNKNOWN)
    return _is_host(word, client.name, client.host)


def _is_host(word: str, name: str, host: str) -> bool:
    if word.startswith(("@", "/")):  # a netgroup of NIS, a file of patterns
        return _is_in_file(word, name, host)
    if word == "KNOWN":
        return UNKNOWN not in (name, host)
    if word == "LOCAL":
        return "." not in name and name != UNKNOWN
    if word.startswith("["):
        return _is_in_network(word.replace("[", "").replace("]", ""), host)
    if "/" in word:
        return _is_in_network(word, host)
    return _is_text(word, name) or _is_text(word, host)


def _is_text(word: str, text: str) -> bool:
    word, text = word.lower() if word not in ("ALL", "KNOWN") else word, text.lower()
    if word == "ALL":
        return True
    if word == "KNOWN":
        return text != UNKNOWN
    if word.startswith("."):
        return len(text) > len(word) and text.endswith(word)
    if word.endswith("."):
        return text.startswith(word)
    if "*" in word or "?" in word:
        return fnmatch.fnmatchcase(text, word.replace("[", "[[]"))
    return word == text


def _is_in_network(word: str, host: str) -> bool:
    """Tell whether an address is in `net/mask`, the mask as a length or as an address; bits behind it match nothing.

    Two masks of IPv4 are errors to libwrap, which match nothing, either.
    """
    if "." in word and word.endswith(("/0", "/255.255.255.255")):
        return False
    try:
        network, address = ipaddress.ip_network(word), ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.version == network.version and address in network


def _is_in_file(word: str, name: str, host: str) -> bool:
    if word.startswith("@"):
        return False
    try:
        words = _words(read_access_file(word))
    except OSError:
        return False
    return any(_is_host(one, name, host) for one in words if not one.startswith("/"))


def read_access_file(path: str) -> str:
    """Read a file of rules; one that does not exist has none (hosts_access(5)).

    Raises:
        OSError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(MAX_FILE_BYTES).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


__all__ = ["UNKNOWN", "AccessClient", "AccessRule", "AccessRules", "HostsFiles", "parse_rules", "read_access_file"]
