# SPDX-License-Identifier: MIT
"""The address matrix of the SOCKS server: whatever is asked for, nothing that the rules deny is ever connected to.

In a network of its own, where every address of the house leads to one listener that tells of each connection (local
routes for whole networks), and with a name server whose answers change from one question to the next.

Seen failing with rules.KINDS empty, with plain() and forms() left out, and with the name looked up again to connect.
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import sys

import pytest
from serving import Server

LIMIT_S = 30
GOOD = "203.0.113.6"
CONFIG = """
[[listen]]
address = "unix:%s/s"
service = "proxy"
[service.proxy]
socks = { allow = ["*", "203.0.113.6"], connect_timeout = "5s" }
"""
LOCAL = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "203.0.113.0/24")
LOCAL_SIX = (
    "fc00::/7",
    "fec0::/10",
    "::ffff:0:0/96",
    "::/96",
    "64:ff9b::/96",
    "2002::/16",
    "2001::/32",
    "2001:db8::/32",
)
SHELL = " ".join(
    [
        "ip link set lo up;",
        *(f"ip route add local {network} dev lo;" for network in LOCAL),
        *(f"ip -6 route add local {network} dev lo;" for network in LOCAL_SIX),
        "mount --bind {directory}/resolv.conf /etc/resolv.conf;",
        "mount --bind {directory}/nsswitch.conf /etc/nsswitch.conf;",
        'exec "$@"',
    ]
)
ANSWERS = {
    "good.test": [GOOD],
    "loop.test": ["127.0.0.1"],
    "six.test": ["::1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "zero.test": ["0.0.0.0"],
    "zero6.test": ["::"],
    "private.test": ["10.1.2.3"],
    "meta.test": ["169.254.169.254"],
    "own.test": ["203.0.113.5"],
    "nat64.test": ["64:ff9b::7f00:1"],
    "sixtofour.test": ["2002:a00:1::1"],
    "mixed.test": ["198.51.100.7", "127.0.0.1", "::1"],
    "first.test": ["198.51.100.7", "-", "127.0.0.1"],  # then, of another question
    "second.test": ["127.0.0.1", "-", "203.0.113.6"],
}
HELPER = """
import selectors, socket, struct, sys

port, answers = int(sys.argv[1]), eval(sys.argv[2])
asked = {}

def answer(query):
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    kind = struct.unpack_from("!H", query, at + 1)[0]
    name = ".".join(labels)
    turns = " ".join(answers.get(name, [])).split(" - ")
    turn = asked.get((name, kind), 0)
    asked[name, kind] = turn + 1
    print("asked", name, kind, flush=True)
    records = b""
    found = [one for one in turns[min(turn, len(turns) - 1)].split() if (":" in one) == (kind == 28)]
    for one in found:
        packed = socket.inet_pton(socket.AF_INET6 if kind == 28 else socket.AF_INET, one)
        records += struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(packed)) + packed
    flags = 0x8180 if name in answers else 0x8183
    return query[:2] + struct.pack("!HHHHH", flags, 1, len(found), 0, 0) + query[12 : at + 5] + records

