# SPDX-License-Identifier: MIT
"""The limits of a service: one list, from which config, dump, manual page, handlers and services have theirs.

A limit is what the [service.NAME] table says, else what the handler's own Service says, else its `otherwise` here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.settings.field import KIB, MIB, setting
from sockd.units import Duration, Size
from sockd.values import dataclass, fields

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """The limits as keys of [service.NAME]."""

    idle_timeout: Duration | None = setting(
        None,
        help="close a connection after this time without traffic",
        source="default 15 minutes: FAQ II.8",
        otherwise=Duration(15 * 60),
        unit="seconds",
        low=0.001,
        high=7 * 86_400,
    )
    frame_timeout: Duration | None = setting(
        None,
        help="close a connection if a frame is not complete this long after its first byte",
        source="default 1 minute: nginx client_header_timeout",
        otherwise=Duration(60),
        unit="seconds",
        low=0.001,
        high=86_400,
    )
    write_timeout: Duration | None = setting(
        None,
        help="close a connection if the peer takes none of the pending output for this time",
        source="default 1 minute: nginx send_timeout",
        otherwise=Duration(60),
        unit="seconds",
        low=0.001,
        high=86_400,
    )
    linger_timeout: Duration | None = setting(
        None,
        help="after the last byte sent, how long to discard input while waiting for the peer's end of file",
        source="default 5 seconds: nginx lingering_timeout; FAQ II.5",
        otherwise=Duration(5),
        unit="seconds",
        low=0,
        high=600,
    )
    high_water: Size | None = setting(
        None,
        help="pending output at which reading from a connection pauses",
        source="default 64 KiB: asyncio's transports",
        otherwise=Size(64 * KIB),
        unit="bytes",
        low=1,
        high=1024 * MIB,
    )
    max_buffer: Size | None = setting(
        None,
        help="pending output above which a connection is closed",
        source="default 256 MiB: enough for a large reply, but stops a leak",
        otherwise=Size(256 * MIB),
        unit="bytes",
        low=1,
        high=1024 * 1024 * MIB,
    )
    max_connections: int | None = setting(
        None, help="maximum open connections, for all listeners", source="", unit="connections", low=1, high=1_000_000
    )


LIMITS = tuple(field.name for field in fields(LimitSettings))
"""Of every service whose connections sockd reads and writes itself."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The same as decided for a service; times in seconds, sizes in bytes."""

    idle_timeout: float
    frame_timeout: float
    write_timeout: float
    linger_timeout: float
    high_water: int
    max_buffer: int
    max_connections: int | None


def decided(table: LimitSettings, own: Mapping[str, float | None]) -> Limits:
    """Decide every limit.

    Args:
        table: what the configuration says.
        own: what the handler's Service says, by name; nothing for a service without one.
    """
    values: dict[str, float | int | None] = {}
    for field in fields(LimitSettings):
        given = (getattr(table, field.name), own.get(field.name), field.metadata["otherwise"])
        value = next((one for one in given if one is not None), None)
        number = float if field.metadata["unit"] == "seconds" else int
        values[field.name] = None if value is None else number(value)
    return Limits(**values)  # type: ignore[arg-type]  # the tests hold the two classes together


__all__ = ["LIMITS", "LimitSettings", "Limits", "decided"]
