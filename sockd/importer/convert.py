# SPDX-License-Identifier: MIT
"""Drafts -> the text of sockd.toml; each service is checked before it is written as active."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockd.errors import SockdError
from sockd.importer import inetd_conf, systemd_socket, tcpserver, xinetd
from sockd.importer.model import Note, Place
from sockd.importer.program import TCPMUX
from sockd.settings.builtin import BUILTINS
from sockd.text import keep_references, quote

if TYPE_CHECKING:
    from sockd.importer.files import SourceFiles
    from sockd.importer.model import Draft, Host, Table, Value

Try = Callable[[str], None]
"""Raises SockdError with the error in the text of a sockd.toml."""

MAX_NAME = 64
ROOTS = ("root", "0")
_HEAD = """\
# Made by `sockctl import`.  What has no equivalent stands as a comment where it belongs, with its file and line.
# Not the same for any service:
# - A program gets of the daemon's environment only PATH; add names to environment = ["PATH", "..."].
# - At most 64 programs of a service run at once unless max_instances says otherwise, and there is no limit on starts
#   in a time unless total_rate sets one (256 or 40 a minute for inetd, 50 a second for xinetd, all clients together).
# - echo, discard and chargen close a connection on which nothing moves for 15 minutes (idle_timeout)."""
_FAMILIES_HEAD = "# - tcp and udp have the meaning of {}'s inetd.conf; --format selects another."
_KEEPS_ROOT = "# root, to become the users of the programs below"
_ORDER = (
    "exec", "tcpmux", "relay", "argv0", "user", "group", "groups", "directory", "umask", "nice", "wait",
    "max_instances", "max_connections", "limits", "environment", "client_environment", "stderr",
)  # fmt: skip
_WITHOUT_RULES = ("at_limit", "source_prefix_ipv6")
"""Keys of [[listen]] that say only how others hold."""
_PLACE = re.compile(r"^[^:\s]*(?::\d+)*: ")


@dataclass(frozen=True)
class Conversion:
    """The result of an import.

    Attributes:
        text: of the sockd.toml.
        notes: lines for a person, with file and line, in the order of the services.
        served, disabled, left_out: numbers of services.
    """

    text: str
    notes: tuple[str, ...]
    served: int
    disabled: int
    left_out: int


def convert(sources: SourceFiles, host: Host, accept: Try, *, with_disabled: bool = False) -> Conversion:
    """Convert what was read.

    Args:
        sources: the files.
        host: properties of the host.
        accept: raises if sockd would not accept a text.
        with_disabled: convert disabled services too.

    Raises:
        SockdError: [daemon] is not acceptable here, for example on a host without a user nobody.
    """
    drafts: list[Draft] = []
    notes = list(sources.notes)
    for file, text in sources.inetd:
        found, more = inetd_conf.parse(text, file, sources.dialect, host)
        drafts += found
        notes += more
    has_families = bool(drafts)
    for file, text in sources.tcpserver:
        found, more = tcpserver.parse(text, file, host, sources.read_rules)
        drafts += found
        notes += more
    if sources.rules and not sources.tcpserver:
        name, _ = sources.rules[0]
        notes.append(Note(Place(name, 1), "rules alone serve nothing; name the script that starts tcpserver -x, too"))
    drafts += [systemd_socket.translate(pair, host) for pair in sources.units]
    found, more, log = xinetd.services(sources.xinetd, host)
    writer = _Writer(accept, with_disabled)
    for draft in _in_order([*drafts, *found], with_disabled=with_disabled):
        writer.add(draft)
    head = [_HEAD]
    head += [_FAMILIES_HEAD.format(sources.dialect)] if has_families else []
    head += [f"# {_plain(str(note.place))}: {_plain(note.text)}" for note in [*notes, *more]]
    blocks = ["\n".join(head), "\n".join(_daemon(writer.active, log)), *writer.blocks]
    whole = "\n\n".join(blocks) + "\n"
    if writer.active:
        accept(whole)
    lines = (*(f"{note.place}: {note.text}" for note in [*notes, *more]), *writer.notes)
    return Conversion(whole, lines, len(writer.active), writer.disabled, writer.left_out)


def _in_order(drafts: list[Draft], *, with_disabled: bool) -> list[Draft]:
    """Put tcpmux (RFC 1078) behind what it passes its clients on to, where those are not left out.

    The rules of [[listen]] are those of tcpmux for all of them, so that a service with others is left out.
    """
    servers = [one for one in drafts if one.builtin == TCPMUX]
    muxed = [one for one in drafts if one.muxed]
    server = next((one for one in servers if with_disabled or not one.disabled), None)
    for one in muxed:
        rules = {key: value for key, value in one.listen.items() if key not in _WITHOUT_RULES}
        others = [key for key, value in rules.items() if server is not None and server.listen.get(key) != value]
        if server is None:
            one.leave_out("behind tcpmux, which is not served itself; enable the internal service tcpmux")
        elif others:
            one.leave_out(f"{', '.join(others)}: behind tcpmux, clients are held against the rules of tcpmux alone")
        one.listen.clear()
    return [one for one in drafts if one not in servers] + servers


