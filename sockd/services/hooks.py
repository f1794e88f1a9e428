"""What services do before the first byte and after the last connection (Service.startup, Service.shutdown)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sockd.errors import HandlerError
from sockd.services.handler import place_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from sockd.services.service import Hook, ServiceSpec

logger = logging.getLogger("sockd.handler")


def start(services: Sequence[ServiceSpec], stack: ExitStack) -> None:
    """Call the startup hooks of each service once, in their order; the shutdown hooks come when the stack is unwound.

    Raises:
        HandlerError: one raised; the hooks of those that had started are called all the same.
    """
    for service in {id(service): service for service in services}.values():
        for hook in reversed(service.shutdown):
            stack.callback(_shut_down, service.name, hook)
        for hook in service.startup:
            try:
                hook()
            except Exception as error:
                raise HandlerError(f"service {service.name}: its startup failed at {place_of(error)}") from error


def _shut_down(service: str, hook: Hook) -> None:
    try:
        hook()
    except Exception as error:
        logger.error("shutdown hook failed", exc_info=error, extra={"event": {"service": service}})
