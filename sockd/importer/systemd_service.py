# SPDX-License-Identifier: MIT
"""The service of a socket unit -> the program of a draft: its command, its user, its environment, its limits.

A program that expects its socket as descriptor 3 (sd_listen_fds(3)) is left out: sockd passes standard input alone.
Sandboxes of systemd are named, one by one: a program does not have them under sockd.
Source: systemd.service(5), systemd.exec(5).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from sockd.importer.program import pass_socket
from sockd.importer.systemd_unit import seconds, size, specifier, words
from sockd.units import format_duration, format_size

if TYPE_CHECKING:
    from sockd.importer.model import Draft, Host, Place
    from sockd.importer.systemd_unit import Unit, UnitSetting

SIZES = {"LimitAS": "memory", "LimitDATA": "data", "LimitSTACK": "stack", "LimitFSIZE": "file_size"}
NUMBERS = {"LimitNOFILE": "files", "LimitNPROC": "processes"}
SPANS = {"LimitCPU": "cpu", "RuntimeMaxSec": "wall"}
"""Keys of `limits`; of soft:hard, the soft one."""
WITHOUT_EFFECT = (
    "Description", "Documentation", "After", "Before", "Wants", "PartOf", "DefaultDependencies", "Requires",
    "CollectMode", "StandardInput", "StandardOutput", "StandardError", "Group", "KillMode",
    "RemainAfterExit", "SyslogIdentifier",
)  # fmt: skip
"""What does not change what a client meets, or is read elsewhere."""
TYPES = ("simple", "exec", "oneshot", "idle")
"""Of services that stay with the process that was started."""
OTHER_ROOTS = ("RootDirectory", "RootImage")
"""With them, even the path of the program means another file."""
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_TWO_COMMANDS = re.compile(r"\s;(?=\s|$)")
_PREFIXES = "@-:+!|"


def translate(draft: Draft, unit: Unit, host: Host, *, accepts: bool) -> None:
    """Give a draft its program.

    Args:
        draft: with its addresses.
        unit: the service.
        host: finds programs.
        accepts: whether systemd accepts connections, and starts a program for each.
    """
    _Service(draft, unit, host).connect(accepts=accepts)


class _Service:
    """The settings of a service; the draft has them when the constructor returns."""

    def __init__(self, draft: Draft, unit: Unit, host: Host) -> None:
        self._draft = draft
        self._unit = unit
        self._host = host
        self._variables: dict[str, str] = {}
        self._passed: list[str] = []
        self._limits: dict[str, str | int | list[str]] = {}
        for place, line in unit.unread:
            draft.lose(f"{line!r} is not a setting; the form is NAME=VALUE in a [section]", place)
        for one in unit.settings:
            if one.section != "Install" and one.key not in WITHOUT_EFFECT:
                self._read(one)
        self._account()
        self._command()
        own = [f"{name}={value}" for name, value in self._variables.items()]
        if own or self._passed:
            kept = [name for name in dict.fromkeys(("PATH", *self._passed)) if name not in self._variables]
            draft.program["environment"] = [*kept, *own]
        if self._limits:
            draft.program["limits"] = self._limits

    def connect(self, *, accepts: bool) -> None:
        """Say which descriptors the program gets."""
        inherited = self._unit.last("Service", "StandardOutput") or "inherit"
        if self._unit.last("Service", "StandardInput") != "socket":
            text = "the program expects the socket as descriptor 3 (sd_listen_fds(3)), and sockd passes standard input"
            return self._draft.leave_out(
                f"no StandardInput=socket: {text}; leave it with systemd", self._place("ExecStart")
            )
        if inherited not in ("inherit", "socket"):
            self._draft.lose(
                f"StandardOutput={inherited}: it is the socket, as standard input is", self._place("StandardOutput")
            )
        self._draft.program["stderr"] = self._error(inherited)
        if not accepts:
            if len(self._draft.addresses) > 1:
                return self._draft.leave_out(
                    "StandardInput=socket with Accept=no needs one socket alone, also in systemd"
                )
            to = self._draft.program["stderr"]
            pass_socket(self._draft, self._place("StandardInput"))
            self._draft.program |= {"stderr": to} if to not in ("socket", "log") else {}
        return None

    def _error(self, output: str) -> str:
        """Return where standard error goes; systemd.exec(5)."""
        text = self._unit.last("Service", "StandardError") or "inherit"
        kind, _, path = text.partition(":")
        if text == "inherit":
            text = output
        if text in ("inherit", "socket"):
            return "socket"
        if kind in ("file", "append", "truncate") and os.path.isabs(path) and not specifier(path):
            return path
        if text not in ("journal", "syslog", "kmsg", "null", "journal+console", "kmsg+console"):
            self._draft.lose(f"StandardError={text}: it goes to the log of sockd", self._place("StandardError"))
        return "null" if text == "null" else "log"

    def _place(self, key: str) -> Place:
        return next((one.place for one in reversed(self._unit.settings) if one.key == key), self._draft.place)

    # ---- one by one

    def _read(self, one: UnitSetting) -> None:
        try:
            is_known = self._limit(one) or self._word(one)
            if is_known and one.key != "ExecStart" and (other := specifier(one.value)):
                raise ValueError(f"{other} is replaced by systemd; write its value")
        except ValueError as error:
            self._draft.leave_out(f"{one}: {error}", one.place)
        else:
            if not is_known:
                text = "is not applied by sockd; set it in sockd.service for all, or leave the service with systemd"
                self._draft.lose(f"{one} {text}", one.place)

    def _limit(self, one: UnitSetting) -> bool:
        soft = one.value.partition(":")[0]
        if one.key in SIZES and (number := size(soft)) is not None:
            self._limits[SIZES[one.key]] = format_size(number)
        elif one.key in NUMBERS and (number := size(soft)) is not None:
            self._limits[NUMBERS[one.key]] = number
        elif one.key in SPANS and (span := seconds(soft)) is not None:
            self._limits[SPANS[one.key]] = format_duration(span)
        return one.key in {**SIZES, **NUMBERS, **SPANS}

    def _word(self, one: UnitSetting) -> bool:
        """Read one of the settings that are neither limits nor the command; tell whether it was one."""
        program = self._draft.program
        if one.key == "User":
            program["user"] = one.value
        elif one.key == "WorkingDirectory" and one.value.lstrip("-").startswith("/"):
            program["directory"] = one.value.lstrip("-")
        elif one.key == "UMask":
            program["umask"] = one.value
        elif one.key == "Nice":
            program["nice"] = int(one.value)
        elif one.key == "Environment":
            self._variables |= {name: value for name, _, value in (word.partition("=") for word in words(one.value))}
        elif one.key == "PassEnvironment":
            self._passed += words(one.value)
        elif one.key == "DynamicUser" and self._unit.is_true("Service", "DynamicUser"):
            raise ValueError("sockd makes no users; add one with User=, and import again")
        elif one.key == "Type" and one.value not in TYPES:
            raise ValueError("sockd waits for the program that it starts, and for no other")
        elif one.key in OTHER_ROOTS:
            raise ValueError("sockd changes the root of no program; leave the service with systemd")
        else:
            return one.key in ("Type", "DynamicUser", "ExecStart")
        return True

    def _account(self) -> None:
        """Set the user; without one, systemd runs it as root."""
        self._draft.program.setdefault("user", "root")
        if group := self._unit.last("Service", "Group"):
            self._draft.program["group"] = group

    def _command(self) -> None:
        commands = [one for one in self._unit.settings if (one.section, one.key) == ("Service", "ExecStart")]
        if len(commands) != 1:
            return self._draft.leave_out(
                f"{len(commands)} lines ExecStart=; sockd starts one program", self._place("ExecStart")
            )
        line = commands[0]
        try:
            if _TWO_COMMANDS.search(line.value):
                raise ValueError("two commands; sockd starts one program")
            path, *rest = words(line.value)
            prefix = path[: len(path) - len(path.lstrip(_PREFIXES))]
            if {*prefix} & {*"+!|"}:
                raise ValueError(f"{prefix}: with more rights than User= has, or in a shell; remove it")
            rest = rest if ":" in prefix else [word for part in rest for word in self._expand(part)]
        except ValueError as error:
            return self._draft.leave_out(f"{line}: {error}", line.place)
        path = path.lstrip(_PREFIXES)
        if "@" in prefix and rest:
            self._draft.program["argv0"], *rest = rest
        path = path if os.path.isabs(path) else self._host.find_program(path) or path
        self._draft.program["exec"] = [path, *rest]
        return None

    def _expand(self, word: str) -> list[str]:
        """Replace variables: $NAME alone becomes words, ${NAME} a part of one; systemd.service(5)."""
        for match in _VARIABLE.finditer(word.replace("$$", "")):
            if (match[1] or match[2]) not in self._variables:
                raise ValueError(f"{match[0]} is not set by Environment=; write its value")
        if word.startswith("$") and word[1:] in self._variables:
            return self._variables[word[1:]].split()
        parts = word.split("$$")
        return ["$".join(re.sub(r"\$\{(\w+)\}", lambda match: self._variables[match[1]], part) for part in parts)]


__all__ = ["translate"]
