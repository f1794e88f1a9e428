# SPDX-License-Identifier: MIT
"""Plays clients against a server of many services, and prints what each got, as JSON.

`python differential.py PLAN COMMAND...`, in a network namespace of its own: the loopback interface is brought up, the
command is started, each case's clients connect one after the other and stay until all of them have their answer.
Clients of datagrams send until they have an answer.  An ident server (RFC 1413) names the user of one
address.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

WITHIN_S = 20
SILENT_S = 0.7
"""For an answer that is not to come."""
AGAIN_S = 0.3
"""Between two datagrams of a client."""
IDENT = "127.0.0.1"
USER = "alice"
END = b"END\n"
"""The last line of a program's facts."""


def connect(source, address):
    sock = socket.socket()
    sock.settimeout(WITHIN_S)
    sock.bind((source, 0))
    sock.connect(tuple(address))
    return sock


def answer(sock, case):
    """Return what a client got until the program's last line, the end, or enough of it."""
    text = b""
    try:
        sock.sendall(case["said"].encode())
        if case["closes"]:
            sock.shutdown(socket.SHUT_WR)
        while not text.endswith(END) and len(text) < (case["enough"] or len(text) + 1):
            piece = sock.recv(65536)
            if not piece:
                break
            text += piece
    except OSError:
        pass
    return text[: case["enough"] or None]


def play(case):
    """Return what each client of a case got; None for one that could not connect."""
    if case["is_datagram"]:
        return play_datagrams(case)
    open_ones, found = [], []
    for source in case["sources"]:
        if source is None:  # the time itself is what is tried
            time.sleep(case["pause"])  # the pause of cps is what is compared
            continue
        try:
            sock = connect(source, case["address"])
        except OSError:
            found.append(None)
            continue
        open_ones.append(sock)
        found.append(answer(sock, case).decode("latin-1"))
    for sock in open_ones:
        sock.close()
    return found


def play_datagrams(case):
    """Return what each client has for its datagrams, one client after the other; None for one that has no answer.

    They are sent again, as xinetd throws away what comes while it answers another one.
    """
    found = []
    for index, source in enumerate(case["sources"]):
        end = time.monotonic() + (SILENT_S if index in case["silent"] else WITHIN_S)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(AGAIN_S)
            sock.bind((source, 0))
            sock.connect(tuple(case["address"]))
            text = None
            while text is None and time.monotonic() < end:
                sock.send(case["said"].encode())
                with contextlib.suppress(TimeoutError):
                    text = sock.recv(65536).decode("latin-1")
            found.append(text)
    return found


def name_users():
    """Answer as an ident server that knows one user."""
    listening = socket.create_server((IDENT, 113))

    def run():
        while True:
            sock, _ = listening.accept()
            with sock:
                sock.sendall(sock.recv(100).strip() + b" : USERID : UNIX : " + USER.encode() + b"\r\n")

    threading.Thread(target=run, daemon=True).start()


def await_programs(directory):
    """Wait until no program of a directory runs, whose end the server then has logged."""
    until = time.monotonic() + WITHIN_S
    while time.monotonic() < until and any(f"{directory}/facts" in words for words in commands()):
        time.sleep(0.02)  # only until the next look


def commands():
    """Yield the words of every process."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline") as file:
            yield file.read().split("\0")


def main(plan, *command):
    with open(plan) as file:
        cases = json.load(file)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    name_users()
    with open(f"{plan}.output", "wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=dict(os.environ))
    until = time.monotonic() + WITHIN_S
    while time.monotonic() < until and server.poll() is None:
        try:
            connect("127.0.0.1", cases[0]["address"]).close()
            break
        except OSError:
            time.sleep(0.02)  # nothing tells when xinetd listens
    sys.stdout.write(json.dumps([play(case) for case in cases]))
    await_programs(os.path.dirname(plan))
    server.send_signal(signal.SIGTERM)
    server.wait(WITHIN_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
