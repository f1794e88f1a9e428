# SPDX-License-Identifier: MIT
"""Relays and SOCKS servers under a reload: who is connected stays, who comes goes by the new settings."""

from __future__ import annotations

import os
import select

import pytest
from controlling import Sockctl
from targets import received

AS = 'user = "root"\n' if os.geteuid() == 0 else ""
LISTEN = '[[listen]]\naddress = "{address}"\nservice = "{service}"\n'
BACK = LISTEN.format(address="unix:front", service="back")
RELAY = BACK + "[service.back]\nrelay = {{ to = [{to}]{more} }}\n{service}\n"
OTHER = LISTEN.format(address="unix:other", service="upper")


@pytest.fixture
def house(serve, tmp_path):
    """A daemon whose relay listens on the Unix socket `front`; it can be asked, and told another configuration."""

    class House(Sockctl):
        def write(self, *to, more="", service="", other=""):
            targets = ", ".join(f'"{one if isinstance(one, str) else one.address}"' for one in to)
            text = RELAY.format(to=targets, more=more, service=service).replace("unix:", f"unix:{tmp_path}/")
            (tmp_path / "sockd.toml").write_text(f'[daemon]\ncontrol = "{self.path}"\n{AS}{text}{other}')

        def start(self, *to, **more):
            self.write(*to, **more)
            self.server = serve(options=["-c", "sockd.toml"])
            return self.server

        def reload(self, *to, **more):
            self.write(*to, **more)
            return self.ask("reload")["changes"]

        def connect(self):
            return self.server.connect(f"unix:{tmp_path}/front")

    return House(tmp_path)


def accepted(target):
    """Whether somebody has connected who was not taken."""
    return bool(select.select([target.listener], [], [], 0)[0])


def take_all(target):
    while accepted(target):
        target.take()


def test_who_is_connected_keeps_the_target(house, target):
    old, new = target(), target()
    house.start(old)
    client = house.connect()
    other = old.take()
    changes = house.reload(new)
    assert [address for address, _ in changes["kept"]] == [house.server.addresses[0]]
    assert changes["added"] == changes["removed"] == []
    second = house.connect()
    new.take().send(b"new")
    assert received(second.sock, 3) == b"new"
    client.send(b"still")
    assert received(other, 5) == b"still"
    other.send(b"old")
    assert received(client.sock, 3) == b"old"
    client.half_close()
    other.close()
    assert client.to_end() == b""
    closed = house.server.wait_for("closed", target=old.address)
    assert (closed["reason"], closed["received"], closed["sent"]) == ("eof", 5, 3)
    assert not accepted(old)


def test_times_and_headers_are_those_of_when_it_began(house, target):
    back = target()
    house.start(back)
    client = house.connect()
    other = back.take()
    house.reload(back, more=', proxy_header = "v1", half_close_timeout = "200ms"', service='idle_timeout = "1s"')
    second = house.connect()
    another = back.take()
    assert another.recv(100) == b"PROXY UNKNOWN\r\n"  # of a Unix socket's client
    second.half_close()
    assert second.to_end() == b""
    house.server.wait_for("closed", reason="half-close-timeout")
    house.connect()
    assert back.take().recv(100) == b"PROXY UNKNOWN\r\n"
    house.server.wait_for("closed", reason="idle-timeout")
    client.half_close()
    client.sock.settimeout(1)  # longer than the new time
    with pytest.raises(TimeoutError):
        client.sock.recv(1)
    other.send(b"late")
    assert received(client.sock, 4) == b"late"


def test_what_is_known_of_targets_stays_where_the_relay_does(house, target):
    back = target()
    down = "tcp://127.0.0.1:1"
    house.start(down, back)
    house.connect()
    back.take()
    first = house.server.wait_for("relay target is down")
    house.reload(down, back, other=OTHER.replace("unix:", f"unix:{house.directory}/"))
    for _ in range(4):
        house.connect()
        back.take()
    house.reload(down, back, more=', retry_after = "1h"')  # another relay, which has to see for itself
    house.connect()
    back.take()
    assert (first["seconds"], house.server.wait_for("relay target is down", 2)["seconds"]) == (10, 3600)


def test_checks_of_a_former_relay_end(house, target):
    """At once, although a client of it is there still."""
    old, new = target(), target()
    check = ', check = { interval = "100ms" }'
    house.start(old, more=check)
    client = house.connect()
    client.send(b"mine")
    other = next(sock for sock in iter(old.take, None) if sock.recv(4) == b"mine")
    house.reload(new, more=check)
    for _ in range(10):  # a second of the new ones, in which the old ones are to end
        new.take()
    take_all(old)
    for _ in range(5):
        new.take()
    assert not accepted(old)
    other.send(b"here")
    assert received(client.sock, 4) == b"here"


