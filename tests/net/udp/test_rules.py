# SPDX-License-Identifier: MIT
from __future__ import annotations

from ipaddress import ip_network

import pytest

from sockd.net.udp.rules import HEADER_BYTES, DatagramRules
from sockd.settings import Size
from sockd.settings.listen import DEFAULT_DATAGRAM_BUDGET, ListenSettings


def rules(*, small=True, **settings):
    networks = {key: tuple(map(ip_network, settings.pop(key))) for key in ("allow", "deny") if key in settings}
    return DatagramRules(ListenSettings(**settings, **networks), lambda: 0.0, small=small)


def spent(one, sender, size):
    count = 0
    while count < 100_000 and one.spend(sender, size):
        count += 1
    return count


@pytest.mark.parametrize("port", [0, 7, 9, 11, 13, 17, 19, 37, 53, 69, 111, 123, 137, 161, 389, 520, 1023, 1900, 11211])
def test_a_small_service_answers_no_port_of_a_service(port):
    assert rules().is_service_port(("192.0.2.1", port))
    assert rules().is_service_port(("2001:db8::1", port, 0, 0))
    reflects = port in (0, 7, 11, 13, 17, 19, 37)  # whatever comes
    assert rules(small=False).is_service_port(("192.0.2.1", port)) is reflects


@pytest.mark.parametrize("sender", [("192.0.2.1", 1024), ("::1", 65_535, 0, 0), "/run/echo", b"\0echo", None])
def test_every_other_sender_is_answered(sender):
    assert not rules().is_service_port(sender)


def test_networks_are_those_of_connections():
    one = rules(allow=("10.0.0.0/8", "::1"), deny=("10.1.0.0/16",))
    assert one.admit(("10.0.0.1", 5000))
    assert one.admit(("::ffff:10.0.0.1", 5000, 0, 0))
    assert one.admit(("::1", 5000, 0, 0))
    assert not one.admit(("10.1.0.1", 5000))
    assert not one.admit(("192.0.2.1", 5000))
    assert one.admit("/run/client")
    assert one.admit(None)
    assert rules().admit(("fe80::1%1", 5000, 0, 1))
    assert not rules(deny=("fe80::/10",)).admit(("fe80::1%1", 5000, 0, 1))


def test_the_budget_counts_headers_for_each_source():
    one = rules(datagram_budget=Size(65_536))
    assert spent(one, ("192.0.2.1", 5000), 100) == 65_536 // (100 + HEADER_BYTES)
    assert not one.spend(("192.0.2.1", 5001), 100)
    assert one.spend(("192.0.2.2", 5000), 100)
    assert one.spend(("2001:db8::1", 5000, 0, 0), 65_507)
    assert not one.spend(("2001:db8::2", 5000, 0, 0), 100)
    assert one.spend(("2001:db8:0:1::1", 5000, 0, 0), 100)
    assert spent(one, "/run/a", 0) == 65_536 // HEADER_BYTES
    assert one.spend("/run/b", 0)


def test_small_services_have_a_budget_and_handlers_only_when_it_is_set():
    sender = ("192.0.2.1", 5000)
    assert spent(rules(), sender, 1000) == DEFAULT_DATAGRAM_BUDGET // 1028
    assert spent(rules(small=False), sender, 65_507) == 100_000
    assert spent(rules(small=False, datagram_budget=Size(65_536)), sender, 1000) == 65_536 // 1028
