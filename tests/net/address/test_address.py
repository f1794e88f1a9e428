# SPDX-License-Identifier: MIT
from __future__ import annotations

import socket

import pytest

from sockd.errors import AddressError, SystemFault, TemporaryFault
from sockd.net.address.address import Address, Endpoint, format_sockaddr, resolve_endpoints
from sockd.settings import address as module

TEXTS = [
    "tcp://127.0.0.1:7000",
    "tcp://127.0.0.1:0",
    "tcp://localhost:smtp",
    "tcp://b\u00fccher.example:80",
    "tcp://my_host.example:65535",
    "tcp://:7000",
    "tcp://*:7000",
    "tcp://[::]:7000",
    "udp://[::1]:53",
    "udp://:tftp",
    "tcp://[fe80::1%eth0]:7000",
    "tcp://[2001:DB8:0:0::1]:7000",
    "unix:/tmp/g.sock",
    "unix:/tmp/with blank?and#more",
    "unixgram:/run/log",
    "unix:/" + "a" * 106,
]

# text, then what the message has to name: the part, the reason, the remedy
WRONG = [
    ("", "scheme", "no scheme"),
    ("127.0.0.1:7000", "scheme", "did you mean tcp://127.0.0.1:7000"),
    ("localhost:smtp", "scheme", "did you mean tcp://localhost:smtp"),
    ("localhost", "scheme", "did you mean tcp://localhost:PORT"),
    ("7000", "scheme", "did you mean tcp://:7000"),
    ("[::1]:80", "scheme", "did you mean tcp://[::1]:80"),
    ("/tmp/g.sock", "scheme", "did you mean unix:/tmp/g.sock"),
    ("tpc://a:1", "scheme", "unknown scheme 'tpc'; did you mean tcp://a:1"),
    ("TCP://a:1", "scheme", "did you mean tcp://a:1"),
    ("unx:/tmp/a", "scheme", "did you mean unix:/tmp/a"),
    ("http://a:1", "scheme", "known: tcp://HOST:PORT"),
    ("tcp:localhost:7", "scheme", "did you mean tcp://localhost:7"),
    ("tcp://a:65536", "port", "65536 is out of range; a port is 0 to 65535"),
    ("tcp://a:-1", "port", "-1 is out of range"),
    ("tcp://a:99999999999999999999", "port", "out of range"),
    ("tcp://a:07000", "port", "begins with a zero"),
    ("tcp://a:", "port", "empty"),
    ("tcp://a", "port", "did you mean tcp://a:PORT"),
    ("tcp://", "port", "no port"),
    ("tcp://a:smpt", "port", "did you mean smtp"),
    ("tcp://a:tftp", "port", "a service of udp only"),
    ("tcp://a:\u00b2", "port", "not a tcp service"),
    ("tcp://::1:7000", "host", "in brackets: tcp://[::1]:7000"),
    ("tcp://fe80::1%eth0:7000", "host", "tcp://[fe80::1%eth0]:7000"),
    ("tcp://a:b:7000", "host", "tcp://[ADDRESS]:PORT"),
    ("tcp://[::1:7000", "host", "bracket is not closed"),
    ("tcp://[::1]", "port", "write tcp://[::1]:PORT"),
    ("tcp://[::1]7", "port", "'7' after the bracket"),
    ("tcp://[localhost]:7", "host", "not an IPv6 address"),
    ("tcp://[fe80::1%]:7", "host", "not an IPv6 address"),
    ("tcp://[fe80::1%sixteenlettersss]:7", "host", "not an IPv6 address"),
    ("tcp://[fe80::1]:7", "host", "[fe80::1%eth0]"),
    ("tcp://999.1.1.1:1", "host", "four numbers 0 to 255"),
    ("tcp://1.2.3:1", "host", "four numbers 0 to 255"),
    ("tcp://a..b:1", "host", "not a host name"),
    ("tcp://" + "a" * 64 + ":1", "host", "not a host name"),
    ("tcp://" + "a.b." * 70 + "a:1", "host", "at most 253"),
    ("tcp://a b:1", "host", "' ' cannot be in a host name"),
    ("tcp://-a:1", "host", "'-' cannot begin a host name"),
    ("tcp://user@h:7", "character 11", "a user"),
    ("tcp://h:7?x", "character 10", "a query"),
    ("tcp://h:7#x", "character 10", "a fragment"),
    ("tcp://h:7/", "character 10", "a path"),
    ("tcp://a:1 ", "text", "blanks"),
    (" tcp://a:1", "text", "blanks"),
    ("tcp://a:1\n", "character 10", "is not allowed in an address"),
    ("unix:", "path", "empty"),
    ("unix:g.sock", "path", "relative"),
    ("unix:@", "path", "empty; write unix:@NAME"),
    ("unix:@" + "a" * 107, "path", "108 bytes, at most 107 are allowed"),
    ("unix:///run/g.sock", "path", "did you mean unix:/run/g.sock"),
    ("unix:/run/", "path", "is a directory"),
    ("unix:/a\0b", "character 8", "'\\x00'"),
    ("unix:/" + "a" * 107, "path", "108 bytes, at most 107 are allowed"),
    ("unixgram:/" + "\u00e9" * 54, "path", "109 bytes"),
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_text_comes_back_the_same(text):
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(("text", "part", "reason"), WRONG)
def test_a_wrong_text_is_named_with_the_place_the_reason_and_the_remedy(text, part, reason):
    with pytest.raises(AddressError) as caught:
        Address.parse(text)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"not an address: {text!r}: {part}: ")
    assert "\n" not in str(caught.value)