def test_a_reload_that_fails_connects_to_nobody(house, target, tmp_path):
    old, new = target(), target()
    check = ', check = { interval = "100ms" }'
    house.start(old, more=check)
    (tmp_path / "failing.py").write_text(
        "import sockd\nservice = sockd.Service()\nservice.frame(bytes.upper)\n@service.startup\ndef up(): 1 / 0\n"
    )
    failing = OTHER.replace("upper", "failing:service").replace("unix:", f"unix:{tmp_path}/")
    house.write(new, more=check, other=failing)
    assert "startup hook failed" in house.run("reload").stderr
    for _ in range(5):
        old.take()
    client = house.connect()
    client.send(b"mine")
    next(sock for sock in iter(old.take, None) if sock.recv(4) == b"mine")
    assert not accepted(new)


def test_a_relay_whose_listener_is_removed_goes_with_its_last_client(house, target, tmp_path):
    back = target()
    house.start(back, more=', check = { interval = "100ms" }')
    client = house.connect()
    client.send(b"mine")
    other = next(sock for sock in iter(back.take, None) if sock.recv(4) == b"mine")
    (tmp_path / "sockd.toml").write_text(
        f'[daemon]\ncontrol = "{house.path}"\n{AS}' + OTHER.replace("unix:", f"unix:{tmp_path}/")
    )
    house.ask("reload")
    house.server.wait_until(lambda: not (tmp_path / "front").exists(), "the end of the listener")
    other.send(b"here")
    assert received(client.sock, 4) == b"here"
    client.half_close()
    assert other.recv(1) == b""
    other.close()
    assert client.to_end() == b""
    assert house.server.wait_for("closed", target=back.address)["reason"] == "eof"


# ---- what is read from files


def greeted(sock):
    """What a SOCKS 5 server chooses for whoever offers both methods."""
    sock.sendall(b"\5\2\0\2")
    return received(sock, 2)


def test_the_users_of_a_socks_server_that_a_reload_adds_have_to_log_in(house, target, tmp_path):
    back = target()
    house.start(back)
    (tmp_path / "users").write_text("alice:$scrypt$ln=4,r=8,p=1$c2FsdA$" + "A" * 43 + "\n")
    more = LISTEN.format(address=f"unix:{tmp_path}/proxy", service="proxy")
    more += f'[service.proxy]\nsocks = {{ users = "{tmp_path}/users" }}\n'
    house.reload(back, other=more)
    assert greeted(house.server.connect(f"unix:{tmp_path}/proxy").sock) == b"\5\2"


def test_the_password_of_a_relay_that_a_reload_adds_is_read(house, target, tmp_path):
    back, way = target(), target()
    house.start(back)
    (tmp_path / "password").write_text("secret\n")
    more = LISTEN.format(address=f"unix:{tmp_path}/far", service="far") + (
        '[service.far]\nrelay = { to = ["tcp://192.0.2.1:25"], '
        f'via = "{way.address.replace("tcp://", "socks5://alice@")}", via_password = "{tmp_path}/password" }}\n'
    )
    house.reload(back, other=more)
    house.server.connect(f"unix:{tmp_path}/far")
    other = way.take()
    methods = received(other, 2)
    assert b"\2" in received(other, methods[1])
    other.send(b"\5\2")
    assert received(other, 14) == b"\1\5alice\6secret"


def test_a_password_that_cannot_be_read_stops_the_reload(house, target, tmp_path):
    back = target()
    house.start(back)
    more = LISTEN.format(address=f"unix:{tmp_path}/far", service="far") + (
        '[service.far]\nrelay = { to = ["tcp://192.0.2.1:25"], '
        f'via = "socks5://alice@127.0.0.1", via_password = "{tmp_path}/nothing" }}\n'
    )
    house.write(back, other=more)
    done = house.run("reload")
    assert done.returncode != 0
    assert f"{tmp_path}/nothing" in done.stderr
    house.connect()
    back.take().send(b"here")


# ---- what is told of them


def test_status_counts_on(house, target):
    """Over a reload, too: what is open, and what has ended."""
    back = target()
    house.start(back)
    first, _other = house.connect(), house.connect()
    other, _ = back.take(), back.take()
    first.send(b"question")
    assert received(other, 8) == b"question"
    other.send(b"yes")
    assert received(first.sock, 3) == b"yes"
    assert counts(house) == {"open": 2, "accepted": 2, "received": 8, "sent": 3, "reasons": {}}
    house.reload(back, more=', proxy_header = "v1"')
    first.half_close()
    other.close()
    assert first.to_end() == b""
    house.server.wait_for("closed", reason="eof")
    third = house.connect()
    third.send(b"more")
    assert received(back.take(), 19) == b"PROXY UNKNOWN\r\nmore"
    assert counts(house) == {"open": 2, "accepted": 3, "received": 12, "sent": 3, "reasons": {"eof": 1}}


def counts(house):
    status = house.ask("status")
    service = status["services"]["back"]
    assert status["connections"] == status["listeners"][0]["open"] == service["open"]
    return {name: service[name] for name in ("open", "accepted", "received", "sent", "reasons")}
