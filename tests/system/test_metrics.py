# SPDX-License-Identifier: MIT
"""The metrics service: what Prometheus scrapes, the page for people, readiness; HTTP as peers speak it.

Seen to fail: with the totals of former groups left out a counter falls over a reload; with labels not escaped the
parser refuses the page; with /ready answering 200 always the drain is not told.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
from importlib.metadata import version

import pytest
from controlling import Sockctl
from prometheus_client.parser import text_string_to_metric_families

LISTEN = '[[listen]]\naddress = "{}"\nservice = "{}"\n'


@pytest.fixture
def house(serve, tmp_path):
    """A daemon with services of every kind, and its metrics."""

    def start(*listens, daemon=""):
        text = f'[daemon]\ncontrol = "{tmp_path}/control.sock"\n{daemon}\n'
        text += LISTEN.format("tcp://127.0.0.1:0", "metrics") + "".join(LISTEN.format(*one) for one in listens)
        server = serve(config=text)
        server.sockctl = Sockctl(tmp_path)
        return server

    return start


def get(server, path, method="GET"):
    host, _, port = server.addresses[0].removeprefix("tcp://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer, body


def scrape(server):
    """{(name, frozenset of labels): value} of everything, as Prometheus' own parser reads it."""
    answer, body = get(server, "/metrics")
    assert answer.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(body))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation and family.type != "unknown" for family in families)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def of(numbers, name, **labels):
    return numbers[name, frozenset(labels.items())]


def test_what_is_counted(house, tmp_path):
    where = f'unix:{tmp_path}/with "quote" and \\\\ slash'
    server = house(
        ("tcp://127.0.0.1:0", "upper"), ("tcp://127.0.0.1:0", "app:upper"), (where.replace('"', '\\"'), "app:Upper"),
        ("udp://127.0.0.1:0", "echo"),
    )  # fmt: skip
    before = scrape(server)
    peers = [server.connect(server.addresses[index]) for index in (1, 2, 3)]
    for peer in peers:
        assert peer.ask(b"abc") == b"ABC"
    datagram = server.connect(server.addresses[4])
    datagram.send(b"d")
    assert datagram.sock.recv(10) == b"d"
    server.end_of(peers[0])
    peers[1].reset()
    server.wait_for("closed", reason="reset")
    numbers = scrape(server)
    for service, is_open in (("upper", 0), ("app:upper", 0), ("app:Upper", 1)):
        assert of(before, "sockd_connections_total", service=service) == 0
        assert of(numbers, "sockd_connections_total", service=service) == 1
        assert of(numbers, "sockd_open_connections", service=service) == is_open
        assert of(numbers, "sockd_frames_total", service=service) == 1
        assert of(numbers, "sockd_received_bytes_total", service=service) == 4
        assert of(numbers, "sockd_sent_bytes_total", service=service) == 4
    assert of(numbers, "sockd_connections_closed_total", service="upper", reason="eof") == 1
    assert of(numbers, "sockd_connections_closed_total", service="app:upper", reason="reset") == 1
    assert of(numbers, "sockd_handler_seconds_count", service="app:upper") == 1
    assert of(numbers, "sockd_handler_seconds_bucket", service="app:upper", le="+Inf") == 1
    assert of(numbers, "sockd_loop_turn_seconds_count") > of(before, "sockd_loop_turn_seconds_count") > 0
    address = server.addresses[1]
    assert of(numbers, "sockd_listener_accepted_total", service="upper", address=address) == 1
    assert of(numbers, "sockd_accept_queue_connections", service="upper", address=address) == 0
    assert of(numbers, "sockd_accept_queue_overflows_total", service="upper", address=address) == 0
    place = {"service": "echo", "address": server.addresses[4]}
    assert of(numbers, "sockd_datagrams_total", result="answered", **place) == 1
    assert of(numbers, "sockd_ready") == 1
    assert of(numbers, "process_open_fds") > 5
    assert [of(numbers, "sockd_descriptors", service=name) for name in ("upper", "app:Upper", "echo")] == [1, 2, 1]
    assert of(numbers, "sockd_time_wait_sockets") >= 0
    assert of(numbers, "process_resident_memory_bytes") > 1 << 20
    assert of(numbers, "process_cpu_seconds_total") > 0
    build = [dict(labels) for name, labels in numbers if name == "sockd_build_info"]
    assert build[0]["version"] == version("sockd")


