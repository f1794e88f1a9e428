# SPDX-License-Identifier: MIT
"""examples/length_prefixed.py with a client of Twisted's Int32StringReceiver."""

from __future__ import annotations

import json
import sys

import pytest
from programs import port_of

CLIENT = """
import json, sys
from twisted.internet import endpoints, protocol, reactor, task
from twisted.protocols.basic import Int32StringReceiver

class Client(Int32StringReceiver):
    def connectionMade(self):
        self.replies = []
        self.messages = [message.encode() for message in json.load(sys.stdin)]
        for message in self.messages:
            self.sendString(message)

    def stringReceived(self, reply):
        self.replies.append(reply.decode())
        if len(self.replies) == len(self.messages):
            self.transport.loseConnection()

    def connectionLost(self, reason):
        json.dump(self.replies, sys.stdout)
        self.done.callback(None)

def main(reactor, port):
    Client.done = task.Deferred()
    point = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", int(port))
    return point.connect(protocol.Factory.forProtocol(Client)).addCallback(lambda _: Client.done)

task.react(main, sys.argv[1:])
"""


@pytest.fixture
def ask(serve_example, run):
    """Send messages, all before the first answer is read, and return the answers."""
    pytest.importorskip("twisted", reason="Twisted is not installed")
    daemon = serve_example("length_prefixed:service")

    def talk(*messages):
        port = port_of(daemon.addresses[0])
        done = run(sys.executable, "-c", CLIENT, port, input=json.dumps(messages).encode())
        assert done.stderr == b""
        assert daemon.wait_for("closed")["reason"] == "eof"
        return json.loads(done.stdout)

    return talk


def test_twisted(ask):
    asked = [json.dumps({"z": number, "a": [number / 2, "ü"]}) for number in range(1000)]
    assert ask(*asked) == [f'{{"a":[{number / 2},"ü"],"z":{number}}}' for number in range(1000)]


def test_what_is_wrong_is_answered_and_the_connection_goes_on(ask):
    wrong = ["", "{", "1e999", '"\\ud800"', "[" * 90_000, json.dumps("ü" * 1000).replace("\\", "\\\\")]
    *errors, text, last = ask(*wrong, "[1, 2]")
    assert all(list(json.loads(error)) == ["error"] for error in errors)
    assert json.loads(text).startswith("\\u00fc")
    assert last == "[1,2]"


def test_an_answer_too_long(ask):
    numbers = "[" + ",".join(["1e15"] * 12_000) + "]"  # a number of 4 bytes is answered by one of 18
    assert ask(numbers, "null") == ['{"error":"the answer would be too long"}', "null"]
