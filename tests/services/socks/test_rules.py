# SPDX-License-Identifier: MIT
"""The address matrix: what is judged, address by address, and rule by rule.

Seen failing with plain() left out, with forms() yielding the address alone, with the kinds asked of no rule, with
`deny` held against the first form alone, with a name opening a kind, and with every address called settled.
"""

from __future__ import annotations

import ipaddress

import pytest

from sockd.services.socks.rules import AccessRequest, Rules, forms, is_own, plain
from sockd.settings.socks import parse_rule

OWN = ipaddress.ip_address("203.0.113.5"), ipaddress.ip_address("10.9.9.9"), ipaddress.ip_address("2001:db8::5")
SOMEBODY = AccessRequest(ipaddress.ip_address("198.51.100.1"), None, None)

PUBLIC = ["192.0.2.7", "8.8.8.8", "1.1.1.1", "2001:db8::7", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"]
INNER = {
    "loopback": ["127.0.0.1", "127.255.255.254", "127.0.0.53", "::1"],
    "link-local": ["169.254.169.254", "169.254.0.1", "fe80::1"],
    "private": [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "fd00::1",
        "fc00::1",
        "fec0::1",
    ],
    "multicast": ["224.0.0.1", "239.255.255.250", "ff02::1"],
    "reserved": [
        "0.0.0.0",
        "0.1.2.3",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.0.8",
        "192.88.99.1",
        "198.18.0.1",
        "198.19.255.254",
        "2001:2::1",
        "100::1",
        "::",
    ],
    "own": ["203.0.113.5", "2001:db8::5"],
}
HIDDEN = [  # an address of the house within another one
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0.0.0.0", "::ffff:203.0.113.5",  # mapped
    "::127.0.0.1", "::10.0.0.1",  # compatible
    "::ffff:0:127.0.0.1",  # translated
    "2002:7f00:1::", "2002:a00:1::1", "2002:c0a8:101::", "2002:c058:6301::", "2002:c612:1::",  # 6to4
    "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::10.0.0.1",  # NAT64
    "2001:0:7f00:1::", "2001:0:808:808:0:0:80ff:fffe",  # Teredo: the server's; the client's, inverted: 127.0.0.1
    "2001:db8::5efe:127.0.0.1", "2001:db8::200:5efe:10.0.0.1",  # ISATAP
]  # fmt: skip


def read(texts):
    return [parse_rule(text) for text in texts]


def judge(address, *, allow=(), deny=(), port=80, asked=SOMEBODY):
    rules = Rules(read(allow), read(deny), is_own=lambda one: one in OWN)
    return rules.forbids(asked, ipaddress.ip_address(address), port)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_reached_without_a_rule(address):
    assert judge(address) == ""


@pytest.mark.parametrize(("kind", "address"), [(kind, one) for kind in INNER for one in INNER[kind]])
def test_what_leads_into_the_house_is_not(kind, address):
    assert judge(address) == f"{ipaddress.ip_address(address)} is {kind}, and no rule names it"
    assert judge(address, allow=["*", "0.0.0.0/0", "::/0"])  # that is too wide to be meant
    assert judge(address, allow=["*", kind]) == ""
    assert judge(address, allow=["*", address]) == ""


@pytest.mark.parametrize("address", HIDDEN)
def test_what_is_hidden_in_another_address_is_not_either(address):
    assert "no rule names it" in judge(address)
    assert judge(address, allow=["*", "::/0"])


def test_mapped_addresses_are_the_ipv4_addresses_that_they_are():
    assert judge("::ffff:10.0.0.1", allow=["10.0.0.0/8"]) == ""
    assert judge("::ffff:192.0.2.7", deny=["192.0.2.0/24"]) == 'denied by "192.0.2.0/24"'
    assert plain(ipaddress.ip_address("::ffff:192.0.2.7")) == ipaddress.ip_address("192.0.2.7")


@pytest.mark.parametrize("address", ["64:ff9b::192.0.2.7", "2002:c000:207::", "::192.0.2.7", "::ffff:192.0.2.7"])
def test_deny_is_held_against_what_is_within(address):
    assert judge(address, deny=["192.0.2.7"]) == 'denied by "192.0.2.7"'


def test_deny_goes_before_allow():
    assert judge("192.0.2.7", allow=["192.0.2.7"], deny=["192.0.2.0/24"]) == 'denied by "192.0.2.0/24"'
    assert judge("127.0.0.1", allow=["loopback"], deny=["loopback"]) == 'denied by "loopback"'


def test_with_allow_nothing_else_is_reached():
    assert judge("192.0.2.7", allow=["198.51.100.0/24"]) == "no rule allows it"
    assert judge("192.0.2.7", allow=["198.51.100.0/24", "192.0.2.0/24:80"]) == ""
    assert judge("192.0.2.7", allow=["192.0.2.0/24:80"], port=81) == "no rule allows it"
    assert judge("2002:c000:207::", allow=["192.0.2.0/24"]) == "no rule allows it"  # it is another host


def test_a_network_of_a_kind_opens_no_own_address():
    assert judge("10.1.1.1", allow=["10.0.0.0/8"]) == ""
    assert judge("10.9.9.9", allow=["10.0.0.0/8"]) == "10.9.9.9 is own, and no rule names it"
    assert judge("10.9.9.9", allow=["10.9.9.9"]) == judge("10.9.9.9", allow=["10.0.0.0/8", "own"]) == ""


def named(name):
    return AccessRequest(ipaddress.ip_address("198.51.100.1"), None, name)


def test_names():
    below = named("www.example.com")
    assert judge("192.0.2.7", allow=["*.example.com"], asked=below) == ""
    assert judge("192.0.2.7", allow=["*.example.com"], asked=named("example.com")) == "no rule allows it"
    assert judge("192.0.2.7", allow=["*.example.com"], asked=named("badexample.com")) == "no rule allows it"
    assert judge("192.0.2.7", allow=["Example.COM"], asked=named("example.com")) == ""
    assert judge("192.0.2.7", deny=["*.example.com"], asked=below) == 'denied by "*.example.com"'
    assert judge("192.0.2.7", allow=["*.example.com"]) == "no rule allows it"  # an address has no name


def test_a_name_never_opens_a_kind():
    """Whoever owns it can have it lead anywhere."""
    asked = named("www.example.com")
    assert judge("127.0.0.1", allow=["*.example.com"], asked=asked) == "127.0.0.1 is loopback, and no rule names it"
    assert judge("10.0.0.1", allow=["www.example.com"], asked=asked) == "10.0.0.1 is private, and no rule names it"


def test_a_name_that_is_denied_is_not_even_looked_up():
    rules = Rules(read(["*.example.com:443"]), read(["bad.example.com", "10.0.0.0/8"]))
    assert rules.forbids_name(named("bad.example.com"), 443) == 'denied by "bad.example.com"'
    assert rules.forbids_name(named("good.example.com"), 443) == ""
    assert rules.forbids_name(named("good.example.com"), 80) == "no rule allows it"


def test_sources_and_users():
    alice = AccessRequest(ipaddress.ip_address("10.0.0.1"), "alice", None)
    unix = AccessRequest(None, "alice", None)
    rule = ["from 10.0.0.0/8 user alice to 192.0.2.0/24:80-443"]
    assert judge("192.0.2.7", allow=rule, asked=alice, port=443) == ""
    assert judge("192.0.2.7", allow=rule, asked=alice, port=444) == "no rule allows it"
    assert judge("192.0.2.7", allow=rule, asked=SOMEBODY) == "no rule allows it"
    assert judge("192.0.2.7", allow=rule, asked=unix) == "no rule allows it"
    assert judge("192.0.2.7", deny=["user alice"], asked=alice) == 'denied by "user alice"'
    assert judge("192.0.2.7", deny=["user alice"], asked=SOMEBODY) == ""


def test_an_address_carries_what_the_rfcs_say():
    def within(text):
        return [str(one) for one in forms(ipaddress.ip_address(text))][1:]

    assert within("64:ff9b::192.0.2.33") == ["192.0.2.33"]  # RFC 6052, 2.4
    assert within("2002:c000:221::1") == ["192.0.2.33"]  # RFC 3056, 2
    # RFC 4380, 4: server 65.54.227.120, client 192.0.2.45
    assert within("2001:0000:4136:e378:8000:63bf:3fff:fdd2") == ["65.54.227.120", "192.0.2.45"]
    assert within("::1") == within("::") == within("192.0.2.7") == within("2001:db8::7") == []


def test_the_kernel_knows_what_is_our_own():
    assert is_own(ipaddress.ip_address("127.0.0.1"))
    assert not is_own(ipaddress.ip_address("192.0.2.7"))


@pytest.mark.parametrize(
    "text",
    ["", "from", "user", "to", "10.0.0.0/33", "10.0.0.1/8", "a b", "10.0.0.1 10.0.0.2", "*:70000", "*:9-8", "*:http",
     "[::1", "::ffff:10.0.0.1", "fe80::1%eth0", "a..b", "lopback", "from example.org", "*.*", "[::1]80"],
)  # fmt: skip
def test_what_is_no_rule(text):
    with pytest.raises(ValueError, match=r"."):
        parse_rule(text)


def test_parts_of_a_rule():
    rule = parse_rule("from 10.0.0.0/8 user alice to [2001:db8::/32]:8000-8999")
    assert (str(rule.source), rule.user, str(rule.network), rule.ports) == (
        "10.0.0.0/8", "alice", "2001:db8::/32", (8000, 8999),
    )  # fmt: skip
    assert parse_rule(":25").ports == parse_rule("*:25").ports == (25, 25)
    assert str(parse_rule("2001:db8::/32").network) == "2001:db8::/32"
    assert parse_rule("private:22").kind == "private"


def test_what_a_host_may_have_been_given_is_its_own_though_it_is_reserved():
    own = ipaddress.ip_address("198.18.0.5")
    for allow, verdict in ((["198.18.0.0/15"], "own"), (["198.18.0.5"], ""), (["198.18.0.0/15", "own"], "")):
        why = Rules(read(allow), [], is_own=lambda one: one == own).forbids(SOMEBODY, own, 80)
        assert why == (verdict and f"198.18.0.5 is {verdict}, and no rule names it")
    other = Rules(read(["198.18.0.0/15"]), [], is_own=lambda one: one == own)
    assert other.forbids(SOMEBODY, ipaddress.ip_address("198.18.0.6"), 80) == ""


def test_a_verdict_is_settled_unless_the_kernel_is_asked_for_it():
    asked = []
    rules = Rules(read(["loopback", "multicast", "reserved", "*"]), [], is_own=lambda one: bool(asked.append(one)))
    every = [*PUBLIC, *HIDDEN, *(text for texts in INNER.values() for text in texts)]
    for address in map(ipaddress.ip_address, every):
        asked.clear()
        rules.forbids(SOMEBODY, address, 80)
        if asked:
            assert not rules.is_permanent(address), address
    assert rules.is_permanent(ipaddress.ip_address("127.0.0.1"))
    assert not rules.is_permanent(ipaddress.ip_address("8.8.8.8"))