class _Writer:
    """Writes one service after the other; what it wrote as active stays acceptable as a whole."""

    def __init__(self, accept: Try, with_disabled: bool) -> None:
        self._accept = accept
        self._with_disabled = with_disabled
        self._names: set[str] = set(BUILTINS)
        self._accepted = '[daemon]\nuser = "root"\n'
        self.blocks: list[str] = []
        self.notes: list[str] = []
        self.active: list[Draft] = []
        self._muxed: list[str] = []
        self.disabled = self.left_out = 0

    def add(self, draft: Draft) -> None:
        if draft.builtin == TCPMUX:
            draft.builtin, draft.program = "", {"tcpmux": list(self._muxed)}
        name = draft.builtin or self._name(draft.name)
        lines = list(_tables(draft, name))
        is_off = draft.disabled and not self._with_disabled
        if any("\ud800" <= mark <= "\udfff" for text in _texts([*draft.addresses, draft.program]) for mark in text):
            draft.leave_out("contains bytes that are not UTF-8, which a TOML file cannot hold")
        if not (draft.is_left_out or is_off):
            self._try(draft, "\n".join(lines), _through_tcpmux(draft, name))
        state = "disabled: " if is_off else "left out: " if draft.is_left_out else ""
        block = [f"# {_plain(str(draft.place))}: {state}{_plain(draft.origin)}"]
        block += (f"#   {_plain(str(note.place))}: {_plain(note.text)}" for note in draft.notes)
        block += (f"#{line}" if state and line else line for line in lines)
        self.blocks.append("\n".join(block))
        if is_off:  # of what is not in effect nothing is lost
            self.disabled += 1
            return
        for note in draft.notes:
            self.notes.append(f"{note.place}: {draft.name}: {'left out: ' if note.leaves_out else ''}{note.text}")
        if draft.is_left_out:
            self.left_out += 1
        else:
            self.active.append(draft)
            self._muxed += [_muxed_name(draft, name)] if draft.muxed else []

    def _try(self, draft: Draft, text: str, user: str) -> None:
        whole = f"{self._accepted}\n{text}\n"
        try:
            self._accept(whole + user)
        except SockdError as error:
            for line in str(error).splitlines():
                draft.leave_out(_PLACE.sub("", line))
        else:
            self._accepted = whole

    def _name(self, text: str) -> str:
        """Make a name for [service.NAME] that is not used yet."""
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-")[: MAX_NAME - 4] or "service"
        names = [plain, *(f"{plain}-{number}" for number in range(2, len(self._names) + 3))]
        name = next(one for one in names if one not in self._names)
        self._names.add(name)
        return name


def _daemon(active: Sequence[Draft], log: Table) -> Iterator[str]:
    """Return [daemon]: root only if programs need it."""
    programs = [draft.program for draft in active if "exec" in draft.program]
    accounts = {(str(program["user"]), str(program.get("group", ""))) for program in programs}
    only_root = any("groups" in program or int(str(program.get("nice", 0))) < 0 for program in programs)
    keeps_root = len(accounts) > 1 or only_root
    user, group = ("root", "") if keeps_root else next(iter(accounts), ("nobody", ""))
    yield "[daemon]"
    if keeps_root:
        yield _KEEPS_ROOT
    yield f"user = {_value(user)}"
    if group and user not in ROOTS:
        yield f"group = {_value(group)}"
    if log:
        yield from _keys({"log": log})  # type: ignore[dict-item]  # a table of words and numbers


def _muxed_name(draft: Draft, name: str) -> str:
    """Return an entry of the key tcpmux."""
    return draft.muxed if draft.muxed.removeprefix("+") == name else f"{draft.muxed}={name}"


def _through_tcpmux(draft: Draft, name: str) -> str:
    """Return tables by which a service behind tcpmux is tried; empty for others."""
    if not draft.muxed:
        return ""
    names = _value([_muxed_name(draft, name)])
    return f'[[listen]]\naddress = "tcp://127.0.0.1:1"\nservice = "a-try"\n[service.a-try]\ntcpmux = {names}\n'


def _tables(draft: Draft, name: str) -> Iterator[str]:
    if not draft.muxed:
        yield "[[listen]]"
        addresses: Table = {"addresses": list(draft.addresses)} if draft.addresses else {}
        if len(draft.addresses) == 1:
            addresses = {"address": draft.addresses[0]}
        yield from _keys(addresses | {"service": name} | draft.listen)
    if not draft.builtin and draft.program:
        yield from () if draft.muxed else ("",)
        yield f"[service.{name if '.' not in name else quote(name)}]"
        yield from _keys({key: draft.program[key] for key in _ORDER if key in draft.program})


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _keys(table: Table) -> Iterator[str]:
    for key, value in table.items():
        yield f"{key} = {_value(value)}"


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return quote(keep_references(value))
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return f"{{ {', '.join(f'{key} = {_value(one)}' for key, one in value.items())} }}"


def _plain(text: str) -> str:
    """Write any text so that a comment of TOML can hold it."""
    return "".join(
        mark if mark.isprintable() and not "\ud800" <= mark <= "\udfff" else ascii(mark)[1:-1] for mark in text
    )
