# SPDX-License-Identifier: MIT
"""Socket units under a real systemd, and imported under sockd: the same clients get the same.

All units are in one directory and run in one machine; what a program sees of itself is compared, line by line.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.timeout(180)
FACTS = r"""#!/bin/bash
read -t 0.2 -r line
echo "line $line, name $0, arguments $#:" "$@"
grep -E '^(Uid|Gid|Groups|Umask)' /proc/$$/status
cat /proc/$$/stat | cut -d' ' -f19
for limit in n t v s d f; do ulimit -S$limit; done
pwd
for fd in 0 1 2; do test /proc/self/fd/$fd -ef /proc/self/fd/0 && echo "fd $fd is the socket"; done
env | grep -E '^(MODE|WORDS|PATHS|REMOTE_ADDR|HOME|USER|LOGNAME|SHELL)=' | sort
echo END
read -r rest
"""
ECHO = """
import select, socket, sys
s = socket.socket(fileno=0)
while select.select([s], [], [], 0.5)[0]:
    if s.type == socket.SOCK_DGRAM:
        data, peer = s.recvfrom(100)
        s.sendto(b"got " + data, peer)
    else:
        c, _ = s.accept()
        c.sendall(b"got " + c.recv(100))
        c.close()
"""
CLIENT = """
import json, socket, sys
found = []
for kind, address, sources in json.load(sys.stdin):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    kept, answers = [], []
    for source in sources:
        try:
            sock = socket.socket(family, getattr(socket, kind))
            sock.settimeout(3 if kind == "SOCK_DGRAM" else 20)
            kept.append(sock)
            if source:
                sock.bind((source, 0))
            sock.connect(address if isinstance(address, str) else tuple(address))
            sock.send(b"hello\\n")
            text = b""
            while not text.endswith((b"END\\n", b"hello\\n")) and (more := sock.recv(65536)):
                text += more
            answers.append(text.decode())
        except OSError as error:
            answers.append(text.decode() if isinstance(error, ConnectionError) and kept else type(error).__name__)
    found.append(answers)
print(json.dumps(found))
"""


class UnitCase(NamedTuple):
    """Lines of a socket unit and of its service, and the clients: their kind, where they go, where they are from."""

    socket: str
    service: str = ""
    kind: str = "SOCK_STREAM"
    address: object = None
    sources: tuple[str, ...] = ("",)
    accepts: bool = True


CASES = [
    UnitCase(""),
    UnitCase("", "User=nobody\nGroup=daemon"),
    UnitCase("", "User=games"),
    UnitCase("", 'Environment=MODE=fast "WORDS=a b"\nEnvironment=PATHS=/x'),
    UnitCase("", "WorkingDirectory=/usr\nUMask=0077\nNice=7"),
    UnitCase("", "LimitNOFILE=100:200\nLimitCPU=60\nLimitSTACK=4M\nLimitDATA=100M\nLimitFSIZE=1M"),
    UnitCase("", "StandardError=null"),
    UnitCase("", "ExecStart=\nExecStart=@/opt/facts in.factsd -a 'two words' ${MODE}\nEnvironment=MODE=x"),
    UnitCase("MaxConnections=2", sources=("127.0.0.1", "127.0.0.2", "127.0.0.3")),
    UnitCase("MaxConnectionsPerSource=1", sources=("127.0.0.1", "127.0.0.1", "127.0.0.2")),
    UnitCase("IPAddressDeny=127.0.0.2", sources=("127.0.0.1",)),
    UnitCase("ListenStream=\nListenStream=[::1]:7950", address=("::1", 7950)),
    UnitCase("ListenStream=7951", address=("127.0.0.1", 7951)),
    UnitCase("ListenStream=/run/case.stream\nSocketMode=0666", address="/run/case.stream"),
    UnitCase("ListenSequentialPacket=/run/case.packets", kind="SOCK_SEQPACKET", address="/run/case.packets"),
    UnitCase("", kind="SOCK_DGRAM", accepts=False),
    UnitCase("", kind="SOCK_STREAM", accepts=False, sources=("127.0.0.1", "127.0.0.2")),
]


def texts(index, case):
    """The text of the socket unit, and of its service."""
    key = "ListenDatagram" if case.kind == "SOCK_DGRAM" else "ListenStream"
    first = f"{key}=127.0.0.1:{7960 + index}"
    socket = f"[Socket]\n{first}\nAccept={'yes' if case.accepts else 'no'}\n{case.socket}\n"
    program = "/opt/facts" if case.accepts else "/usr/bin/python3 -I -S /opt/echo.py"
    return socket, f"[Service]\nExecStart={program}\nStandardInput=socket\n{case.service}\n"


@pytest.fixture(scope="module")
def results(machine):
    """What the clients of each case get of systemd, and of sockd."""
    machine.write("/opt/facts", FACTS)
    machine.write("/opt/echo.py", ECHO)
    machine.write("/opt/client.py", CLIENT)
    machine.run("chmod", "755", "/opt", "/opt/facts")
    plan, names = [], []
    for index, case in enumerate(CASES):
        socket, service = texts(index, case)
        names.append(f"case{index}.socket")
        machine.write(f"/run/systemd/system/case{index}.socket", socket)
        machine.write(f"/run/systemd/system/case{index}{'@' * case.accepts}.service", service)
        plan.append((case.kind, case.address or ("127.0.0.1", 7960 + index), case.sources))
    found = []

    def play():
        found.append(json.loads(machine.run("/usr/bin/python3", "/opt/client.py", input=json.dumps(plan))))

    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", *names)
    play()
    machine.stop(*names, "case*.service")
    imported = machine.run("/usr/local/bin/sockctl", "import", *(f"/run/systemd/system/{name}" for name in names))
    machine.write("/run/imported.toml", imported)
    machine.run(
        "systemd-run", "--unit=imported", "--service-type=notify", "/usr/local/bin/sockd", "-f", "-c",
        "/run/imported.toml",
    )  # fmt: skip
    play()
    machine.stop("imported.service")
    return found


def normal(text, case):
    """Without the own group among the others, and without what systemd does not set: a shell or a home that is none,
    and all of that where there is no User=.
    """
    lines = [line for line in text.splitlines() if line not in ("SHELL=/usr/sbin/nologin", "HOME=/nonexistent")]
    if "User=" not in case.service:
        lines = [line for line in lines if not line.startswith(("HOME=", "LOGNAME=", "USER=", "SHELL="))]
    own = {gid for line in lines if line.startswith("Gid:") for gid in line.split()[1:]}
    return [[gid for gid in line.split() if gid not in own] if line.startswith("Groups:") else line for line in lines]


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: f"{CASES[index].socket}; {CASES[index].service}")
def test_clients_get_the_same(results, index):
    of_systemd, of_sockd = (one[index] for one in results)
    assert [normal(text, CASES[index]) for text in of_sockd] == [normal(text, CASES[index]) for text in of_systemd]
    assert any("END\n" in text or "got hello" in text for text in of_systemd)
