# SPDX-License-Identifier: MIT
"""State of handlers' modules over a reload and an upgrade: Service.snapshot of the old code, restore of the new

It is passed on as msgpack, also within one process: the old code still serves its connections, and must not share an
object with the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.errors import HandlerError
from sockd.lazy import lazily, msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sockd.services import loader
    from sockd.services.api import Hook
    from sockd.services.spec import ServiceSpec
else:
    loader = lazily("sockd.services.loader")

WITHOUT = "a restart begins without the state"


def snapshots(services: Iterable[ServiceSpec]) -> dict[str, bytes]:
    """Return the state of each service that has a snapshot hook, by its name.

    Raises:
        HandlerError: a hook failed, or returned something else than plain values.
    """
    return {
        spec.name: _snapshot(spec.name, spec.snapshot) for spec in _different(services) if spec.snapshot is not None
    }


def _snapshot(name: str, hook: Hook) -> bytes:
    try:
        state = hook()
    except BaseException as error:
        failure = f"snapshot hook failed at {loader.describe_error(error)}; {WITHOUT}"
        raise HandlerError(failure, key=("service", name)) from error
    try:
        return msgspec.msgpack.encode(state)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        remedy = f"return numbers, bytes, str, lists and dicts; {WITHOUT}"
        raise HandlerError(f"snapshot hook: {error}; {remedy}", key=("service", name)) from None


def restore(services: Iterable[ServiceSpec], states: Mapping[str, bytes]) -> None:
    """Call the restore hook of each service that has one, with the state of the service of the same name.

    Raises:
        HandlerError: a hook failed.
    """
    for spec in _different(services):
        if spec.restore is None or spec.name not in states:
            continue
        try:
            spec.restore(msgspec.msgpack.decode(states[spec.name]))
        except BaseException as error:
            text = f"restore hook failed at {loader.describe_error(error)}"
            raise HandlerError(text, key=("service", spec.name)) from error


def _different(services: Iterable[ServiceSpec]) -> Iterable[ServiceSpec]:
    """Return each service once: it may have several listeners."""
    return {id(spec): spec for spec in services}.values()


__all__ = ["restore", "snapshots"]
