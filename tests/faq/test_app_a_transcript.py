# SPDX-License-Identifier: MIT
# Seen failing against a daemon whose upper answers in the case that it was asked in.
"""FAQ, appendix A: `upper` over TCP and UDP is the sample server, `sockctl connect` the sample client."""

from __future__ import annotations

import subprocess

import pytest

TRANSCRIPT = [
    (b"Hello world!\n", b"HELLO WORLD!\n"),
    (b"hello\n", b"HELLO\n"),
    (b"\n", b"\n"),
    (b"1996 - 2026, {}~\n", b"1996 - 2026, {}~\n"),
    ("gr\u00fc\u00df\n".encode(), "GR\u00fc\u00df\n".encode()),  # ASCII alone has an upper case here
]


@pytest.fixture
def client(sockctl_script):
    def start(address):
        return subprocess.Popen([sockctl_script, "connect", address], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    return start


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", "tcp://[::1]:0", "unix:{}/s"])
def test_a_conversation_line_by_line(daemon, client, tmp_path, address):
    one = daemon(f"{address.format(tmp_path)}=upper")
    with client(one.address()) as process:
        for said, answered in TRANSCRIPT:
            process.stdin.write(said)
            process.stdin.flush()
            assert process.stdout.readline() == answered
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(20) == 0


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"])
def test_the_whole_input_at_once(daemon, sockctl_script, address):
    one = daemon(f"{address}=upper")
    said, answered = (b"".join(side) for side in zip(*TRANSCRIPT, strict=True))
    done = subprocess.run([sockctl_script, "connect", one.address()], input=said, stdout=subprocess.PIPE, timeout=20)
    assert (done.returncode, done.stdout) == (0, answered)


def test_a_last_line_without_its_newline_is_no_line(daemon, sockctl_script):
    one = daemon("tcp://127.0.0.1:0=upper")
    done = subprocess.run([sockctl_script, "connect", one.address()], input=b"a\nb", stdout=subprocess.PIPE, timeout=20)
    assert (done.returncode, done.stdout) == (0, b"A\n")
    one.closed("truncated")
