# SPDX-License-Identifier: MIT
"""Plays clients against a server of many services, and prints what each got, as JSON.

`python differential.py PLAN COMMAND...`, in a network namespace of its own: the loopback interface is brought up, the
command is started, each case's clients connect one after the other and stay until all of them have their answer.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

WITHIN_S = 20
END = b"END\n"
"""The last line of a program's facts."""


def connect(source, address):
    sock = socket.socket()
    sock.settimeout(WITHIN_S)
    sock.bind((source, 0))
    sock.connect(tuple(address))
    return sock


def answer(sock, said):
    """Return what a client got until the program's last line, or the end."""
    text = b""
    try:
        sock.sendall(said)
        while not text.endswith(END):
            piece = sock.recv(65536)
            if not piece:
                break
            text += piece
    except OSError:
        pass
    return text


def play(case):
    """Return what each client of a case got; None for one that could not connect."""
    open_ones, found = [], []
    for source in case["sources"]:
        try:
            sock = connect(source, case["address"])
        except OSError:
            found.append(None)
            continue
        open_ones.append(sock)
        found.append(answer(sock, case["said"].encode()).decode("latin-1"))
    for sock in open_ones:
        sock.close()
    return found


def main(plan, *command):
    with open(plan) as file:
        cases = json.load(file)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
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
    server.send_signal(signal.SIGTERM)
    server.wait(WITHIN_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