names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("127.0.0.1", 53))
trap = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
selector = selectors.DefaultSelector()
selector.register(names, selectors.EVENT_READ)
selector.register(trap, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        if key.fileobj is names:
            query, peer = names.recvfrom(2000)
            names.sendto(answer(query), peer)
        else:
            caught, _ = trap.accept()
            print("caught", caught.getsockname()[0], flush=True)
            caught.close()
"""
LITERALS = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "0.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "203.0.113.5", "255.255.255.255", "224.0.0.1", "::", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0",
    "::ffff:10.1.2.3", "::127.0.0.1", "::ffff:0:127.0.0.1", "fe80::1", "fd00::1", "fec0::1", "ff02::1",
    "64:ff9b::127.0.0.1", "64:ff9b::10.1.2.3", "2002:7f00:1::1", "2002:a00:1::1", "2001:0:7f00:1::",
    "2001:db8::5efe:127.0.0.1",
]  # fmt: skip
NOTATIONS = [
    "localhost", "LOCALHOST.", "127.1", "127.0.1", "0x7f.1", "0X7F000001", "017700000001", "0177.0.0.1", "2130706433",
    "0", "0x0", "00", "127.0.0.1.", "[::1]", "::FFFF:127.0.0.1", "[::ffff:7f00:1]", "0:0:0:0:0:0:0:1", "10.66051",
    "0xa9fea9fe", "167838211", "\uff11\uff12\uff17.\uff10.\uff10.\uff11", "127\u30020\u30020\u30021", "::1%lo",
    "127.0.0.1%lo", "fe80::1%1",
]  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    probe = "ip link set lo up && ip route add local 10.0.0.0/8 dev lo && mount --bind /etc/hosts /etc/hosts"
    if subprocess.run(["unshare", "-rnm", "sh", "-c", probe], capture_output=True).returncode:
        pytest.skip("no right to a network and mounts of our own, or no package iproute2")
    directory = tmp_path_factory.mktemp("socks")
    (directory / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:5 attempts:1\n")
    (directory / "nsswitch.conf").write_text("hosts: files dns\n")
    (directory / "sockd.toml").write_text(CONFIG % directory)
    sockd = shutil.which("sockd", path=str(sys.executable).rpartition("/")[0])
    words = [
        "-rnm",
        "sh",
        "-c",
        SHELL.format(directory=directory),
        "sh",
        sockd,
        "-f",
        "--log-format",
        "json",
        "--user",
        "root",
    ]
    server = Server([*words, "-c", "sockd.toml"], directory, executable=shutil.which("unshare"))
    helper = None
    try:
        server.ready()
        inside = ["nsenter", "-t", str(server.process.pid), "-U", "-n", "--preserve-credentials"]
        words = [*inside, sys.executable, "-c", HELPER, "8080", repr(ANSWERS)]
        helper = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert helper.stdout.readline() == "ready\n"
        yield server, helper
        server.stop()
    finally:
        server.end()
        if helper is not None:
            helper.kill()
            helper.stdout.close()
            helper.wait(LIMIT_S)


def said(helper):
    """What the name server and the trap have told until a connection that is to be caught, which is the last one."""
    lines = []
    while not lines or lines[-1] != f"caught ::ffff:{GOOD}\n":
        lines.append(helper.stdout.readline())
        assert lines[-1], "the helper has ended"
    return lines


def ask(server, field, port=8080):
    client = server.connect()
    client.send(b"\5\1\0" + b"\5\1\0" + field + struct.pack("!H", port))
    answer = client.file.read(2 + 4)
    return answer[3]


def name(text):
    encoded = text.encode()
    return bytes([3, len(encoded)]) + encoded


def literal(text):
    six = ":" in text
    return (b"\4" if six else b"\1") + socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, text)


def ask_version_4(server, text):
    """By address where it is one; 0.0.0.1 would say that a name follows."""
    client = server.connect()
    by_address = text in LITERALS and text != "0.0.0.1"
    where = socket.inet_aton(text) + b"\0" if by_address else b"\0\0\0\1\0" + text.encode() + b"\0"
    client.send(b"\4\1" + struct.pack("!H", 8080) + where)
    return client.file.read(8)[1]


def test_nothing_that_is_denied_is_connected_to(house):
    server, helper = house
    answers = {text: ask(server, literal(text)) for text in LITERALS}
    answers |= {f"name {text}": ask(server, name(text)) for text in (*LITERALS, *NOTATIONS)}
    assert {text: code for text, code in answers.items() if code not in (2, 4)} == {}
    assert [text for text, code in answers.items() if code == 4] == [
        "name ::1%lo",
        "name 127.0.0.1%lo",
        "name fe80::1%1",
    ]
    four = {text: ask_version_4(server, text) for text in (*LITERALS[:12], *NOTATIONS[:13])}
    assert set(four.values()) == {91}
    assert ask(server, literal(GOOD)) == 0
    assert said(helper) == [f"caught ::ffff:{GOOD}\n"]  # not a name was asked for, not another connection made


def test_no_name_leads_there(house):
    server, helper = house
    lead_in = [one for one in ANSWERS if one not in ("good.test", "mixed.test", "first.test", "second.test")]
    assert {one: ask(server, name(one)) for one in lead_in} == dict.fromkeys(lead_in, 2)
    assert ask(server, name("mixed.test")) == 3  # the public one was tried, and has no route here
    assert ask(server, name("no-such.test")) == 4
    assert ask(server, name("good.test")) == 0
    assert [line for line in said(helper) if line.startswith("caught")] == [f"caught ::ffff:{GOOD}\n"]


def test_an_answer_that_changes_between_two_questions(house):
    """What was judged is what is connected to: one question a request, and none behind it."""
    server, helper = house
    assert ask(server, name("first.test")) == 3  # judged public, tried as that; a second look would be at 127.0.0.1
    assert ask(server, name("second.test")) == 2  # judged loopback; a second look would be at an address that may be
    assert ask(server, name("second.test")) == 0  # the next request looks anew
    lines = said(helper)
    assert [line for line in lines if line.startswith("caught")] == [f"caught ::ffff:{GOOD}\n"]
    assert lines.count("asked first.test 1\n") == 1
    assert lines.count("asked second.test 1\n") == 2
