# SPDX-License-Identifier: MIT
"""docs/reference.md: every key of sockd.toml, every option and every verb, from the settings and the parsers."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING

from generator import commands, outside
from generator.pages import TABLES, _default, _value
from sockd.config.convert import field_types
from sockd.settings import toml_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from dataclasses import Field
    from pathlib import Path

    from generator.commands import Command

HEADINGS = {
    "daemon": "`[daemon]`: the process",
    "log": "`log = { ... }` of `[daemon]`",
    "listen": "`[[listen]]`: one service on one address, or on several",
    "keepalive": "`keepalive = { ... }` of a listener",
    "hosts_access": "`hosts_access = { ... }` of a listener",
    "rate": "`rate = { ... }` of a listener",
    "total_rate": "`total_rate = { ... }` of a listener",
    "proxy_protocol": "`proxy_protocol = { ... }` of a listener",
    "tls": "`tls = { ... }` of a listener",
    "service": "`[service.NAME]`: a service",
    "limits": "`limits = { ... }` of a service that starts programs",
    "framing": "`framing = { ... }` of a service",
    "relay": "`relay = { ... }` of a service",
    "check": "`check = { ... }` of a relay",
    "socks": "`socks = { ... }` of a service",
}
EXAMPLES = {
    "daemon": '[daemon]\nuser = "nobody"\ncontrol = "/run/sockd/control.sock"\nstop_timeout = "10s"',
    "log": '[daemon]\nlog = { to = "/var/log/sockd/sockd.log", level = "info" }',
    "listen": '[[listen]]\naddress = "unix:/run/sockd/greet.sock"\nmode = "0660"\ngroup = "postfix"\nservice = "upper"',
    "keepalive": 'keepalive = { idle = "2m", interval = "30s", count = 4 }',
    "total_rate": 'total_rate = { connections = 50, per = "1s", pause = "10s" }',
    "hosts_access": 'hosts_access = { daemon = "in.fingerd" }',
    "rate": 'rate = { connections = 10, per = "1s", burst = 20 }',
    "proxy_protocol": 'proxy_protocol = { from = ["10.0.0.1"] }',
    "tls": 'tls = { certificate = "cert.pem", key = "key.pem" }',
    "service": '[service.greet]\nhandler = "app:greet"\nmax_frame = "8 KiB"\nidle_timeout = "5m"',
    "limits": 'limits = { cpu = "10s", memory = "64 MiB", wall = "1m" }',
    "framing": 'framing = { type = "prefix", width = 4 }',
    "relay": 'relay = { to = ["tcp://10.0.0.5:25"] }',
    "check": 'check = { interval = "10s" }',
    "socks": 'socks = { users = "/etc/sockd/users" }',
}
"""Each is read by sockd itself (tests/test_reference.py)."""
REQUIRED = {("listen", "service"), ("tls", "certificate"), ("hosts_access", "daemon"), ("relay", "to")}
"""Table and key: without it, the table is an error (tests/test_reference.py)."""
TOP = """\
# Reference

Made by `make generated` from the settings and the option parsers: every key of `sockd.toml`, every option of `sockd`,
every verb of `sockctl`. sockd.toml(5), sockd(8) and sockctl(1) have the same content.

A size is a number of bytes, or a text such as `"64 KiB"`. A time is a number of seconds, or a text such as `"1m30s"`.
`sockd -T` prints the effective value of every key.
"""


def page(root: Path) -> dict[Path, str]:
    """Return the whole text of the page."""
    lines = [TOP, outside.TEXT.replace("\n### ", "\n## "), "## Keys of sockd.toml", ""]
    for name, table in TABLES.items():
        lines += _table(name, table)
    lines += ["## Options of sockd", "", *_options(commands.sockd())]
    for verb in commands.sockctl().verbs:
        lines += [f"## sockctl {verb.name}", "", verb.description, "", *_options(verb)]
    lines += ["## Options of sockctl", "", *_options(commands.sockctl())]
    return {root / "docs/reference.md": "\n".join(lines).rstrip("\n") + "\n"}


def _table(name: str, table: type) -> Iterator[str]:
    yield from (f"### {HEADINGS[name]}", "", "```toml", EXAMPLES[name], "```", "")
    yield from ("| key | value | default | meaning |", "|---|---|---|---|")
    for field in fields(table):
        key = toml_key(field.name)
        about = field.metadata
        hint = field_types(table)[key]
        value = _value(hint, about).replace("A table, see below.", "a table")
        text = about["help"] + (f" ({about['source']})" if about["source"] else "")
        yield f"| `{key}` | {_cell(value)} | {_otherwise(name, field)} | {_cell(text)} |"
    yield ""


def _otherwise(table: str, field: Field) -> str:
    """Return what applies without the key."""
    if (table, toml_key(field.name)) in REQUIRED:
        return "required"
    if default := _default(field):
        return f"`{_cell(default)}`"
    return "" if field.default is MISSING else "unset" if field.default is None else "none"


def _options(command: Command) -> Iterator[str]:
    yield from ("| option | meaning |", "|---|---|")
    for one in command.arguments:
        names = ", ".join(f"`{flag} {one.metavar}`" if one.metavar else f"`{flag}`" for flag in one.flags)
        yield f"| {_cell(names or f'`{one.metavar}`')} | {_cell(one.help)} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
