# SPDX-License-Identifier: MIT
"""All files of xinetd -> drafts, and what their defaults set for the daemon."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, get_args

from sockd.importer.model import Note
from sockd.importer.xinetd_conf import Section
from sockd.importer.xinetd_merge import MergedAttribute, in_effect
from sockd.importer.xinetd_service import translate
from sockd.settings.daemon import LogFacility
from sockd.settings.field import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockd.importer.model import Draft, Host, Table
    from sockd.importer.xinetd_conf import Item


def services(items: Sequence[Item], host: Host) -> tuple[list[Draft], list[Note], Table]:
    """Convert all files.

    Args:
        items: of the files, in the order in which xinetd reads them.
        host: what must be known of it.

    Returns:
        The services, notes on lines that belong to none, and the keys of [daemon] log, none if it is not set.
    """
    notes = [item for item in items if isinstance(item, Note)]
    sections = [item for item in items if isinstance(item, Section)]
    defaults: dict[str, MergedAttribute] = {}
    default_sections = [section for section in sections if section.kind == "defaults"]
    for first in default_sections[:1]:
        defaults, ignored = in_effect(first, {})
        notes += ignored
    notes += (Note(other.place, "a second defaults section; xinetd ignores it") for other in default_sections[1:])
    to = _log_target(defaults.pop("log_type", None), notes)
    drafts = []
    for section in sections:
        if section.kind == "service":
            found, ignored = in_effect(section, defaults)
            draft = translate(section.name, section.place, found, host, defaults)
            draft.notes[:0] = ignored
            drafts.append(draft)
    return drafts, notes, to


def _log_target(given: MergedAttribute | None, notes: list[Note]) -> Table:
    """Return the keys of log = { ... }."""
    if given is None:
        return {}
    kind, *rest = given.values or ("",)
    if kind == "FILE" and rest[:1] and os.path.isabs(rest[0]):
        sizes = [_size(word) for word in rest[1:3]]
        if None in sizes:
            notes.append(Note(given.place, f"log_type = {given.text}: a limit that is not a number is left out"))
        soft, hard = ([size for size in sizes if size] + [0, 0])[:2]
        limits = {"warn_size": soft, "max_size": hard or (soft and soft + min(max(soft // 100, 5 * KIB), 20 * KIB))}
        return {"to": rest[0], **{key: max(size, KIB) for key, size in limits.items() if size}}
    if kind == "SYSLOG" and rest[:1] and rest[0] in get_args(LogFacility):
        if rest[1:] not in ([], ["info"]):
            text = f"sockd logs each event at its own level, not at {rest[1]}"
            notes.append(Note(given.place, f"log_type = {given.text}: {text}"))
        return {"to": "syslog", **({"facility": rest[0]} if rest[0] != "daemon" else {})}
    text = "neither SYSLOG with a facility nor FILE with an absolute path"
    notes.append(Note(given.place, f"log_type = {given.text}: {text}"))
    return {}


def _size(text: str) -> int | None:
    """Read a limit of a file, in bytes, or with K or M."""
    found = re.fullmatch(r"([0-9]{1,12})([kKmM]?)", text)
    return None if found is None else int(found[1]) * {"": 1, "k": KIB, "m": MIB}[found[2].lower()]