def test_a_port_is_a_number_or_the_name_of_a_service_of_that_protocol():
    assert Address.parse("tcp://a:65535").port == 65535
    assert Address.parse("tcp://a:smtp").port == "smtp"
    assert Address.parse("tcp://a:smtp").port_number() == 25
    assert Address.parse("udp://a:tftp").port_number() == 69


def test_a_service_that_is_gone_later_is_a_system_fault():
    with pytest.raises(SystemFault, match="no-such-service"):
        Address("tcp", "a", "no-such-service").port_number()


def test_without_a_services_file_an_unknown_service_is_still_explained(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "SERVICES_FILE", tmp_path / "none")
    with pytest.raises(AddressError, match="'smpt' is not a tcp service of"):
        Address.parse("tcp://a:smpt")


def test_a_registered_port_is_pointed_out():
    assert Address.parse("tcp://:25").registered_service() == "smtp"
    assert Address.parse("tcp://:smtp").registered_service() is None
    assert Address.parse("tcp://:0").registered_service() is None
    assert Address.parse("unix:/a").registered_service() is None


def test_a_number_is_one_endpoint_with_its_protocol_named():
    assert resolve_endpoints(Address.parse("tcp://127.0.0.1:7"), passive=True) == [
        Endpoint(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ("127.0.0.1", 7)),
    ]
    assert resolve_endpoints(Address.parse("udp://[0::1]:7"), passive=False) == [
        Endpoint(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP, ("::1", 7, 0, 0)),
    ]


def test_a_number_never_asks_the_resolver(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("asked"))
    resolve_endpoints(Address.parse("tcp://127.0.0.1:7"), passive=False)
    resolve_endpoints(Address.parse("tcp://[::1]:7"), passive=False)


def test_a_path_is_one_endpoint():
    (found,) = resolve_endpoints(Address.parse("unixgram:/tmp/a"), passive=True)
    assert (found.family, found.type, found.sockaddr) == (socket.AF_UNIX, socket.SOCK_DGRAM, "/tmp/a")
    assert str(found) == "unixgram:/tmp/a"
    assert found.with_port(9) is found
    assert found.port == 0


def test_every_address_is_one_dual_stack_socket_to_bind():
    for text in ("tcp://:7", "tcp://*:7", "tcp://[::]:7"):
        (found,) = resolve_endpoints(Address.parse(text), passive=True)
        assert (str(found), found.dual_stack) == ("tcp://[::]:7", True)
    (other,) = resolve_endpoints(Address.parse("tcp://[::1]:7"), passive=True)
    assert not other.dual_stack


def test_every_address_without_ipv6_is_ipv4(monkeypatch):
    def refuse(family, *_):
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    (found,) = resolve_endpoints(Address.parse("tcp://:7"), passive=True)
    assert (str(found), found.dual_stack) == ("tcp://0.0.0.0:7", False)
    assert [str(e) for e in resolve_endpoints(Address.parse("tcp://:7"), passive=False)] == ["tcp://127.0.0.1:7"]


