# SPDX-License-Identifier: MIT
"""inetd.conf -> drafts: the dialects of OpenBSD (Debian's openbsd-inetd), inetutils, FreeBSD and NetBSD.

They differ in the families of "tcp" and "tcp6", and in the lines of an entry: to all but inetutils, a line that begins
with a blank belongs to the one before.  Of two entries for one socket the last one counts.  A comment that contains an
entry is a disabled one, as update-inetd(8) and people write it. Source: inetd(8) of each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sockd.importer.model import Draft, Note, Place, numbered_lines
from sockd.importer.program import AT_ONCE, TCPMUX, external, internal, pass_socket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.importer.model import Host

BOTH, ONLY_4, ONLY_6 = "", "0.0.0.0", "[::]"  # noqa: S104 - every address is what the file asks for
FAMILIES = {
    "openbsd": {"": BOTH, "4": ONLY_4, "6": ONLY_6, "6only": ONLY_6, "46": BOTH},
    "inetutils": {"": ONLY_4, "4": ONLY_4, "6": BOTH, "6only": ONLY_6, "46": BOTH},
    "bsd": {"": ONLY_4, "4": ONLY_4, "6": ONLY_6, "6only": ONLY_6, "46": BOTH},
}
"""Listening families of tcp and udp with each suffix, by dialect."""

PAUSE = "10m"
"""Behind too many starts in a minute; inetd(8), -R."""
_OFF = re.compile(r"#[\s#]*(?:<\w+>#)?\s*")
_WORD = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[^\s"'])+)""")
_PROTOCOL = re.compile(r"(?P<name>tcp|udp)(?P<family>46|4|6only|6|)(?P<options>,.*)?")
_WAIT = re.compile(r"(?P<wait>wait|nowait)(?:[.:](?P<rate>\d+))?(?P<limits>(?:/\d+){0,3})")
_SIZE = re.compile(r"(?P<name>sndbuf|rcvbuf)=(?P<number>\d+)(?P<unit>[kKmM]?)")
_TYPES = ("stream", "dgram", "raw", "rdm", "seqpacket")
_FIELDS = 6
_UNITS = {"": 1, "k": 1024, "m": 1024 * 1024}


@dataclass(frozen=True)
class Entry:
    """One entry: its place, its words, whether one of them was quoted, whether it is disabled."""

    place: Place
    words: tuple[str, ...]
    quoted: bool
    disabled: bool


def parse(text: str, file: str, dialect: str, host: Host) -> tuple[list[Draft], list[Note]]:
    """Translate a file.

    Args:
        text: of the file.
        file: its name, for notes.
        dialect: a key of FAMILIES.
        host: properties of the host.

    Returns:
        The services in the order of the file, and notes on lines that belong to none.
    """
    drafts: list[Draft] = []
    notes: list[Note] = []
    default = ""
    for entry in _entries(text, file, has_continuations=dialect != "inetutils"):
        if len(entry.words) == 1 and entry.words[0].endswith(":"):
            default = entry.words[0].removesuffix(":")
        elif entry.words[0].startswith("#@"):
            notes.append(Note(entry.place, f"IPsec policy {' '.join(entry.words)!r} has no equivalent"))
        elif len(entry.words) < _FIELDS:
            text = f"{' '.join(entry.words)!r} is not an entry: {len(entry.words)} of at least {_FIELDS} fields"
            notes.append(Note(entry.place, text))
        else:
            drafts.append(_translate(entry, default, dialect, host))
    _replace(drafts)
    return drafts, notes


def _replace(drafts: list[Draft]) -> None:
    """Leave out each service of which a later one has the socket: inetd(8) has it run the later one's program."""
    last: dict[tuple[str, ...], Draft] = {}
    for draft in reversed([one for one in drafts if one.addresses and not one.disabled]):
        later = last.setdefault(tuple(draft.addresses), draft)
        if later is not draft:
            draft.leave_out(f"line {later.place.line} has the same socket, and takes the place of this one")


