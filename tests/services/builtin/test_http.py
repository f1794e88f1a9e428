# SPDX-License-Identifier: MIT
"""The pages as HTTP peers ask for them: real daemons, bytes as they are on the wire.

Seen failing as these pages were first: a blank line before a request was no request, an absolute target no page, none
and two of Host went through, as did a Host of anybody's; a field of 63 KB of blanks took 19.5 s; all answers to what
came together were made in one turn.
"""

from __future__ import annotations

import contextlib
import shutil
import socket

import psutil
import pytest
from serving import APP, MULTIPLEXERS, Server

HOST = b"Host: localhost\r\n"
LIVE = b"GET /live HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"HEAD /live HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
UNSENT = "sockd_output_pending_bytes"


@pytest.fixture(scope="module", params=MULTIPLEXERS)
def pages(request, tmp_path_factory, has_ipv6):
    """A daemon with the metrics service on 127.0.0.1, every address, a Unix path, ::1, and upper beside it."""
    directory = tmp_path_factory.mktemp(request.param)
    shutil.copy(APP, directory / "app.py")
    addresses = [
        "tcp://127.0.0.1:0",
        "tcp://0.0.0.0:0",
        f"unix:{directory}/s",
        *(["tcp://[::1]:0"] if has_ipv6 else []),
    ]
    listens = [f"{address}=metrics" for address in addresses]
    words = [word for listen in [*listens, "tcp://127.0.0.1:0=upper"] for word in ("--listen", listen)]
    server = Server(["-f", "--log-format", "json", "--multiplexer", request.param, *words], directory)
    try:
        yield server.ready()
        assert server.process.poll() is None, server.said()
        server.stop()
    finally:
        server.end()


def answer_of(peer, *, has_body=True):
    """(status, fields, body) of the next answer."""
    version, status, _ = peer.line().split(b" ", 2)
    assert version == b"HTTP/1.1"
    head = dict(line.rstrip(b"\r\n").split(b": ", 1) for line in iter(peer.line, b"\r\n"))
    return int(status), head, peer.file.read(int(head[b"Content-Length"])) if has_body else b""


def ask(pages, request, index=0):
    """The status of a request, and whether the connection stays."""
    with contextlib.closing(pages.connect(pages.addresses[index])) as peer:
        peer.send(request)
        status, head, _ = answer_of(peer)
        if head[b"Connection"] == b"close":
            assert peer.to_end() == b""
            return status, False
        peer.send(LAST)
        assert answer_of(peer, has_body=False)[0] == 200
        assert peer.to_end() == b""
        return status, True


