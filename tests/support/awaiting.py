# SPDX-License-Identifier: MIT
"""A reader of sockd's on a loop of asyncio's own, and who waits for it."""

from __future__ import annotations

import asyncio

from sockd.services.handlers.streams import StreamReader


class Transport:
    """Holds the peer up."""

    is_held = False

    def pause_reading(self):
        self.is_held = True

    def resume_reading(self):
        self.is_held = False


def reader_of(loop, is_late=lambda: False):
    return StreamReader(100, loop, is_late, 60, lambda: None)


def run(scenario, **options):
    """Run a coroutine function with a reader."""

    async def main():
        return await scenario(reader_of(asyncio.get_running_loop()))

    return asyncio.run(main(), **options)


async def waiting(awaitable):
    """Return a task that has begun to wait."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.sleep(0)
    return task
