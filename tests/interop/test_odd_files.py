# SPDX-License-Identifier: MIT
"""Files of xinetd that are legal and odd, or that it half refuses: who is served, by the real one and after import.

One file with a service for each oddity: words in any case, numbers of any form, attributes with values that make xinetd
disable the service, lines that make it skip the entry, defaults in the middle and in an included file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from unpacked import program

PLAYER = Path(__file__).parents[1] / "support" / "differential.py"
BIN = Path(sys.executable).parent
FIRST_PORT = 7400
ONE, TWO, THREE = "127.0.0.1", "127.0.0.2", "127.0.0.3"
WHO = """#!/bin/sh
printf 'arguments %s:' "$#"
printf ' <%s>' "$@"
printf '\\nids %s %s %s\\n' "$(id -u)" "$(id -g)" "$(id -G)"
echo "A=$A umask $(umask) nice $(nice)"
echo END
"""


class OddService(NamedTuple):
    """Lines of a service in place of the usual ones of the same names, or besides them.

    Attributes:
        lines: a name with a minus before it has no line.
        is_served: whether anybody is.
        name: of the service; without it one that /etc/services does not have.
        sources: of the clients.
        where: "" for the first file, "included" for one that it includes, "after" for the first one behind that.
    """

    lines: str
    is_served: bool = True
    name: str = ""
    sources: tuple[str, ...] = (ONE,)
    where: str = ""


def odd(*texts, **keys):
    return [OddService(text, **keys) for text in texts]


BOTH = (ONE, TWO)
USUAL = {
    "type": "UNLISTED", "port": "PORT", "socket_type": "stream", "wait": "no", "user": "nobody",
    "server": "DIRECTORY/who", "bind": "127.0.0.1", "passenv": "PATH",
}  # fmt: skip
SERVICES = [
    OddService(""),
    # words in any case
    *odd("Disable = yes", "DISABLE = YES", is_served=False),
    *odd("wait = NO", "socket_type = STREAM", "type = unlisted", "flags = nodelay REUSE", "Groups = YES\nuser = mail"),
    *odd("instances = unlimited", "log_on_success = host pid", "Protocol = TCP", "log_type = file DIRECTORY/l 10k"),
    *odd("protocol = tcp\n-socket_type", "log_type = SYSLOG Daemon INFO"),
    # values with which xinetd disables it
    *odd("disable = true", "disable = 1", "wait = maybe", "groups = 1", "flags = REUSE BOGUS", is_served=False),
    *odd("flags =", "type = UNLISTED BOGUS", "log_on_success = BOGUS", "log_on_failure = PID", is_served=False),
    *odd("log_type = FILE", "log_type = SYSLOG bogus", "log_type = SYSLOG daemon bogus", is_served=False),
    *odd("log_type = FILE DIRECTORY/l 10 5", "log_type = BOGUS x", "log_on_success = TRAFFIC", is_served=False),
    *odd("port = http", "port = 70000", "instances = 1K", "instances = 0", "per_source = 0", is_served=False),
    *odd("umask = 0999", "umask = 77777", "nice = 0x5", "rlimit_cpu = 1K", "rlimit_files = soon", is_served=False),
    *odd("max_load = 0", "max_load = abc", "deny_time = soon", "env = X", "env = A=1\nenv -= A=1", is_served=False),
    *odd("server_args =", "flags = NAMEINARGS", "access_times =", "access_times = 0:00-24:00", is_served=False),
    *odd("protocol = udp", "protocol = nosuch", "user = nosuch", "group = nosuch", "server = /nonexistent",
         is_served=False),
    *odd("only_from = 127.0.0.1,", "only_from = 127.0.0.2 , 127.0.0.1", "no_access = 127.0.0.2,", is_served=False),
    *odd("redirect = 127.0.0.1 7400\nwait = yes", "redirect = 127.0.0.1 7400\n-user", is_served=False),
    # lines with which it skips the entry; behind the last of them it does not even find the next one
    *odd("server_args= x", "= x", "nonsense", "disable = yes", is_served=False),
    # what it ignores
    *odd("disable = yes # for now", "instances = 5 # five", "nosuch = 1", "server_args += more", "cps = 10", "nice ="),
    *odd("disable =", "id =", "user = nobody\nuser = root", "server_args = a # b"),
    # numbers and times of any form
    *odd("nice = +5", "umask = 27", "umask = 0027", "cps = 0 0", "cps = -1 5", "max_load = 1e9", "rlimit_files = 1K"),
    *odd("access_times = 0:0-23:59", "access_times = 000:000-023:059", "access_times = 00:00-11:59 12:00-23:59"),
    *odd("user = 4711", "user = 5", "user = 5\ngroup = 8", "group = 4712", "env = A=1 A=2", "env = A=1\nenv = A=2"),
    *odd("banner = /nonexistent", "banner_success = /nonexistent"),
    # clients
    *odd("only_from = 127.1", "only_from = 127.0.0.1/8", "only_from = 127.0.0", sources=BOTH),
    *odd("only_from = 127.{0}", "only_from = 127.0.0.{2,9}", "no_access = 127.1", "no_access =", sources=BOTH),
    *odd("bind = ::\nonly_from = ::ffff:127.0.0.1", "bind = ::\nonly_from = ::/0", sources=BOTH),
    *odd("bind = ::\nno_access = ::ffff:127.0.0.2", "bind = ::\nonly_from = 127.0.0.2", sources=BOTH),
    *odd("bind = ::\nonly_from = ::", "only_from = ::ffff:127.0.0.2", sources=BOTH, is_served=False),
    *odd("-bind\nflags = IPv4\nonly_from = ::ffff:127.0.0.2", "flags = IPv6", sources=BOTH, is_served=False),
    *odd("-bind\nv6only = no", "bind = ::\nv6only = no", sources=BOTH, is_served=False),  # but over IPv6
    *odd("v6only = yes", "-bind\nflags = IPv4\nv6only = no", sources=BOTH),
    *odd("flags = LABELED", is_served=False),  # as where there is no SELinux
    *odd("bind = 0.0.0.0\nflags = IPv6", "bind = localhost\nflags = IPv6", sources=BOTH, is_served=False),
    *odd("-bind", "-bind\nonly_from = ::ffff:127.0.0.2", "-bind\nonly_from = ::/0", sources=BOTH),
    *odd("only_from = 127.0.0.010", sources=("127.0.0.10",), is_served=False),  # which is 127.0.0.8
    # ports of /etc/services
    OddService("-type", is_served=False),
    OddService("-type", is_served=False, name="ssh"),
    OddService("-type\nport = 22", name="ssh"),
    # defaults: those above a service, of whatever file, and of each file the first
    *odd("only_from += 127.0.0.2", "no_access += 127.0.0.2", "", sources=(ONE, TWO, THREE)),
    *odd("", "no_access -= 127.0.0.3", sources=(ONE, TWO, THREE), where="included"),
    *odd("", "no_access = 127.0.0.1", "umask = 022", sources=(ONE, TWO, THREE), where="after"),
]  # fmt: skip
DEFAULTS = "defaults\n{\n\tno_access = 127.0.0.3\n\tumask = 077\n}\n"
MORE = "DEFAULTS\n{\n\tno_access = 127.0.0.2\n\tumask = 027\n}\ndefaults\n{\n\tno_access = 127.0.0.1\n}\n"


def service(index, one, directory):
    given = [line for line in one.lines.splitlines() if line]
    names = {line.split()[0].lower().lstrip("-") for line in given}
    usual = [f"{name} = {value}" for name, value in USUAL.items() if name not in names]
    lines = [*usual, *(line for line in given if not line.startswith("-"))]
    body = "".join(f"\t{line}\n" for line in lines)
    body = body.replace("PORT", str(FIRST_PORT + index)).replace("DIRECTORY", str(directory))
    return f"service {one.name or f'odd{index}'}\n{{\n{body}}}\n"


def planned(port, sources):
    """The clients of one service, as the player has them."""
    keys = {"said": "", "is_datagram": False, "closes": False, "enough": 0, "pause": 0, "silent": ()}
    return {"address": (ONE, port), "sources": sources, **keys}


def compare(directory, old, *options):
    """What the clients of the plan get of the old program, and of sockd after import of its file, its last word."""
    imported = subprocess.run(
        [BIN / "sockctl", "import", *options, old[-1]], capture_output=True, text=True, check=True
    )
    (directory / "sockd.toml").write_text(imported.stdout)
    found = []
    for command in (old, [BIN / "sockd", "-f", "-c", directory / "sockd.toml"]):
        done = subprocess.run(
            ["unshare", "-n", sys.executable, PLAYER, directory / "plan", *command],
            capture_output=True, text=True, timeout=120, check=False, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + (directory / "plan.output").read_text()[-2000:]
        found.append([[text or "" for text in texts] for texts in json.loads(done.stdout)])
    return found


@contextmanager
def place():
    """A directory that every user can read, with the program of the services."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs a network namespace")
    with tempfile.TemporaryDirectory(prefix="sockd-odd-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "who").write_text(WHO)
        (directory / "who").chmod(0o755)
        yield directory


@pytest.fixture(scope="module")
def answers():
    """What the clients of each service get of xinetd, and of sockd."""
    xinetd = program("xinetd", "xinetd")
    with place() as directory:
        texts = {
            where: "".join(service(index, one, directory) for index, one in enumerate(SERVICES) if one.where == where)
            for where in ("", "included", "after")
        }
        (directory / "more").write_text(MORE + texts["included"])
        (directory / "x.conf").write_text(f"{texts['']}{DEFAULTS}include {directory}/more\n{texts['after']}")
        plan = [
            planned(22 if "port = 22" in one.lines else FIRST_PORT + index, one.sources)
            for index, one in enumerate(SERVICES)
        ]
        (directory / "plan").write_text(json.dumps(plan))
        words = ["-dontfork", "-filelog", directory / "log", "-pidfile", directory / "pid"]
        yield compare(directory, [xinetd, *words, "-f", directory / "x.conf"])


@pytest.mark.parametrize(
    "index", range(len(SERVICES)), ids=lambda index: SERVICES[index].lines.replace("\n", "; ") or f"service {index}"
)
def test_the_same_clients_are_served(answers, index):
    of_xinetd, of_sockd = (one[index] for one in answers)
    assert of_sockd == of_xinetd
    assert any(text.endswith("END\n") for text in of_sockd) is SERVICES[index].is_served


# ---- inetd

INETDS = {"openbsd": ("inetd", "openbsd-inetd", "-i"), "inetutils": ("inetutils-inetd", "inetutils-inetd", "-d")}
FIRST_OF_INETD = 7600
PROGRAM = "DIRECTORY/who who"
LINES = [
    f"127.0.0.1:PORT stream tcp nowait nobody {PROGRAM} one",
    f"127.0.0.1:PORT stream tcp nowait nobody {PROGRAM} one\n127.0.0.1:PORT stream tcp nowait nobody {PROGRAM} two",
    f"127.0.0.1:0PORT stream tcp nowait nobody {PROGRAM}",
    f"no-such-host.invalid:PORT stream tcp nowait nobody {PROGRAM}",
    f"127.0.0.1:PORT stream tcp6 nowait nobody {PROGRAM}",
    f"127.0.0.1:PORT stream tcp nowait.0 nobody {PROGRAM}",
    f"127.0.0.1:PORT stream tcp nowait 65534 {PROGRAM}",
    f"127.0.0.1:PORT stream tcp nowait nobody:8 {PROGRAM}",
    f"127.0.0.1:PORT stream tcp nowait nobody: {PROGRAM}",
    f"127.0.0.1:PORT stream tcp nowait root.mail {PROGRAM}",
    f"127.0.0.1:PORT stream tcp nowait mail.games {PROGRAM}",
    f"127.0.0.1:PORT stream tcp nowait nobody {PROGRAM} one\n    two",
    f"127.0.0.1:PORT stream tcp nowait nobody {PROGRAM} one # two\n# a comment\n",
    "127.0.0.1:PORT stream tcp nowait nobody DIRECTORY/who",
    f"127.0.0.1:PORT\tstream tcp\tnowait  nobody\t{PROGRAM}\t ",
]


@pytest.mark.parametrize("dialect", INETDS)
def test_lines_of_inetd(dialect):
    name, package, option = INETDS[dialect]
    inetd = program(name, package)
    with place() as directory:
        lines = (line.replace("PORT", str(FIRST_OF_INETD + index)) for index, line in enumerate(LINES))
        text = "".join(f"{line}\n" for line in lines).replace("DIRECTORY", str(directory))
        (directory / "inetd.conf").write_text(text, newline="")
        (directory / "plan").write_text(
            json.dumps([planned(FIRST_OF_INETD + index, (ONE,)) for index in range(len(LINES))])
        )
        words = [f"--pidfile={directory}/pid"] if dialect == "inetutils" else []
        of_inetd, of_sockd = compare(directory, [inetd, option, *words, directory / "inetd.conf"], "--format", dialect)
        assert dict(zip(LINES, of_sockd, strict=True)) == dict(zip(LINES, of_inetd, strict=True))
        assert sum(text.endswith("END\n") for (text,) in of_sockd) >= 7