def _entries(text: str, file: str, *, has_continuations: bool) -> Iterator[Entry]:
    open_entry: Entry | None = None
    for place, line in numbered_lines(text, file):
        is_more = has_continuations and open_entry is not None and line[:1] in (" ", "\t") and line.strip()
        words, quoted = _split(line)
        if open_entry is not None and is_more:
            both = (*open_entry.words, *words)
            open_entry = Entry(open_entry.place, both, open_entry.quoted or quoted, open_entry.disabled)
            continue
        if open_entry is not None:
            yield open_entry
        open_entry = _begin(line, words, quoted, place)
    if open_entry is not None:
        yield open_entry


def _begin(line: str, words: tuple[str, ...], quoted: bool, place: Place) -> Entry | None:
    if line.startswith("#@") and len(line) > len("#@"):
        return Entry(place, words, quoted, disabled=False)
    if not line.lstrip().startswith("#"):
        return Entry(place, words, quoted, disabled=False) if words else None
    words, quoted = _split(_OFF.sub("", line.lstrip(), count=1))
    is_entry = len(words) >= _FIELDS and words[1].partition(":")[0] in _TYPES and _WAIT.fullmatch(words[3])
    return Entry(place, words, quoted, disabled=True) if is_entry else None


def _split(line: str) -> tuple[tuple[str, ...], bool]:
    """Split at blanks outside of quotes, which are removed; an unclosed quote is an ordinary character."""
    words, position, quoted = [], 0, False
    while match := _WORD.match(line, position) or re.compile(r"\s*(\S+)").match(line, position):
        plain = re.sub(r"""(["'])(.*?)\1""", r"\2", match[1])
        quoted = quoted or plain != match[1]
        words.append(plain)
        position = match.end()
    return tuple(words), quoted


def _translate(entry: Entry, default: str, dialect: str, host: Host) -> Draft:
    where, kind, protocol, wait, user, path, *words = entry.words
    hosts, name = _split_hosts(where, default) if protocol != "unix" else ("", where)
    draft = Draft(place=entry.place, name=name, origin=" ".join(entry.words), disabled=entry.disabled)
    if entry.quoted:
        draft.lose("quotes are read as by inetutils, FreeBSD and NetBSD; openbsd-inetd passes them on as characters")
    name = str(int(name)) if name.isdecimal() else name
    stream = _listen(draft, hosts, name, kind, protocol, FAMILIES[dialect])
    _check_names(draft, hosts, host)
    waits = _limit(draft, wait)
    if path == "internal":
        internal(draft, name, stream=stream)
        return draft
    _account(draft, user, dialect)
    external(draft, path, words, host, place=draft.place)
    if waits or not stream:
        limit = draft.program.get("max_instances")
        pass_socket(draft, draft.place, limit if isinstance(limit, int) else None if waits else AT_ONCE)
    return draft


def _check_names(draft: Draft, hosts: str, host: Host) -> None:
    """Leave out what inetd could not listen at, lest the daemon does not start because of it."""
    for one in filter(None, hosts.split(",")):
        if one != "*" and ":" not in one and not one.replace(".", "").isdigit() and not host.addresses(one):
            draft.leave_out(f"{one} does not resolve")


def _split_hosts(where: str, default: str) -> tuple[str, str]:
    hosts, colon, name = where.rpartition(":")
    return (hosts or "*", name) if colon else (default, where)


