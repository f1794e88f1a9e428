# SPDX-License-Identifier: MIT
"""Hours, load, the rate of all clients, names, greetings and banners of a listener, on a running daemon.

The clock is that of the machine, and the zone of the daemon is chosen so that it is noon, or midnight, there.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import time

import pytest


def zone(hour):
    """Return a TZ in which it is this hour now, at its half."""
    minutes = int(time.time() // 60) % 1440
    east = (60 * hour + 30 - minutes) % 1440
    east -= 1440 if east > 720 else 0
    sign, rest = ("-", east) if east >= 0 else ("+", -east)
    return f"XYZ{sign}{rest // 60}:{rest % 60:02}"


def listen(keys, service="upper"):
    return f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{service}"\n{keys}\n'


def answer(one, said=b"hi\n"):
    """What a client gets, to its end."""
    with one.connect() as peer:
        peer.settimeout(20)
        try:
            peer.sendall(said)
            peer.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: peer.recv(65536), b""))
        except OSError:
            return b""


@pytest.mark.parametrize(("hour", "expected"), [(12, b"HI\n"), (23, b""), (0, b"")])
def test_hours(daemon, hour, expected):
    one = daemon(toml=listen('hours = ["08:00-18:00"]'), environment={"TZ": zone(hour)})
    assert answer(one) == expected
    if not expected:
        assert one.wait_for("refused")["reason"] == "hours"


@pytest.mark.parametrize(("hour", "expected"), [(12, b""), (23, b"HI\n"), (0, b"HI\n")])
def test_hours_across_midnight(daemon, hour, expected):
    one = daemon(toml=listen('hours = ["22:00-06:00"]'), environment={"TZ": zone(hour)})
    assert answer(one) == expected


def test_a_reload_opens_and_closes(daemon, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(listen('hours = ["08:00-18:00"]'))
    one = daemon(arguments=["-c", path], environment={"TZ": zone(23)}, listeners=1)
    assert answer(one) == b""
    path.write_text(listen('hours = ["08:00-24:00"]'))
    one.process.send_signal(signal.SIGHUP)
    one.wait_for("reloaded")
    assert answer(one) == b"HI\n"


@pytest.mark.parametrize(("limit", "expected"), [("1000000", b"HI\n"), ("0.01", b"")])
def test_load(daemon, limit, expected):
    with open("/proc/loadavg") as file:
        if not expected and float(file.read().split()[0]) < 0.01:
            pytest.skip("needs a machine that does something")
    assert answer(daemon(toml=listen(f"max_load = {limit}"))) == expected


def test_a_rate_of_all_clients_pauses_for_all(daemon):
    one = daemon(toml=listen('total_rate = { connections = 3, per = "1h", pause = "1h" }\nat_limit = "refuse"'))
    assert [answer(one) for _ in range(5)] == [b"HI\n"] * 3 + [b""] * 2
    assert one.wait_for("refused")["reason"] == "total-rate"


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "issue").write_bytes(b"Authorized use only\n")
    (tmp_path / "hello").write_bytes(b"hello\n")
    (tmp_path / "no").write_bytes(b"go away\r\n")
    return tmp_path


@pytest.mark.parametrize("service", ["upper", "program"])
def test_greetings_and_banners(daemon, texts, service):
    keys = f'greeting_files = ["{texts}/issue", "{texts}/hello"]\nbanner_files = ["{texts}/issue", "{texts}/no"]'
    own = 'user = "root"' if os.geteuid() == 0 else ""
    text = f"[daemon]\n{own}\n" + listen(keys, service) + f'[service.program]\nexec = ["/bin/cat"]\n{own}\n'
    served, refused = (
        daemon(toml=text.replace("banner_files", f"{more}banner_files")) for more in ("", 'deny = ["127.0.0.1"]\n')
    )
    reply = b"HI\n" if service == "upper" else b"hi\n"
    assert answer(served) == b"Authorized use only\nhello\n" + reply
    assert answer(refused) == b"Authorized use only\ngo away\r\n"


def test_a_greeting_is_encrypted(daemon, texts, certificates):
    files = certificates.server
    keys = f'greeting_files = ["{texts}/hello"]\ntls = {{ certificate = "{files.path}", key = "{files.key}" }}'
    one = daemon(toml=listen(keys))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(one.connect()) as peer:
        peer.sendall(b"hi\n")
        assert peer.recv(6) == b"hello\n"


def test_hosts_allow_and_deny_count_as_they_are_at_that_moment(daemon, tmp_path):
    allow, deny = tmp_path / "hosts.allow", tmp_path / "hosts.deny"
    one = daemon(toml=listen(f'hosts_access = {{ daemon = "in.upperd", allow = "{allow}", deny = "{deny}" }}'))
    assert answer(one) == b"HI\n"
    deny.write_text("ALL: ALL\n")
    assert answer(one) == b""
    assert one.wait_for("refused")["reason"] == "hosts-access"
    allow.write_text("in.upperd: 127.0.0.0/8\n")
    assert answer(one) == b"HI\n"
    allow.write_text("in.upperd: localhost EXCEPT .example.com\n")
    if socket.getnameinfo(("127.0.0.1", 0), 0)[0] == "localhost":
        assert answer(one) == b"HI\n"
    allow.unlink()
    assert answer(one) == b""


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ('allow = ["localhost"]', b"HI\n"),
        ('allow = ["10.0.0.0/8", ".example.com"]', b""),
        ('deny = ["localhost"]', b""),
        ('deny = [".example.com"]', b"HI\n"),
    ],
)
def test_names(daemon, keys, expected):
    if socket.getnameinfo(("127.0.0.1", 0), 0)[0] != "localhost":
        pytest.skip("127.0.0.1 is not localhost here")
    one = daemon(toml=listen(keys))
    assert answer(one) == expected
    if not expected:
        assert one.wait_for("refused")["reason"] == "denied"
