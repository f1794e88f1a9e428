# SPDX-License-Identifier: MIT
"""Commands of tcpserver(1) -> drafts: its options, its rules, its program, and the words before it.

A command that cannot be read, or with a word before it that is not known, is left out.
Source: tcpserver(1), softlimit(8), setuidgid(8), envuidgid(8), envdir(8), chpst(8), env(1).
"""

from __future__ import annotations

import getopt
import os
import re
from typing import TYPE_CHECKING

from sockd.importer import tcprules
from sockd.importer.model import Draft
from sockd.importer.run_script import RunScript
from sockd.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.importer.model import Host, Note
    from sockd.importer.run_script import ScriptCommand

    ReadRules = Callable[[str], tuple[str, str] | None]

NAMES = ("tcpserver", "tcpserver6")
SCRIPT = re.compile(r"^[^#\n]*\btcpserver6?[\s\"']", re.MULTILINE)
DEFAULT_CONNECTIONS = 40
"""tcpserver(1), -c."""
OPTIONS = "146jpPhHrRoOdDqQvUXc:x:B:g:u:b:l:t:I:"
WITHOUT_EFFECT = "-1 -q -Q -v -P -O -d -D -X -t"
"""Options of messages, and what sockd does anyway; without names and users, their time does not matter."""
SOFT_LIMITS = {"a": "memory", "m": "memory", "d": "data", "s": "stack", "f": "file_size"}
"""Of softlimit(8), in bytes; -m is the least of -a, -d, -l and -s."""
SOFT_NUMBERS = {"o": "files", "p": "processes"}
BEFORE_WITHOUT_EFFECT = ("exec", "setsid", "nohup", "pgrphack", "fghack")
"""They concern the process group and descriptors of tcpserver itself."""
_SETS = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def parse(text: str, file: str, host: Host, read_rules: ReadRules) -> tuple[list[Draft], list[Note]]:
    """Translate the commands of a script.

    Args:
        text: of the script.
        file: its name.
        host: properties of the host.
        read_rules: gives name and text of the rules that a cdb was made from; None where there are none.

    Returns:
        A draft of each command; and lines of the script that are not read.
    """
    script = RunScript(text, file, NAMES)
    return [_Command(one, host, read_rules).draft for one in script.commands], script.notes


