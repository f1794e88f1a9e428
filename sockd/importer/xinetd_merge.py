# SPDX-License-Identifier: MIT
"""The effective attributes of a service of xinetd: its own over those of defaults.

The operators are applied here, and what xinetd ignores is noted. Source: xinetd.conf(5); parse.c of xinetd 2.3.15 for
the order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sockd.importer.model import Note, Place
from sockd.importer.xinetd_values import canonical, why_refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sockd.importer.xinetd_conf import Attribute, Section

SETS = ("only_from", "no_access", "log_on_success", "log_on_failure", "passenv", "env", "enabled", "disabled")
"""Attributes that allow += and -=, and repetition."""
LISTS = ("server_args", "log_type", "access_times", "type", "flags")
PAIRS = ("redirect", "cps")
SINGLES = (
    "socket_type", "protocol", "wait", "user", "group", "server", "instances", "rpc_version", "rpc_number", "id",
    "port", "nice", "banner", "bind", "per_source", "groups", "banner_success", "banner_fail", "disable", "max_load",
    "rlimit_as", "rlimit_cpu", "rlimit_data", "rlimit_rss", "rlimit_stack", "rlimit_files", "v6only", "deny_time",
    "umask", "mdns", "libwrap",
)  # fmt: skip
FOR_DEFAULTS = (
    "log_type", "log_on_success", "log_on_failure", "disabled", "no_access", "only_from", "instances", "passenv",
    "banner", "bind", "per_source", "groups", "banner_success", "banner_fail", "cps", "enabled", "max_load", "v6only",
    "umask", "mdns",
)  # fmt: skip
COPIED = ("only_from", "no_access", "banner", "banner_success", "banner_fail")
"""Attributes that a service has of the defaults above it alone."""
SYNONYMS = {"interface": "bind"}


@dataclass(frozen=True)
class MergedAttribute:
    """The value of an attribute, and its place; the last place for combined ones."""

    place: Place
    values: tuple[str, ...]

    @property
    def text(self) -> str:
        """The values as in the file, separated by one blank."""
        return " ".join(self.values)


def in_effect(
    section: Section, defaults: Mapping[str, MergedAttribute]
) -> tuple[dict[str, MergedAttribute], list[Note]]:
    """Combine the attributes of a section.

    Args:
        section: a service, or defaults itself.
        defaults: in effect for all; empty for defaults itself.

    Returns:
        The attributes by name, and notes on lines that xinetd ignores, or that make it disable the service.
    """
    found: dict[str, MergedAttribute] = {}
    notes: list[Note] = []
    for one in section.attributes:
        name = SYNONYMS.get(one.name, one.name)
        values = canonical(name, one.values)
        if reason := _why_ignored(one, name, section.kind == "defaults", name in found):
            notes.append(Note(one.place, f"{one.name} {reason}; xinetd ignores it"))
        elif reason := why_refused(name, one.operator, values):
            then = "xinetd does not start" if section.kind == "defaults" else "xinetd disables the service"
            text = f"{one.name} {one.operator} {' '.join(one.values)}: {reason}; {then}"
            notes.append(Note(one.place, text, leaves_out=True))
        elif name in SETS:
            before = found.get(name) or defaults.get(name)
            found[name] = _added(replace(one, values=values), before, section.kind == "defaults")
        else:
            found[name] = MergedAttribute(one.place, values)
    rest = {name: given for name, given in defaults.items() if name not in found}
    return found | rest, notes


def _why_ignored(one: Attribute, name: str, in_defaults: bool, is_set: bool) -> str:
    if name not in (*SETS, *LISTS, *PAIRS, *SINGLES):
        return "is not an attribute"
    if in_defaults and name not in FOR_DEFAULTS:
        return "does not belong in defaults"
    if name in SETS:
        return ""
    if one.operator != "=":
        return f"cannot be changed by {one.operator}"
    if is_set:
        return "is already set above"
    wanted = 1 if name in SINGLES else 2 if name in PAIRS else len(one.values)
    return "" if len(one.values) == wanted else f"takes {wanted} value{'s' * (wanted > 1)}, not {len(one.values)}"


def _added(one: Attribute, before: MergedAttribute | None, in_defaults: bool) -> MergedAttribute:
    old = before.values if before else ()
    if one.operator == "-=":
        return MergedAttribute(one.place, tuple(value for value in old if value not in one.values))
    if one.operator == "=" and not in_defaults:  # in defaults it adds, as += does
        old = ()
    return MergedAttribute(one.place, tuple(dict.fromkeys((*old, *one.values))))