def _listen(draft: Draft, hosts: str, name: str, kind: str, protocol: str, families: dict[str, str]) -> bool:
    """Set the draft's addresses; return whether it is for streams."""
    kind, _, extra = kind.partition(":")
    stream = kind == "stream"
    match = _PROTOCOL.fullmatch(protocol)
    if extra:
        draft.lose(f"accept filter {extra!r} has no equivalent; defer_accept waits for the first bytes")
    if kind == "seqpacket" and protocol == "unix":
        draft.addresses = [f"unixpacket:{name}"]
        return True
    if kind not in ("stream", "dgram"):
        draft.leave_out(f"socket type {kind}: sockd serves stream and dgram")
    elif protocol == "unix":
        draft.addresses = [f"{'unix' if stream else 'unixgram'}:{name}"]
    elif protocol.startswith("rpc/"):
        draft.leave_out(f"{protocol}: sockd does not register services with rpcbind(8)")
    elif name.startswith(f"{TCPMUX}/"):
        draft.muxed = name.removeprefix(f"{TCPMUX}/")
        draft.name = draft.muxed.removeprefix("+")
        if not stream:
            draft.leave_out(f"{kind} behind tcpmux does not exist; its services are stream")
    elif match is None:
        draft.leave_out(f"protocol {protocol}: sockd serves tcp, udp and unix")
    elif stream != (match["name"] == "tcp"):
        draft.leave_out(f"{kind} over {match['name']} does not exist")
    else:
        _addresses(draft, hosts, name, match["name"], families[match["family"]])
        _buffers(draft, (match["options"] or "").split(","))
    return stream


def _addresses(draft: Draft, hosts: str, name: str, scheme: str, wildcard: str) -> None:
    for host in hosts.split(",") if hosts else ["*"]:
        plain = host.strip("[]")
        shown = wildcard if plain == "*" else f"[{plain}]" if ":" in plain else plain
        if wildcard == ONLY_6 and plain.replace(".", "").isdigit():
            draft.leave_out(f"{plain} is no IPv6 address, as {scheme}6 requires")
        draft.addresses.append(f"{scheme}://{shown}:{name}")
        if plain in ("*", "::") and wildcard == ONLY_6:
            draft.listen["ipv6_only"] = True


def _buffers(draft: Draft, options: list[str]) -> None:
    for option in filter(None, options):
        match = _SIZE.fullmatch(option)
        if match is None:
            draft.lose(f"option {option!r} of the protocol has no equivalent")
            continue
        key = "send_buffer" if match["name"] == "sndbuf" else "receive_buffer"
        draft.listen[key] = int(match["number"]) * _UNITS[match["unit"].lower()]


def _limit(draft: Draft, wait: str) -> bool:
    """Read the limits after wait or nowait; return which of the two it is."""
    match = _WAIT.fullmatch(wait)
    if match is None:
        draft.leave_out(f"{wait!r} is neither wait nor nowait")
        return False
    if match["rate"] and int(match["rate"]):
        draft.listen["total_rate"] = {"connections": int(match["rate"]), "per": "1m", "pause": PAUSE}
    instances, rate, per_source = ([int(number) for number in match["limits"].split("/")[1:]] + [0, 0, 0])[:3]
    if instances:
        draft.program["max_instances"] = instances
    if rate:
        draft.listen["rate"] = {"connections": rate, "per": "1m", "burst": rate}
    if per_source:
        draft.listen["max_connections_per_source"] = per_source
    if rate or per_source:
        draft.listen["source_prefix_ipv6"] = 128
    return match["wait"] == "wait"


def _account(draft: Draft, text: str, dialect: str) -> None:
    account, slash, login_class = text.partition("/")
    if slash:
        draft.lose(f"login class {login_class!r} has no equivalent; write its limits as limits = {{ ... }}")
    user, *group = re.split(r"[:.]", account, maxsplit=1)
    draft.program["user"] = user
    if user.isdecimal():
        draft.leave_out(f"user {user}: inetd(8) knows users by their names alone")
    if group and (group[0].isdecimal() or (not group[0] and dialect == "openbsd")):
        draft.leave_out(f"{text}: inetd(8) knows groups by their names alone")
    if group and group[0] and user == "root" and dialect != "bsd":
        draft.lose(f"group {group[0]}: inetd(8) sets none for root; write group = ... for it to have one")
    elif group and group[0]:
        draft.program["group"] = group[0]
