# SPDX-License-Identifier: MIT
"""All files of xinetd -> drafts, and what their defaults set for the daemon."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sockd.importer.model import Note
from sockd.importer.xinetd_conf import Section
from sockd.importer.xinetd_merge import MergedAttribute, in_effect
from sockd.importer.xinetd_service import translate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockd.importer.model import Draft, Host
    from sockd.importer.xinetd_conf import Item


def services(items: Sequence[Item], host: Host) -> tuple[list[Draft], list[Note], str]:
    """Convert all files.

    Args:
        items: of the files, in the order in which xinetd reads them.
        host: what must be known of it.

    Returns:
        The services, notes on lines that belong to none, and [daemon] log.to, empty if it is not set.
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


def _log_target(given: MergedAttribute | None, notes: list[Note]) -> str:
    if given is None:
        return ""
    kind, *rest = given.values or ("",)
    if kind == "FILE" and rest[:1] and os.path.isabs(rest[0]):
        if rest[1:]:
            notes.append(Note(given.place, f"log_type = {given.text}: a log has no maximum size; use logrotate(8)"))
        return rest[0]
    if kind == "SYSLOG":
        if rest[:1] != ["daemon"] or rest[1:] not in ([], ["info"]):
            text = "sockd logs to facility daemon, each event at its own level"
            notes.append(Note(given.place, f"log_type = {given.text}: {text}"))
        return "syslog"
    notes.append(Note(given.place, f"log_type = {given.text}: neither SYSLOG nor FILE with an absolute path"))
    return ""