@pytest.mark.parametrize(
    ("request_", "status", "stays"),
    [
        (LIVE, 200, True),
        (b"GET /live?x=1 HTTP/1.1\nHost: localhost\n\n", 200, True),
        (b"GET /live HTTP/1.0\r\n\r\n", 200, False),
        (b"GET /live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, True),
        (b"GET /live HTTP/1.1\r\n" + HOST + b"Connection: x, Close\r\n\r\n", 200, False),
        (b"GET /live HTTP/1.1\r\n" + HOST + b"Connection: closed\r\n\r\n", 200, True),
        (b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n", 404, True),
        (b"\r\n" + LIVE, 200, True),
        (b"\n\r\n\r\n" + LIVE, 200, True),
        (b"\r\n" * 8 + LIVE, 200, True),
        (b"\r\n" * 9 + LIVE, 400, False),
        (b"GET http://localhost/live HTTP/1.1\r\n" + HOST + b"\r\n", 200, True),
        (b"GET http://localhost:1/live?x HTTP/1.1\r\nHost: whatever\r\n\r\n", 200, True),
        (b"GET http://evil.example/live HTTP/1.1\r\n" + HOST + b"\r\n", 421, False),
        (b"GET /live HTTP/1.1\r\n\r\n", 400, False),
        (b"GET /live HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400, False),
        (b"GET /live HTTP/1.1\r\nHost: local host\r\n\r\n", 400, False),
        (b"GET /live HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n", 400, False),
        (b"GET /live HTTP/1.1\r\nHost : localhost\r\n\r\n", 400, False),
        (b"nonsense\r\n\r\n", 400, False),
        (b"GET /live HTTP/2.0\r\n" + HOST + b"\r\n", 505, False),
        (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400, False),
        (b"DELETE /live HTTP/1.1\r\n" + HOST + b"\r\n", 405, False),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 405, False),
        (b"CONNECT localhost:1 HTTP/1.1\r\n" + HOST + b"\r\n", 405, False),
        (b"POST /live HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nbody", 405, False),
        (b"GET /live HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", 200, True),
        (b"GET /live HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nContent-Length: 0\r\n\r\nbody", 413, False),
        (b"GET /live HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413, False),
        (b"GET /live HTTP/1.1\r\n" + HOST + b"A:" + b" " * 63_000 + b"\r\n\r\n", 431, False),
        (b"GET /live HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 10_000 + b"\r\n", 431, False),
        (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, False),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, bytes) else str(value),
)
def test_requests(pages, request_, status, stays):
    assert ask(pages, request_) == (status, stays)


def test_what_is_allowed_is_said(pages):
    peer = pages.connect(pages.addresses[0])
    peer.send(b"PUT /live HTTP/1.1\r\n" + HOST + b"\r\n")
    assert answer_of(peer)[1][b"Allow"] == b"GET, HEAD"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost", 200), (b"LocalHost:9700", 200), (b"127.0.0.1:1", 200), (b"127.1.2.3", 200), (b"[::1]", 200),
        (b"sub.localhost", 200), (b"", 200), (socket.gethostname().encode(), 200), (b"sockd", 200),
        (b"evil.example", 421), (b"127.0.0.1.evil.example:80", 421), (b"192.0.2.1", 421),
        (b"localhost.evil.example", 421),
    ],
)  # fmt: skip
def test_on_loopback_only_this_machine_is_asked(pages, host, status, has_ipv6):
    """Wherever it is bound: a page that leads a browser to 127.0.0.1 under its own name gets nothing."""
    for index in (0, 1, *([3] if has_ipv6 else [])):
        assert ask(pages, b"GET /live HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", index)[0] == status
        assert ask(pages, b"GET /live HTTP/1.0\r\nHost: " + host + b"\r\n\r\n", index)[0] == status


def test_over_a_unix_socket_any_name_will_do(pages):
    assert ask(pages, b"GET /live HTTP/1.1\r\nHost: whatever.example\r\n\r\n", 2) == (200, True)
    assert ask(pages, b"GET /live HTTP/1.0\r\n\r\n", 2) == (200, False)


def test_a_proxy_may_have_a_name_of_its_own(serve):
    text = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "metrics"\nproxy_protocol = {{ from = ["{}"] }}\n'
    server = serve(config=text.format("127.0.0.0/8") + text.format("192.0.2.1"))
    request = b"GET /live HTTP/1.1\r\nHost: metrics.example\r\n\r\n"
    for index, header, status in ((0, b"PROXY TCP4 192.0.2.7 192.0.2.1 4 5\r\n", 200), (1, b"", 421)):
        peer = server.connect(server.addresses[index])
        peer.send(header + request)
        assert answer_of(peer)[0] == status


def test_what_comes_together_is_answered_in_its_order(pages):
    peer = pages.connect(pages.addresses[0])
    paths = [b"/live", b"/nothing", b"/ready", b"/metrics", b"/live"]
    requests = b"".join(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n" for path in paths)
    peer.send(requests + b"\r\nGET / HTTP/1.0\r\n\r\n")
    peer.half_close()
    statuses, bodies = zip(*((status, body) for status, _, body in (answer_of(peer) for _ in range(6))), strict=True)
    assert statuses == (200, 404, 200, 200, 200, 200)
    assert (bodies[0], bodies[2], bodies[4]) == (b"live\n", b"ready\n", b"live\n")
    assert bodies[3].startswith(b"# HELP sockd_build_info")
    assert peer.to_end() == b""


def test_answers_wait_for_who_does_not_read(pages):
    """Of 2,000 requests that came together no more is answered than high_water and a page; others have their turn."""
    greedy = pages.connect(pages.addresses[0], SO_RCVBUF=4096)
    greedy.send((b"GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2000)[:65_000])
    beside = pages.connect(pages.addresses[-1])
    output_pending_bytes = []
    for _ in range(50):
        assert beside.ask(b"abc") == b"ABC"
        output_pending_bytes.append(_output_pending_bytes(pages))
    assert max(output_pending_bytes) < 500_000, output_pending_bytes
    assert pages.process.poll() is None


def _output_pending_bytes(pages):
    peer = pages.connect(pages.addresses[1])
    peer.send(b"GET /metrics HTTP/1.0\r\n\r\n")
    body = answer_of(peer)[2].decode()
    peer.close()
    return max(float(line.rsplit(" ", 1)[1]) for line in body.splitlines() if line.startswith(UNSENT))


def test_a_field_of_blanks_costs_nothing(pages):
    process = psutil.Process(pages.process.pid)
    before = sum(process.cpu_times()[:2])
    for _ in range(5):
        head = b"GET /live HTTP/1.1\r\n" + HOST + b"A: b" + b" " * 63_000 + b"c\r\n\r\n"
        assert ask(pages, head) == (431, False)
    assert sum(process.cpu_times()[:2]) - before < 2  # 97 s once
