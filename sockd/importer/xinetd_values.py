# SPDX-License-Identifier: MIT
"""The values that xinetd accepts; a service with others is left out, as xinetd disables it.

Values that only this host can judge, such as a user or a program, are tried with the whole service by the writer.
Source: parsers.c and nvlists.c of xinetd 2.3.15; its manual has the words, and not what becomes of others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sockd.importer.networks import hours
from sockd.settings.field import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_PORT = 65535
MAX_UMASK = 0o777
SPECIAL = ("UNLIMITED", "FOREVER", "NEVER", "FILE", "SYSLOG")
"""Words in place of a number, and kinds of logs."""
_YES_NO = ("yes", "no")
_FACILITIES = (
    "daemon", "auth", "authpriv", "user", "mail", "lpr", "news", "uucp", "ftp",
    *(f"local{number}" for number in range(8)),
)  # fmt: skip
_LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_WORDS = {
    "socket_type": ("stream", "dgram", "raw", "seqpacket"),
    "type": ("RPC", "INTERNAL", "UNLISTED", "SPECIAL", "TCPMUX", "TCPMUXPLUS"),
    "flags": (
        "REUSE", "INTERCEPT", "NORETRY", "IDONLY", "NAMEINARGS", "NODELAY", "KEEPALIVE", "NOLIBWRAP", "SENSOR",
        "IPv4", "IPv6", "LABELED",
    ),
    "log_on_success": ("HOST", "DURATION", "EXIT", "PID", "USERID", "TRAFFIC"),
    "log_on_failure": ("HOST", "ATTEMPT", "USERID"),
    **dict.fromkeys(("wait", "disable", "groups", "v6only", "mdns"), _YES_NO),
}  # fmt: skip
"""Attributes of which each value is one of a few words."""
_SIZE = r"\d+[kKmM]?"
_FORMS = {
    "port": (r"\+?\d{1,9}", "a port, 0 to 65535"),
    "nice": (r"[+-]?\d{1,9}", "a whole number"),
    "umask": (r"\+?[0-7]{1,9}", "an octal number, 0 to 0777"),
    "deny_time": (r"[+-]?\d{1,9}|FOREVER|NEVER", "minutes, FOREVER or NEVER"),
    **dict.fromkeys(("instances", "per_source"), (r"\+?\d{1,9}|UNLIMITED", "a whole number, or UNLIMITED")),
    **dict.fromkeys(
        ("rlimit_as", "rlimit_data", "rlimit_rss", "rlimit_stack", "rlimit_files"),
        (rf"{_SIZE}|UNLIMITED", "a whole number, also with K or M, or UNLIMITED"),
    ),
    "rlimit_cpu": (r"\d+|UNLIMITED", "seconds, or UNLIMITED"),
    "cps": (r"[+-]?\d+ [+-]?\d+", "connections a second, and seconds to wait"),
    "max_load": (r"\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", "a number above 0"),
    "log_type": (
        rf"FILE \S+( {_SIZE}){{0,2}}|SYSLOG ({'|'.join(_FACILITIES)})( ({'|'.join(_LEVELS)}))?",
        "FILE with a path and up to two sizes, or SYSLOG with a facility and a level",
    ),
}
"""Of the values with one blank between them; and what is allowed, in words."""
_NEED_A_VALUE = ("type", "flags", "server_args", "access_times", "log_type")


def canonical(name: str, values: Sequence[str]) -> tuple[str, ...]:
    """Return the values of an attribute with its words spelled as in the manual; to xinetd their case is the same."""
    words = {word.lower(): word for word in (*_WORDS.get(name, ()), *(SPECIAL if name in _FORMS else ()))}
    any_case = name == "protocol" or (name == "log_type" and values[:1] and values[0].lower() == "syslog")
    plain = (value.lower() if any_case else value for value in values)
    return tuple(words.get(value.lower(), value) for value in plain)


def why_refused(name: str, operator: str, values: Sequence[str]) -> str:
    """Tell why xinetd disables a service with an attribute.

    Args:
        name: of the attribute.
        operator: =, += or -=.
        values: as many as it can have.

    Returns:
        What is wrong; empty if it is accepted.
    """
    if not values and name in _NEED_A_VALUE:
        return "has no value"
    if unknown := [value for value in values if value not in _WORDS.get(name, values)]:
        return f"{' '.join(unknown)} is none of {', '.join(_WORDS[name])}"
    form, allowed = _FORMS.get(name, ("", ""))
    if form and not re.fullmatch(form, " ".join(values)):
        return f"is not of the form that xinetd.conf(5) has; allowed: {allowed}"
    check = _CHECKS.get(name)
    why = check(operator, values) if check else ""
    return f"{why}; allowed: {allowed}" if why and allowed else why


def _port(_: str, values: Sequence[str]) -> str:
    return "" if int(values[0]) <= MAX_PORT else f"is above {MAX_PORT}"


def _umask(_: str, values: Sequence[str]) -> str:
    return "" if int(values[0], 8) <= MAX_UMASK else "is above 0777"


def _max_load(_: str, values: Sequence[str]) -> str:
    return "" if float(values[0]) else "is 0"


def _log_type(_: str, values: Sequence[str]) -> str:
    limits = [size(word) for word in values[2:]] if values[0] == "FILE" else []
    return "has a hard limit below the soft one" if limits[1:] and limits[1] < limits[0] else ""


def size(text: str) -> int:
    """Read a number of bytes, or with K or M; the text is one that was accepted."""
    factor = {"k": KIB, "m": MIB}.get(text[-1].lower(), 1)
    return int(text.rstrip("kKmM")) * factor


def _environment(operator: str, values: Sequence[str]) -> str:
    if operator == "-=":
        return "cannot be changed by -="
    return next((f"{value} has no =" for value in values if "=" not in value), "")


def _clients(_: str, values: Sequence[str]) -> str:
    return next((f"{value} has a comma; blanks separate clients" for value in values if _has_comma(value)), "")


def _has_comma(client: str) -> bool:
    return "," in client and "{" not in client


def _access_times(_: str, values: Sequence[str]) -> str:
    try:
        for value in values:
            hours(value)
    except ValueError as error:
        return str(error)
    return ""


_CHECKS: dict[str, Callable[[str, Sequence[str]], str]] = {
    "port": _port,
    "umask": _umask,
    "max_load": _max_load,
    "log_type": _log_type,
    "env": _environment,
    "only_from": _clients,
    "no_access": _clients,
    "access_times": _access_times,
}