def test_every_address_to_connect_is_loopback():
    found = resolve_endpoints(Address.parse("tcp://:7"), passive=False)
    assert [str(e) for e in found] == ["tcp://[::1]:7", "tcp://127.0.0.1:7"]


def answer(monkeypatch, *hosts):
    def getaddrinfo(host, port, family, kind, proto, flags):
        assert proto != 0
        rows = []
        for found in hosts:
            v6 = ":" in found
            sockaddr = (found, port, 0, 0) if v6 else (found, port)
            rows.append((socket.AF_INET6 if v6 else socket.AF_INET, kind, proto, "", sockaddr))
        return rows

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_name_is_every_address_in_order_each_once(monkeypatch):
    answer(monkeypatch, "::1", "127.0.0.2", "::1", "127.0.0.1", "127.0.0.2")
    found = resolve_endpoints(Address.parse("tcp://many.example:7"), passive=True)
    assert [str(e) for e in found] == ["tcp://[::1]:7", "tcp://127.0.0.2:7", "tcp://127.0.0.1:7"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [(socket.EAI_NONAME, SystemFault), (socket.EAI_FAIL, SystemFault), (socket.EAI_AGAIN, TemporaryFault)],
)
def test_the_resolver_is_quoted_with_the_host(monkeypatch, code, kind):
    def refuse(*_):
        raise socket.gaierror(code, "the resolver's words")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(kind, match=r"tcp://no\.example:7: host 'no\.example': the resolver's words"):
        resolve_endpoints(Address.parse("tcp://no.example:7"), passive=False)


def test_a_scope_becomes_the_index_of_the_interface_and_comes_back():
    index, name = socket.if_nameindex()[0]
    for scope in (name, str(index)):
        (found,) = resolve_endpoints(Address.parse(f"tcp://[fe80::1%{scope}]:7"), passive=False)
        assert found.sockaddr == ("fe80::1", 7, 0, index)
        assert str(found) == f"tcp://[fe80::1%{name}]:7"
    with pytest.raises(SystemFault, match="no interface 'nosuch0'"):
        resolve_endpoints(Address.parse("tcp://[fe80::1%nosuch0]:7"), passive=False)


SOCKADDRS = [
    (socket.AF_INET, socket.SOCK_STREAM, ("192.0.2.1", 9), "tcp://192.0.2.1:9"),
    (socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 9), "udp://192.0.2.1:9"),
    (socket.AF_INET6, socket.SOCK_STREAM, ("2001:db8::1", 9, 0, 0), "tcp://[2001:db8::1]:9"),
    (socket.AF_INET6, socket.SOCK_STREAM, ("::ffff:192.0.2.1", 9, 0, 0), "tcp://192.0.2.1:9"),
    (socket.AF_INET6, socket.SOCK_STREAM, ("fe80::1%lo", 9, 0, 1), "tcp://[fe80::1%lo]:9"),
    (socket.AF_INET6, socket.SOCK_STREAM, ("fe80::1", 9, 0, 4_000_000), "tcp://[fe80::1%4000000]:9"),
    (socket.AF_UNIX, socket.SOCK_STREAM, "", "unix:"),
    (socket.AF_UNIX, socket.SOCK_DGRAM, None, "unixgram:"),
    (socket.AF_UNIX, socket.SOCK_STREAM, "/tmp/a", "unix:/tmp/a"),
    (socket.AF_UNIX, socket.SOCK_STREAM, b"\0name", "unix:@name"),
    (socket.AF_UNIX, socket.SOCK_DGRAM, b"\0a\nb\x1b\xff", "unixgram:@a\\nb\\x1b\\udcff"),
    (socket.AF_UNIX, socket.SOCK_STREAM, "/tmp/a\nforged line", "unix:/tmp/a\\nforged line"),
]


@pytest.mark.parametrize(("family", "kind", "sockaddr", "text"), SOCKADDRS)
def test_a_sockaddr_is_printed_in_one_line(family, kind, sockaddr, text):
    assert format_sockaddr(family, kind, sockaddr) == text


def test_real_peers_are_printed(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        peer, name = server.accept()
        with peer:
            assert format_sockaddr(peer.family, peer.type, name) == "unix:"
            assert format_sockaddr(client.family, client.type, client.getpeername()) == f"unix:{path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
        abstract.bind("")
        assert format_sockaddr(abstract.family, abstract.type, abstract.getsockname()).startswith("unixgram:@")