def test_counters_go_on_over_a_reload(house, tmp_path):
    server = house(("tcp://127.0.0.1:0", "app:upper"))
    peer = server.connect(server.addresses[1])
    assert peer.ask(b"abc") == b"ABC"
    server.sockctl.say("reload")
    assert peer.ask(b"abc") == b"ABC"
    server.end_of(peer)
    assert server.connect(server.addresses[1]).ask(b"abc") == b"ABC"
    numbers = scrape(server)
    assert of(numbers, "sockd_frames_total", service="app:upper") == 3
    assert of(numbers, "sockd_connections_total", service="app:upper") == 2
    assert of(numbers, "sockd_reloads_total", result="success") == 1
    assert of(numbers, "sockd_last_reload_success") == 1
    (tmp_path / "sockd.toml").write_text("[wrong")
    assert server.sockctl.run("reload").returncode == 78
    numbers = scrape(server)
    assert of(numbers, "sockd_last_reload_success") == 0
    assert of(numbers, "sockd_reloads_total", result="failure") == 1
    assert of(numbers, "sockd_frames_total", service="app:upper") == 3


def test_ready_until_it_stops(house):
    server = house(daemon='pre_drain = "60s"')
    assert [(get(server, path)[0].status, get(server, path)[1]) for path in ("/ready", "/live")] == [
        (200, "ready\n"),
        (200, "live\n"),
    ]
    server.signal()
    server.wait_for("not ready any more, still serving")
    assert get(server, "/ready")[0].status == 503
    assert get(server, "/live")[0].status == 200
    assert of(scrape(server), "sockd_ready") == 0
    server.signal()
    assert server.wait() == 0


def test_the_page_needs_nothing_from_elsewhere(house):
    server = house()
    answer, body = get(server, "/")
    assert answer.getheader("Content-Type") == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.getheader("Content-Security-Policy")
    assert not re.search(r'(src|href)\s*=\s*"(?!data:,")|@import|url\(', body)
    status = json.loads(get(server, "/status.json")[1])
    assert (status["state"], status["max_connections"]) == ("serving", 10_000)
    assert status["process"]["cpu_seconds_total"] > 0


def test_over_a_unix_socket(serve, tmp_path):
    server = serve(f"unix:{tmp_path}/metrics=metrics")
    peer = server.connect()
    peer.send(b"GET /live HTTP/1.0\r\n\r\n")
    assert peer.to_end().endswith(b"\r\n\r\nlive\n")


def test_a_measured_handler_skips_frames_that_are_too_long(serve, tmp_path):
    (tmp_path / "app_long.py").write_text("def upper(line):\n    return line.upper()\n")
    listeners = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{}"\n'
    config = f'[daemon]\npath = "{tmp_path}"\n' + listeners.format("long") + listeners.format("metrics")
    server = serve(config=config + '[service.long]\nhandler = "app_long:upper"\nmax_frame = 64\ntoo_long = "skip"\n')
    assert server.connect().finish_with(b"a\n" + b"x" * 200 + b"\nb\n") == b"A\nB\n"


def test_the_page_has_what_its_first_screen_shows(house, certificates):
    own = certificates.server
    start = house
    server = start(("tcp://127.0.0.1:0", "upper"))
    server.sockctl.ask("deny", "192.0.2.0/24")
    status = json.loads(get(server, "/status.json")[1])
    assert status["host"] == socket.gethostname()
    assert 0 <= status["configuration_seconds"] <= status["seconds"] + 1
    assert status["events"][0]["message"] == "override set"
    assert status["certificates"] == []
    page = get(server, "/")[1]
    assert not re.findall(r"(?:src|href)=\"(?!data:)|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page)
    config = server.sockctl.directory / "sockd.toml"
    tls = f'tls = {{ certificate = "{own.path}", key = "{own.key}" }}\n'
    config.write_text(config.read_text() + LISTEN.format("tcp://127.0.0.1:0", "echo") + tls)
    server.sockctl.ask("reload")
    (found,) = json.loads(get(server, "/status.json")[1])["certificates"]
    assert found["file"] == str(own.path)
    assert found["seconds_left"] > 0
    assert f'sockd_certificate_expiry_timestamp_seconds{{file="{own.path}"}} ' in get(server, "/metrics")[1]
