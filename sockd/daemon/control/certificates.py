# SPDX-License-Identifier: MIT
"""The certificates of the listeners: which file each is from, until when it is valid, and whether a reload is due."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from sockd.log.format import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.daemon.listeners import ListenerRegistry
    from sockd.net.tls.context import Certificate
    from sockd.wire.control import JsonObject


def list_certificates(serving: ListenerRegistry) -> list[JsonObject]:
    """Return a row for each file: the first one to expire is the first row.

    A file that is another one now, since something has renewed it, is `renewed`: a reload uses it.
    """
    listeners: dict[str, list[str]] = {}
    found: dict[str, Certificate] = {}
    for address, certificate in certificates_in_use(serving):
        listeners.setdefault(certificate.path, []).append(address)
        found[certificate.path] = certificate
    now = time.time()
    return [
        {
            "file": one.path,
            "listeners": listeners[one.path],
            "until": timestamp(one.until) if one.until else None,
            "seconds_left": round(max(0.0, one.until - now)),
            "renewed": _is_renewed(one),
        }
        for one in sorted(found.values(), key=lambda one: (one.until, one.path))
    ]


def certificates_in_use(serving: ListenerRegistry) -> Iterator[tuple[str, Certificate]]:
    """Yield each certificate with the listener that uses it."""
    for served in serving.listeners:
        if served.plan.tls is not None:
            for certificate in served.plan.tls.certificates:
                yield str(served), certificate


def _is_renewed(certificate: Certificate) -> bool:
    """Return whether the file has changed; False where the daemon may not look at it, such as after chroot(2)."""
    try:
        return os.stat(certificate.path).st_mtime_ns != certificate.modified
    except OSError:
        return False


__all__ = ["certificates_in_use", "list_certificates"]
