# SPDX-License-Identifier: MIT
"""Run scripts that start tcpserver(1) -> drafts: its options, its rules, its program, and the words before it.

A script is read line by line, and not run: assignments of plain words are followed, and a command that the shell would
put together in another way is left out.  Source: tcpserver(1), softlimit(8), setuidgid(8), envuidgid(8), chpst(8).
"""

from __future__ import annotations

import getopt
import os
import re
import shlex
from typing import TYPE_CHECKING

from sockd.importer import tcprules
from sockd.importer.model import Draft, Place
from sockd.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sockd.importer.model import Host

    ReadRules = Callable[[str], tuple[str, str] | None]

SCRIPT = re.compile(r"^[^#\n]*\btcpserver6?\s", re.MULTILINE)
DEFAULT_CONNECTIONS = 40
"""tcpserver(1), -c."""
OPTIONS = "146jpPhHrRoOdDqQvUXc:x:B:g:u:b:l:t:I:"
WITHOUT_EFFECT = "-1 -q -Q -v -P -O -d -D -X -t"
"""Options of messages, and what sockd does anyway; without names and users, their time does not matter."""
SOFT_LIMITS = {"a": "memory", "m": "memory", "d": "data", "s": "stack", "f": "file_size"}
"""Of softlimit(8), in bytes; -m is the least of -a, -d, -l and -s."""
SOFT_NUMBERS = {"o": "files", "p": "processes"}
_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_]\w*)=((?:\"[^\"$`]*\"|'[^']*'|[^\s\"'$`;|&<>()]*))\s*;?")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_REDIRECTIONS = re.compile(r"\s(?:[012]?>&[012-]|[012]?<\s*/dev/null)(?=\s|$)")
_SHELL = re.compile(r"[$`;&<>(]")


def parse(text: str, file: str, host: Host, read_rules: ReadRules) -> list[Draft]:
    """Translate the commands of a script.

    Args:
        text: of the script.
        file: its name.
        host: finds programs.
        read_rules: gives name and text of the rules that a cdb was made from; None where there are none.
    """
    variables: dict[str, str] = {}
    drafts = []
    for place, line in _commands(text, file):
        if match := _ASSIGNMENT.fullmatch(line):
            variables[match[1]] = match[2].strip("\"'")
        elif re.search(r"(?:^|[\s/])tcpserver6?\s", line):
            drafts.append(_Command(place, line, variables, host, read_rules).draft)
    return drafts


def _commands(text: str, file: str) -> Iterator[tuple[Place, str]]:
    """Yield lines, with those that a backslash continues."""
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not joined and line.lstrip().startswith("#"):
            continue
        first = first if joined else number
        joined += line.removesuffix("\\") if line.endswith("\\") else line
        if not line.endswith("\\"):
            if joined.strip():
                yield Place(file, first), joined.strip()
            joined = ""


class _Command:
    """One command; `draft` is complete when the constructor returns."""

    def __init__(self, place: Place, line: str, variables: dict[str, str], host: Host, read_rules: ReadRules) -> None:
        self._host = host
        self._read_rules = read_rules
        self._rules = ""
        self._uses = {"names": True, "users": True}
        self._account_name = ""
        self._wrappers = {"softlimit": self._softlimit, "chpst": self._chpst, "nice": self._nice, "env": self._env}
        name = os.path.basename(os.path.dirname(place.file)) if os.path.basename(place.file) == "run" else ""
        self.draft = Draft(place=place, name=name, origin=line)
        self._limits: dict[str, str | int | list[str]] = {}
        self._kept = ["PATH"]
        words = self._split(line, variables)
        at = next((i for i, word in enumerate(words) if os.path.basename(word) in ("tcpserver", "tcpserver6")), None)
        if at is not None:
            self._before(words[:at])
            self._tcpserver(words[at + 1 :])
        if self._limits:
            self.draft.program["limits"] = self._limits
        if self._kept != ["PATH"]:
            self.draft.program["environment"] = self._kept

    def _split(self, line: str, variables: dict[str, str]) -> list[str]:
        line = _REDIRECTIONS.sub(" ", f"{line} ")
        line, pipe, rest = line.partition("|")
        if pipe:
            self.draft.lose(f"{pipe}{rest.rstrip()}: the log of sockd is for all services; see [daemon] log")
        line = _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], match[0]), line).rstrip(" &")
        if match := _SHELL.search(line):
            text = f"{line[match.start() :].split()[0]} is the shell's: write its value in the script, and import again"
            self.draft.leave_out(text)
            return []
        try:
            return shlex.split(line)
        except ValueError as error:
            self.draft.leave_out(f"cannot be read as a command: {error}")
            return []

    # ---- the words before it

    def _before(self, words: list[str]) -> None:
        rest = list(words)
        while rest:
            word = os.path.basename(rest.pop(0))
            if word in ("exec", "setsid", "nohup"):
                continue
            if word in ("setuidgid", "envuidgid") and rest:
                self._account(word, rest.pop(0))
            elif read := self._wrappers.get(word):
                rest = read(rest)
            elif match := re.fullmatch(r"([A-Za-z_]\w*)=(.*)", word, re.DOTALL):
                self._kept.append(f"{match[1]}={match[2]}")
            else:
                return self.draft.lose(f"{word}: not known as a word before tcpserver; see what it does")
        return None

    def _account(self, word: str, name: str) -> None:
        self._account_name = name
        if word == "setuidgid":
            self.draft.program["user"] = name

    def _softlimit(self, words: list[str]) -> list[str]:
        try:
            options, rest = getopt.getopt(words, "a:c:d:f:l:m:o:p:r:s:t:")
        except getopt.GetoptError as error:
            self.draft.leave_out(f"softlimit: {error}")
            return []
        for option, value in options:
            letter = option[1]
            if not value.isdecimal():
                self.draft.lose(f"softlimit {option} {value}: is not a number; write limits")
            elif letter in SOFT_LIMITS:
                self._limits[SOFT_LIMITS[letter]] = format_size(int(value))
            elif letter in SOFT_NUMBERS:
                self._limits[SOFT_NUMBERS[letter]] = int(value)
            elif letter == "t":
                self._limits["cpu"] = f"{value}s"
            else:
                self.draft.lose(f"softlimit {option} {value}: has no equivalent")
        return rest

    def _chpst(self, words: list[str]) -> list[str]:
        try:
            options, rest = getopt.getopt(words, "u:U:b:e:/:n:l:L:m:d:o:p:f:c:t:r:vVP012")
        except getopt.GetoptError as error:
            self.draft.leave_out(f"chpst: {error}")
            return []
        for option, value in options:
            if option in ("-u", "-U"):
                user, *groups = value.split(":")
                self._account("setuidgid" if option == "-u" else "envuidgid", user)
                self.draft.program |= {"group": groups[0]} if groups else {}
            elif option[1] in {**SOFT_LIMITS, **SOFT_NUMBERS, "t": ""}:
                self._softlimit([option, value])
            elif option == "-n":
                self.draft.program["nice"] = int(value) if value.lstrip("+-").isdecimal() else 0
            elif option not in ("-v", "-P"):
                self.draft.lose(f"chpst {option} {value}".rstrip() + ": has no equivalent")
        return rest

    def _nice(self, words: list[str]) -> list[str]:
        match = re.fullmatch(r"-n?(-?\d+)", "".join(words[:2] if words[:1] == ["-n"] else words[:1]))
        self.draft.program["nice"] = int(match[1]) if match else 10
        return words[(2 if words[:1] == ["-n"] else 1) if match else 0 :]

    def _env(self, words: list[str]) -> list[str]:
        while words[:1] in (["-i"], ["-"]):
            words = words[1:]
        return words

    # ---- itself

    def _tcpserver(self, words: list[str]) -> None:
        try:
            options, rest = getopt.getopt(words, OPTIONS)
        except getopt.GetoptError as error:
            return self.draft.leave_out(f"tcpserver: {error}; see tcpserver(1)")
        if len(rest) < 3:
            return self.draft.leave_out(f"tcpserver: {' '.join(words)!r} has no host, port and program")
        self.draft.program["max_instances"] = DEFAULT_CONNECTIONS
        for option, value in options:
            self._option(option, value)
        host, port, *command = rest
        self._listen(host, port)
        self._program(command)
        self.draft.program.setdefault("user", "root")  # as svscan(8) and init are, which run such scripts
        if self._uses["names"]:
            self.draft.listen["names"] = True
        if self._uses["users"]:
            self.draft.listen["ident"] = "log"
            self.draft.lose("users (RFC 1413) are logged, and no program gets TCPREMOTEINFO; -R asks for none")
        if self._rules:
            self._follow_rules()
        return None

    def _option(self, option: str, value: str) -> None:
        if option in ("-c", "-b") and value.isdecimal():
            table = self.draft.program if option == "-c" else self.draft.listen
            table["max_instances" if option == "-c" else "backlog"] = max(1, int(value))
        elif option in ("-u", "-g"):
            self.draft.program["user" if option == "-u" else "group"] = value
        elif option == "-U" and self._account_name:
            self.draft.program["user"] = self._account_name
        elif option == "-x":
            self._rules = value
        elif option in ("-H", "-h", "-R", "-r"):
            self._uses["names" if option in ("-H", "-h") else "users"] = option in ("-h", "-r")
        elif option == "-I":
            self.draft.listen["interface"] = value
        elif option == "-6":
            self.draft.listen["ipv6_only"] = False
        elif option == "-B":
            self.draft.lose(f"-B {value!r}: write it into a file, and name that in greeting_files")
        elif option == "-l" and value != "0":
            self.draft.lose(f"-l {value}: TCPLOCALHOST is the confirmed name of the address; none without names = true")
        elif option not in (*WITHOUT_EFFECT.split(), "-p", "-l", "-4"):
            self.draft.lose(f"{option} {value}".rstrip() + " has no equivalent; see tcpserver(1)")

    def _listen(self, host: str, port: str) -> None:
        wildcard = "[::]" if "ipv6_only" in self.draft.listen else "0.0.0.0"  # noqa: S104 - every address, as asked for
        host = wildcard if host in ("0", "0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host  # noqa: S104
        self.draft.addresses = [f"tcp://{host}:{port}"]
        self.draft.name = self.draft.name or f"port-{port}"

    def _program(self, command: list[str]) -> None:
        path = command[0] if os.path.isabs(command[0]) else self._host.find_program(command[0]) or command[0]
        self.draft.program["exec"] = [path, *command[1:]]

    def _follow_rules(self) -> None:
        found = self._read_rules(self._rules)
        if found is None:
            text = f"-x {self._rules}: is compiled; name the text from which tcprules made it as another FILE"
            return self.draft.leave_out(f"{text}, as it would be open to everybody without")
        rules, notes = tcprules.parse(found[1], found[0])
        access = tcprules.access(rules, **self._uses)
        self.draft.notes += [*notes, *access.notes]
        self.draft.listen |= {"allow": access.allow} if access.allow else {}
        self.draft.listen |= {"deny": access.deny} if access.deny else {}
        self._kept += access.environment
        if access.client_environment:
            self.draft.program["client_environment"] = access.client_environment
        if access.is_closed:
            self.draft.leave_out(f"-x {self._rules}: no client would be accepted")
        return None


__all__ = ["SCRIPT", "parse"]
