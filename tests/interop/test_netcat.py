# SPDX-License-Identifier: MIT
"""The FAQ's server under the clients that everybody has: nc, socat, and sockctl connect.

Seen failing, each once: `upper` replaced by `echo` in the fixture (all that use it), `echo` on port 7007 in place of
the built-in example (its test), `greet` answering the line alone (its test).
"""

from __future__ import annotations

import shutil
import subprocess

import pytest

LIMIT_S = 30
MANY = 20_000  # lines: more than the buffers between client and daemon hold

# -N, -U and -W are those of OpenBSD's nc
nc = pytest.mark.skipif(shutil.which("nc") is None, reason="package netcat-openbsd is missing")
socat = pytest.mark.skipif(shutil.which("socat") is None, reason="package socat is missing")  # no stand-in
namespaces = pytest.mark.skipif(
    subprocess.run(["sh", "-c", "unshare -rn ip link set lo up"], capture_output=True).returncode != 0,
    reason="no right to a network of our own, or no package iproute2",  # port 7007 here may be someone's
)

STREAM_CLIENTS = [
    pytest.param("nc -N 127.0.0.1 {tcp_port}", marks=nc),
    pytest.param("nc -N -U {unix_path}", marks=nc),
    pytest.param("socat -t10 - TCP:127.0.0.1:{tcp_port}", marks=socat),
    pytest.param("socat -t10 - UNIX-CONNECT:{unix_path}", marks=socat),
    "{sockctl} connect {tcp}",
    "{sockctl} connect {unix}",
]
DATAGRAM_CLIENTS = [
    pytest.param("nc -u -W1 -w10 127.0.0.1 {udp_port}", marks=nc),  # -W1: one answer is the end
    pytest.param("nc -uU -W1 -w10 {unixgram_path}", marks=nc),
    "{sockctl} connect {udp}",
    "{sockctl} connect {unixgram}",
]
INTERACTIVE_CLIENTS = [*STREAM_CLIENTS, pytest.param("socat - UDP:127.0.0.1:{udp_port}", marks=socat)]


@pytest.fixture
def words(serve, sockctl, tmp_path):
    """Serve `upper` as the built-in example does but for the ports, and fill its addresses into a command line."""
    schemes = {"tcp": "tcp://127.0.0.1:0", "udp": "udp://127.0.0.1:0"}
    schemes |= {scheme: f"{scheme}:{tmp_path}/{scheme}" for scheme in ("unix", "unixgram")}
    server = serve(*[f"{address}=upper" for address in schemes.values()])
    server.wait_for("listening", count=len(schemes))
    known = dict(zip(schemes, server.addresses, strict=True))
    known |= {f"{scheme}_port": known[scheme].rpartition(":")[2] for scheme in ("tcp", "udp")}
    known |= {f"{scheme}_path": known[scheme].partition(":")[2] for scheme in ("unix", "unixgram")}
    return lambda client: [word.format(**known, sockctl=sockctl) for word in client.split()]


@pytest.mark.parametrize("client", [*STREAM_CLIENTS, *DATAGRAM_CLIENTS])
def test_one_line_piped(run, words, client):
    done = run(*words(client), input=b"hello\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"HELLO\n", b"")


@pytest.mark.parametrize("client", STREAM_CLIENTS)
def test_many_lines_piped_and_the_answer_read_to_its_end(run, words, client):
    lines = b"".join(b"line %d\n" % number for number in range(MANY))
    done = run(*words(client), input=lines)
    assert done.returncode == 0
    assert done.stdout == lines.upper()


@pytest.mark.parametrize("client", INTERACTIVE_CLIENTS)
def test_transcript_answered_line_by_line(words, client):
    """FAQ II.17: "hello\\n" is answered by "HELLO\\n" with the client's side still open."""
    with subprocess.Popen(words(client), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        for line in (b"hello\n", b"\n", b"one, two, 3\n"):
            process.stdin.write(line)
            assert process.stdout.readline() == line.upper()
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(LIMIT_S) == 0


@pytest.mark.parametrize("client", STREAM_CLIENTS)
def test_transcript_typed_byte_by_byte(words, client):
    """FAQ II.17, case 1: "h", "e", "l", "l", "o", "\\n", one write each."""
    with subprocess.Popen(words(client), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        for byte in b"hello\n":
            process.stdin.write(bytes([byte]))
        assert process.stdout.readline() == b"HELLO\n"
        process.stdin.close()
        assert process.wait(LIMIT_S) == 0


def test_sockctl_sends_a_datagram_a_line(run, words):
    done = run(*words("{sockctl} connect {udp}"), input=b"one\n\ntwo")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"ONE\n\nTWO", b"")


@nc
@namespaces
def test_built_in_example_as_the_readme_types_it(launch, run, sockd, sockctl, tmp_path):
    """`sockd --foreground` with nothing else: in a network of its own, for its port is fixed."""
    shell = ["-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]  # words of unshare, which becomes sockd
    words = [*shell, sockd, "--foreground", "--log-format", "json"]
    daemon = launch(*words, executable=shutil.which("unshare"), environment={"XDG_RUNTIME_DIR": str(tmp_path)}).ready()
    inside = ["nsenter", "-t", str(daemon.process.pid), "-U", "-n", "--preserve-credentials"]
    for client in (
        ["nc", "-N", "127.0.0.1", "7007"],
        [sockctl, "connect", "tcp://127.0.0.1:7007"],
        [sockctl, "connect", "udp://127.0.0.1:7007"],
        [sockctl, "connect", f"unix:{tmp_path}/sockd-example.sock"],
    ):
        done = run(*inside, *client, input=b"hello\n")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"HELLO\n", b""), client
    daemon.stop()


def test_the_readmes_first_own_service(serve_example, run, sockctl):
    daemon = serve_example("app:greet")
    done = run(sockctl, "connect", daemon.addresses[0], input=b"world\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello world\n", b"")
