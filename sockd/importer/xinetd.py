# SPDX-License-Identifier: MIT
"""All files of xinetd -> drafts, and what their defaults set for the daemon."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sockd.importer.model import Note
from sockd.importer.xinetd_conf import Section
from sockd.importer.xinetd_merge import COPIED, SETS, MergedAttribute, in_effect
from sockd.importer.xinetd_service import translate
from sockd.importer.xinetd_values import size
from sockd.settings.field import KIB

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
    above: list[tuple[Section, dict[str, MergedAttribute]]] = []
    defaults: dict[str, MergedAttribute] = {}
    files: set[str] = set()
    for section in (item for item in items if isinstance(item, Section)):
        if section.kind == "service":
            above.append((section, {name: defaults[name] for name in COPIED if name in defaults}))
        elif section.place.file in files:
            notes.append(Note(section.place, "a second defaults section; xinetd ignores it"))
        else:
            files.add(section.place.file)
            defaults, ignored = _with(section, defaults)
            notes += ignored
    to = _log_target(defaults.pop("log_type", None), notes)
    shared = {name: one for name, one in defaults.items() if name not in COPIED}
    return [_service(section, shared | copied, host, defaults) for section, copied in above], notes, to


def _with(section: Section, defaults: dict[str, MergedAttribute]) -> tuple[dict[str, MergedAttribute], list[Note]]:
    """Add a section of defaults to those of other files, which stay what they are where they cannot be added to."""
    found, notes = in_effect(section, defaults)
    again = [name for name in defaults if name not in SETS]
    for one in section.attributes:
        if one.name in again:
            notes.append(Note(one.place, f"{one.name} is already set in another file; xinetd ignores it"))
    if section.flaw is not None:
        notes.append(section.flaw)
    return found | {name: defaults[name] for name in again}, notes


def _service(
    section: Section, defaults: dict[str, MergedAttribute], host: Host, listed: dict[str, MergedAttribute]
) -> Draft:
    found, notes = in_effect(section, defaults)
    draft = translate(section.name, section.place, found, host, listed)
    notes[:0] = [section.flaw] if section.flaw else []
    is_skipped = any(note.leaves_out for note in notes)  # what else would be lost does not matter then
    draft.notes = notes if is_skipped else [*notes, *draft.notes]
    return draft


def _log_target(given: MergedAttribute | None, notes: list[Note]) -> Table:
    """Return the keys of log = { ... }."""
    if given is None:
        return {}
    kind, *rest = given.values
    if kind == "FILE" and os.path.isabs(rest[0]):
        soft, hard = ([size(word) for word in rest[1:3]] + [0, 0])[:2]
        limits = {"warn_size": soft, "max_size": hard or (soft and soft + min(max(soft // 100, 5 * KIB), 20 * KIB))}
        return {"to": rest[0], **{key: max(limit, KIB) for key, limit in limits.items() if limit}}
    if kind == "SYSLOG":
        if rest[1:] not in ([], ["info"]):
            text = f"sockd logs each event at its own level, not at {rest[1]}"
            notes.append(Note(given.place, f"log_type = {given.text}: {text}"))
        return {"to": "syslog", **({"facility": rest[0]} if rest[0] != "daemon" else {})}
    notes.append(Note(given.place, f"log_type = {given.text}: is not an absolute path"))
    return {}