class _Command:
    """One command; `draft` is complete when the constructor returns."""

    def __init__(self, command: ScriptCommand, host: Host, read_rules: ReadRules) -> None:
        self._host = host
        self._read_rules = read_rules
        self._rules: str | None = None
        self._uses = {"names": True, "users": True}
        self._account_name = ""
        self._wrappers = {
            "softlimit": self._softlimit, "chpst": self._chpst, "nice": self._nice, "env": self._env,
            "envdir": self._envdir,
        }  # fmt: skip
        path = command.place.file
        name = os.path.basename(os.path.dirname(os.path.abspath(path))) if os.path.basename(path) == "run" else ""
        self.draft = Draft(place=command.place, name=name, origin=command.text, program=dict(command.program))
        self._limits: dict[str, str | int | list[str]] = {}
        self._passes_path = True
        self._variables = dict(command.exported)
        self._environment: list[str] = []
        if command.output:
            self.draft.lose(f"| {command.output}: the log of sockd is for all services; see [daemon] log")
        if command.error:
            self.draft.leave_out(command.error)
        else:
            self._translate(command.words)

    def _translate(self, words: Sequence[str]) -> None:
        at = next((i for i, word in enumerate(words) if os.path.basename(word) in NAMES), None)
        if at is None:
            return self.draft.leave_out("tcpserver is only named in it; write the command itself")
        self._before(words[:at])
        self._tcpserver([*words[at + 1 :]])
        if self._limits:
            self.draft.program["limits"] = self._limits
        own = [f"{name}={value}" for name, value in self._variables.items()]
        environment = [*(["PATH"] if self._passes_path and "PATH" not in self._variables else []), *own]
        if (whole := [*environment, *self._environment]) != ["PATH"]:
            self.draft.program["environment"] = whole
        return None

    # ---- the words before it

    def _before(self, words: Sequence[str]) -> None:
        """Follow the words before; one that is not known may take rights away, and is no reason to give them."""
        rest = list(words)
        while rest:
            whole = rest.pop(0)
            word = os.path.basename(whole)
            if match := _SETS.fullmatch(whole):
                self._variables[match[1]] = match[2]
            elif word in ("setuidgid", "envuidgid") and rest:
                self._account(word, rest.pop(0))
            elif read := self._wrappers.get(word):
                rest = read(rest)
            elif word not in BEFORE_WITHOUT_EFFECT:
                text = "not known as a word before tcpserver, and may take rights away; remove it if it does not"
                return self.draft.leave_out(f"{word}: {text}, and import again")
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
                user, *groups = value.removeprefix(":").split(":")
                self._account("setuidgid" if option == "-u" else "envuidgid", user)
                self.draft.program |= {"group": groups[0]} if groups else {}
                self.draft.program |= {"groups": groups[1:]} if groups[1:] else {}
            elif option == "-/":
                self.draft.leave_out(f"chpst -/ {value}: sockd changes the root of no program; call chroot(8) in it")
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
        if words[:1] in (["-i"], ["-"]):
            self._passes_path = False
            self._variables.clear()
            return words[1:]
        return words

    def _envdir(self, words: list[str]) -> list[str]:
        self.draft.lose(f"envdir {' '.join(words[:1])}: write the variables of its files into environment")
        return words[1:]

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
        user = str(self.draft.program.setdefault("user", "root"))  # as svscan(8) and init are, which run such scripts
        if user != "root" and self._host.has_groups(user):
            self.draft.program.setdefault("groups", [])
        if self._uses["names"]:
            self.draft.listen["names"] = True
        if self._uses["users"]:
            self.draft.listen["ident"] = "log"
            self.draft.lose("users (RFC 1413) are logged, and no program gets TCPREMOTEINFO; -R asks for none")
        if self._rules is not None:
            self._follow_rules(self._rules)
        return None

    def _option(self, option: str, value: str) -> None:
        if option in ("-c", "-b") and value.isdecimal():
            table = self.draft.program if option == "-c" else self.draft.listen
            table["max_instances" if option == "-c" else "backlog"] = max(1, int(value))
        elif option in ("-u", "-g"):
            self.draft.program["user" if option == "-u" else "group"] = value
        elif option == "-U" and self._account_name:
            self.draft.program["user"] = self._account_name
        elif option == "-U":
            self.draft.leave_out("-U: no envuidgid before it sets UID and GID; write -u and -g, and import again")
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

    def _is_ipv6(self) -> bool:
        return any("[" in address for address in self.draft.addresses)

    def _program(self, command: list[str]) -> None:
        path = command[0] if os.path.isabs(command[0]) else self._host.find_program(command[0]) or command[0]
        self.draft.program["exec"] = [path, *command[1:]]

    def _follow_rules(self, cdb: str) -> None:
        place = self.draft.program.get("directory", os.path.dirname(self.draft.place.file))  # where run scripts start
        found = self._read_rules(os.path.join(str(place), cdb) if cdb else "")
        if found is None:
            text = f"-x {cdb}: is compiled; name the text from which tcprules made it as another FILE"
            return self.draft.leave_out(f"{text}, as it would be open to everybody without")
        rules, notes = tcprules.parse(found[1], found[0])
        access = tcprules.access(rules, **self._uses)
        self.draft.notes += [*notes, *access.notes]
        self.draft.listen |= {"allow": access.allow} if access.allow else {}
        self.draft.listen |= {"deny": access.deny} if access.deny else {}
        self._environment = access.environment
        if access.client_environment:
            everybody = [one for one in access.client_environment if one.startswith("0.0.0.0/0 ")]
            ipv6_entries = [f"::/0{one.removeprefix('0.0.0.0/0')}" for one in everybody if self._is_ipv6()]
            self.draft.program["client_environment"] = access.client_environment + ipv6_entries
        if access.is_closed:
            self.draft.leave_out(f"-x {cdb}: no client would be accepted")
        return None


__all__ = ["SCRIPT", "parse"]
