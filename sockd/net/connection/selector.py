# SPDX-License-Identifier: MIT
"""Readiness: the BaseSelector over the C table, and the choice of a multiplexer by name.

Each of the two is a `selectors.BaseSelector` for Python's own descriptors.  The
connections of a ConnectionTable are not among its keys: they are waited for,
received from and framed inside select(), and when there is something to
dispatch, one key comes back whose data is the table's own callback.
"""

from __future__ import annotations

import contextlib
import math
import selectors
import sys
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from sockd.errors import ConfigurationError
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import FileDescriptorLike

    from sockd.net.connection.table import ConnectionTable

Ready: TypeAlias = list[tuple[selectors.SelectorKey, int]]


def _milliseconds(timeout: float) -> int:
    """Round a timeout up, as selectors.EpollSelector does, so that no turn spins just before a timer."""
    return min(math.ceil(timeout * 1000), 2**31 - 1) if timeout > 0 else 0


def _descriptor(fileobj: FileDescriptorLike) -> int:
    try:
        fd = fileobj if isinstance(fileobj, int) else int(fileobj.fileno())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"Invalid file object: {fileobj!r}") from None
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd


class _Map(Mapping["FileDescriptorLike", selectors.SelectorKey]):
    """The keys by file object or descriptor, to look at only."""

    def __init__(self, keys: dict[int, selectors.SelectorKey]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __getitem__(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._keys[self.fd(fileobj)]

    def fd(self, fileobj: FileDescriptorLike) -> int:
        """Return the descriptor of what is registered; a file object that is closed is found by identity."""
        try:
            fd = _descriptor(fileobj)
        except ValueError:
            fd = next((key.fd for key in self._keys.values() if key.fileobj is fileobj), -1)
        if fd not in self._keys:
            raise KeyError(f"{fileobj!r} is not registered")
        return fd


class _Keys(selectors.BaseSelector):
    """The map of Python's own descriptors."""

    def __init__(self, connections: ConnectionTable) -> None:
        self._connections = connections
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._map = _Map(self._keys)
        self._some: Ready = [(selectors.SelectorKey(connections, -1, selectors.EVENT_READ, connections.dispatch), 1)]

    def _new_key(self, fileobj: FileDescriptorLike, events: int, data: object) -> selectors.SelectorKey:
        if not events or events & ~(selectors.EVENT_READ | selectors.EVENT_WRITE):
            raise ValueError(f"Invalid events: {events!r}")
        return selectors.SelectorKey(fileobj, _descriptor(fileobj), events, data)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        """Return the keys by file object or descriptor."""
        return self._map

    def get_key(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Return the key of a file object or descriptor."""
        return self._map[fileobj]


class TableSelector(_Keys):
    """Waits in the C table itself: one call waits, receives and frames (Linux).

    Args:
        connections: a table made with epoll.
    """

    def register(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        """Watch a descriptor."""
        key = self._new_key(fileobj, events, data)
        if key.fd in self._keys:
            raise KeyError(f"{fileobj!r} (FD {key.fd}) is already registered")
        self._connections.watch(key.fd, events)
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Watch it no more; it may be closed already."""
        key = self._keys.pop(self._map.fd(fileobj))
        with contextlib.suppress(OSError):  # closing it has taken it out of epoll
            self._connections.watch(key.fd, 0)
        return key

    def modify(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        """Change what is waited for."""
        fd = self._map.fd(fileobj)
        key = self._new_key(fileobj, events, data)
        if self._keys[fd].events != events:
            self._connections.watch(fd, events)
        self._keys[fd] = key
        return key

    def select(self, timeout: float | None = None) -> Ready:
        """Flush, wait, receive, frame; return the keys that are ready."""
        connections = self._connections
        turn = connections.wait(-1 if timeout is None else _milliseconds(timeout))
        if not turn:
            return []
        ready = self._some.copy() if connections.pending else []
        if turn > len(ready):
            for fd, mask in connections.watched():
                key = self._keys.get(fd)
                if key is not None and mask & key.events:
                    ready.append((key, mask & key.events))
        return ready

    def close(self) -> None:
        """Forget every key."""
        self._keys.clear()


class KeyedSelector(_Keys):
    """Waits in one of the standard selectors, with a key for each connection.

    Args:
        connections: a table made without epoll.
        selector: epoll, poll or select of the standard library.
    """

    def __init__(self, connections: ConnectionTable, selector: selectors.BaseSelector) -> None:
        super().__init__(connections)
        self._selector = selector

    def register(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        """Watch a descriptor."""
        key = self._selector.register(fileobj, events, data)
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Watch it no more."""
        key = self._selector.unregister(fileobj)
        del self._keys[key.fd]
        return key

    def modify(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        """Change the events to wait for; if that fails, none is waited for, as in selectors."""
        fd = self._map.fd(fileobj)
        try:
            key = self._selector.modify(fileobj, events, data)
        except OSError:
            self._keys.pop(fd, None)
            raise
        self._keys[fd] = key
        return key

    def _apply_changes(self) -> None:
        """Watch the connections for the events that the table wants; one that cannot be watched (epoll_ctl(2):
        ENOMEM, ENOSPC) is closed.
        """
        for id, fd, had, mask in self._connections.changes():
            try:
                if not had:
                    self._selector.register(fd, mask, id)
                elif mask:
                    self._selector.modify(fd, mask, id)
                else:
                    self._unwatch(fd)
            except OSError:
                self._connections.abort(id, CloseReason.LIMIT)

    def _unwatch(self, fd: int) -> None:
        with contextlib.suppress(KeyError):  # one that could not be watched
            self._selector.unregister(fd)

    def select(self, timeout: float | None = None) -> Ready:
        """Flush, wait, then receive and frame from the connections that are ready."""
        connections = self._connections
        connections.flush()
        if connections.pending:
            return list(self._some)
        self._apply_changes()
        if connections.pending:
            return list(self._some)
        connections.reap_closed()
        due = connections.timeout_ms()
        if due >= 0 and (timeout is None or due < timeout * 1000):
            timeout = due / 1000
        ready: Ready = []
        ids, masks = array("i"), array("i")
        for key, mask in self._selector.select(timeout):
            if key.fd in self._keys:
                ready.append((key, mask))
            else:
                ids.append(key.data)
                masks.append(mask)
        if connections.receive(ids, masks):
            ready[:0] = self._some
        return ready

    def close(self) -> None:
        """Close the selector and forget every key."""
        self._selector.close()
        self._keys.clear()


def _standard(name: str) -> type[selectors.BaseSelector] | None:
    kinds: dict[str, str] = {"epoll": "EpollSelector", "poll": "PollSelector", "select": "SelectSelector"}
    kind: type[selectors.BaseSelector] | None = getattr(selectors, kinds.get(name, "DefaultSelector"), None)
    return kind


def waits_in_table(name: str) -> bool:
    """Whether the multiplexer of that name is the C table's own epoll."""
    return name == "auto" and sys.platform == "linux"


def choose(name: str, connections: ConnectionTable) -> selectors.BaseSelector:
    """Make the selector of a multiplexer.

    Args:
        name: auto, epoll, poll or select (FAQ II.14).
        connections: made with epoll exactly when waits_in_table(name).

    Raises:
        ConfigurationError: this system does not have it.
    """
    if waits_in_table(name):
        return TableSelector(connections)
    kind = _standard(name)
    if kind is None:
        text = f'"{name}" is not available on this system; "auto" always is'
        raise ConfigurationError(text, key=("daemon", "multiplexer"))
    return KeyedSelector(connections, kind())
