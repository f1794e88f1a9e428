# SPDX-License-Identifier: MIT
"""What services do before the first byte and after the last connection (Service.startup, Service.shutdown)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sockd.errors import HandlerError
from sockd.lazy import inspect, lazily

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from sockd.net.loop.loop import EventLoop
    from sockd.services import loader
    from sockd.services.api import Hook
    from sockd.services.spec import ServiceSpec
else:
    loader = lazily("sockd.services.loader", resident=True)

logger = logging.getLogger("sockd.handler")


def start(services: Sequence[ServiceSpec], stack: ExitStack, loop: EventLoop) -> None:
    """Call the startup hooks of each service once, in their order; the shutdown hooks come when the stack is unwound.

    Raises:
        HandlerError: one raised; the hooks of those that had started are called all the same.
    """
    for service in {id(service): service for service in services}.values():
        for hook in reversed(service.shutdown):
            stack.callback(_shut_down, service.name, hook, loop)
        for hook in service.startup:
            try:
                _call(hook, loop)
            except BaseException as error:
                text = f"startup hook failed at {loader.describe_error(error)}"
                raise HandlerError(text, key=("service", service.name)) from error


def _call(hook: Hook, loop: EventLoop) -> None:
    """Call a hook; one that is a coroutine function runs to its end where the coroutines of sessions run."""
    returned = hook()
    if inspect.iscoroutine(returned):
        loop.run_until_complete(returned)


def _shut_down(service: str, hook: Hook, loop: EventLoop) -> None:
    try:
        _call(hook, loop)
    except BaseException as error:
        logger.error("shutdown hook failed", exc_info=error, extra={"event": {"service": service}})
