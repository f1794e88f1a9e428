# SPDX-License-Identifier: MIT
"""Messages with descriptors between two processes, and a program started anew.

Seen to fail: with descriptors sent in one call, more than 253 of them are refused; with socket.recv_fds(), which passes
its flags over, they are open in programs that are executed.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

import pytest

from sockd.daemon.upgrade import UPGRADE_VARIABLE
from sockd.daemon.upgrade.channel import Channel, Message, inherited_channel
from sockd.daemon.upgrade.respawn import StartCommand
from sockd.errors import SystemFault, TemporaryFault


class Said(Message):
    words: list[int | bytes]


class Other(Message):
    word: str


@pytest.fixture
def pair():
    one, other = (Channel(sock) for sock in socket.socketpair())
    yield one, other
    one.close()
    other.close()


@pytest.mark.parametrize("count", [0, 1, 128, 129, 300])
def test_descriptors_come_in_their_order(pair, count):
    pipes = [os.pipe() for _ in range(count)]
    pair[0].send(Said(words=[1, b"\xff"]), [reader for reader, _ in pipes])
    said, accepted = pair[1].receive(Other, Said)
    assert said == Said(words=[1, b"\xff"])
    assert [os.fstat(fd).st_ino for fd in accepted] == [os.fstat(reader).st_ino for reader, _ in pipes]
    assert not any(os.get_inheritable(fd) for fd in accepted)
    for fd in (*accepted, *(fd for both in pipes for fd in both)):
        os.close(fd)


def test_a_large_message(pair):
    message = Said(words=[b"x" * 5_000_000])
    sender = threading.Thread(target=pair[0].send, args=(message,))
    sender.start()
    assert pair[1].receive(Said)[0] == message
    sender.join()


def test_the_other_side_has_ended(pair):
    pair[0].close()
    with pytest.raises(EOFError):
        pair[1].receive(Said)
    with pytest.raises(TemporaryFault, match="cannot send to the other process: Broken pipe"):
        pair[1].send(Said(words=[]))


def test_something_else_is_said(pair):
    pair[0].send(Other(word="hello"))
    with pytest.raises(TemporaryFault, match="unexpected message"):
        pair[1].receive(Said)


def test_nothing_is_said(pair):
    pair[0]._socket.settimeout(0.01)
    with pytest.raises(TemporaryFault, match="no reply in time"):
        pair[0].receive(Said)


def test_a_program_is_started_with_its_words_directory_and_environment(tmp_path):
    code = "import os, sys; open('told', 'w').write(' '.join([*sys.argv[1:], os.environ['A'], str('B' in os.environ)]))"
    words = (sys.executable, "-c", code, "one", "two")
    successor = StartCommand(words, {"A": "b"}, str(tmp_path)).start()
    assert successor.process.wait(30) == 0
    assert successor.ended() == "it exited with code 0"
    successor.channel.close()
    assert (tmp_path / "told").read_text() == "one two b False"


def test_a_program_that_cannot_be_started(tmp_path):
    with pytest.raises(SystemFault, match=f"cannot be started: {tmp_path}/no: No such file"):
        StartCommand((f"{tmp_path}/no",), {}, str(tmp_path)).start()


def test_the_variable_is_taken_out():
    ours, theirs = socket.socketpair()
    environment = {UPGRADE_VARIABLE: str(theirs.detach())}
    channel = inherited_channel(environment)
    assert environment == {}
    channel.send(Said(words=[7]))
    received = Channel(ours)
    assert received.receive(Said)[0].words == [7]
    channel.close()
    received.close()
    assert inherited_channel({}) is None
    with pytest.raises(SystemFault, match=f"{UPGRADE_VARIABLE}: 9999 is not a socket"):
        inherited_channel({UPGRADE_VARIABLE: "9999"})
