# SPDX-License-Identifier: MIT
# Seen failing with a SharedListener without accept_rest(), and with from_numbers() that takes one number for datagrams.
"""One interface for the four kinds of listeners, and counts as a value."""

from __future__ import annotations

import inspect

import pytest

from sockd.daemon.shared_listener import SharedListener
from sockd.net.listen.listener import DatagramCounts, Listener, ListenerCounts
from sockd.net.listen.stream_listener import StreamListener
from sockd.net.udp.listener import DatagramListener
from sockd.services.exec.wait_listener import WaitListener

KINDS = (StreamListener, DatagramListener, WaitListener, SharedListener)
METHODS = [name for name, one in vars(Listener).items() if inspect.isfunction(one) and not name.startswith("_")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", METHODS)
def test_each_kind_has_each_method_with_the_same_arguments(kind, name):
    wanted = list(inspect.signature(getattr(Listener, name)).parameters)
    has = [one.lstrip("_") for one in inspect.signature(getattr(kind, name)).parameters]
    assert has == wanted


@pytest.mark.parametrize(
    "counts",
    [
        ListenerCounts(17),
        ListenerCounts(0),
        ListenerCounts.from_datagrams(DatagramCounts(received=9, answered=7, dropped=2)),
        ListenerCounts.from_datagrams(DatagramCounts()),
    ],
)
def test_counts_go_to_another_process_as_numbers(counts):
    assert ListenerCounts.from_numbers(counts.as_numbers()) == counts


def test_numbers_of_another_version_are_taken_as_far_as_they_go():
    assert ListenerCounts.from_numbers([5, 4]).datagrams == {"received": 5, "answered": 4}
    assert ListenerCounts.from_numbers([*range(20)]).datagrams["dropped"] == 7
