# SPDX-License-Identifier: MIT
"""One file of xinetd with many services, run by the real xinetd and, imported, by sockd: the same clients get the same.

Each case is a few attributes and the addresses from which its clients come, one after the other, all of them staying:
what each gets is compared to the byte, the facts of the program among it.  Variables that only one of the two gives
are in docs/migrating-from-inetd.md, and are left out.  What is logged of the clients is compared fact by fact: who was
served and who refused, and why, how a program ended, whose user a client was, how much was relayed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest
from unpacked import UNPACKED

ROOT = Path(__file__).parents[2]
PLAYER = ROOT / "tests" / "support" / "differential.py"
XINETD = UNPACKED / "xinetd" / "usr" / "sbin" / "xinetd"
BIN = Path(sys.executable).parent
FIRST_PORT = 7100
OWN = re.compile(r"^export (PROTO|TCP\w+|REMOTE_\w+|HOME|USER|LOGNAME|SHELL|PWD|OLDPWD)=.*\n", re.MULTILINE)
FACTS = """#!/bin/sh
read -r line
echo "line $line args $*"
while read -r key values; do
    case $key in Uid:|Gid:|Groups:) echo "$key" $values ;; esac
done </proc/$$/status
read -r stat </proc/$$/stat
set -- $stat
echo "priority ${18} nice ${19}"
umask
ulimit -n; ulimit -t; ulimit -v; ulimit -s; ulimit -d
for fd in 0 1 2 3 4 5 6 7 8 9; do test -e /proc/$$/fd/$fd && echo "fd $fd"; done
export -p
echo END
read -r rest
"""
DAYTIME = re.compile(r"\d\d [A-Z]{3} 20\d\d \d\d:\d\d:\d\d [A-Z]+\r\n")
CTIME = re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ 123]\d \d\d:\d\d:\d\d 20\d\d\r\n")  # as of inetd
TIME = re.compile("....", re.DOTALL)
# RFC 864: of any length, none and one that ends between CR and LF among them, with any character first.
CHARGEN = re.compile(r"([ -~]{72}\r\n)*[ -~]{0,72}(\r\n?)?")
FORMS = {"daytime": (DAYTIME, CTIME), "time": (TIME, TIME), "chargen": (CHARGEN, CHARGEN)}
"""Of the answers of xinetd, and of sockd, where they differ by the moment."""
ONE, TWO, THREE = "127.0.0.1", "127.0.0.2", "127.0.0.3"


class DifferentialCase(NamedTuple):
    """Attributes of a service, and where its clients come from.

    Attributes:
        is_datagram: they send datagrams.
        silent: which of them are to get no answer to these.
        closes: they send no more.
        enough: bytes of an answer that has no end.
        pause: seconds, between those before and after a None among the sources.
    """

    attributes: str
    sources: tuple[str, ...] = (ONE, TWO)
    said: str = "hello\n"
    has_server: bool = True
    internal: str = ""
    is_datagram: bool = False
    silent: tuple[int, ...] = ()
    closes: bool = False
    enough: int = 0
    pause: float = 0


def _hours():
    """An interval around now, and one that is not."""
    hour = time.localtime().tm_hour
    around = f"{max(hour - 1, 0)}:00-{min(hour + 1, 23)}:59"
    return around, "1:00-2:00" if hour > 12 else "20:00-21:00"


OPEN, CLOSED = _hours()
CLIENTS = (
    "127.0.0.1", "127.0.0.2", "127.0.0.0", "127.0.0.{1,3}", "127.0.0.{2}", "127.0.0.0/30", "127.0.0.2/32",
    "127.0.0.0/8",
    "10.0.0.0/8", "0.0.0.0", "0.0.0.0/0", "::1", "::1 127.0.0.2", "127.0.0.1 127.0.0.2", ".example.com", "localhost",
    "no.such.host.example",
)  # fmt: skip
USERS = ("daemon", "nobody", "games")
FLAGS = ("NODELAY", "KEEPALIVE", "NORETRY", "REUSE", "NOLIBWRAP", "IPv4")
CASES = [
    DifferentialCase(""),
    *(DifferentialCase(f"only_from = {clients}", (ONE, TWO, THREE)) for clients in CLIENTS),
    *(DifferentialCase(f"no_access = {clients}", (ONE, TWO, THREE)) for clients in CLIENTS),
    DifferentialCase("only_from ="),
    DifferentialCase("only_from = 127.0.0.1\nno_access = 127.0.0.0"),
    DifferentialCase("only_from = 127.0.0.0\nno_access = 127.0.0.1"),
    DifferentialCase("only_from = 127.0.0.1\nonly_from += 127.0.0.2", (ONE, TWO, THREE)),
    DifferentialCase("only_from = 127.0.0.1 127.0.0.2\nonly_from -= 127.0.0.2"),
    DifferentialCase(f"access_times = {OPEN}"),
    DifferentialCase(f"access_times = {CLOSED}"),
    DifferentialCase(f"access_times = {CLOSED} {OPEN}"),
    *(
        DifferentialCase(f"{texts}\nno_access = {TWO}")
        for texts in (
            "banner = TEXTS/all",
            "banner_success = TEXTS/yes",
            "banner_fail = TEXTS/no",
            "banner = TEXTS/all\nbanner_success = TEXTS/yes",
            "banner = TEXTS/all\nbanner_fail = TEXTS/no",
            "banner = TEXTS/all\nbanner_success = TEXTS/yes\nbanner_fail = TEXTS/no",
        )
    ),
    *(DifferentialCase(f"per_source = {limit}", (ONE, ONE, ONE, TWO)) for limit in ("1", "2", "UNLIMITED")),
    *(DifferentialCase(f"instances = {limit}", (ONE, TWO, THREE)) for limit in ("1", "2", "UNLIMITED")),
    DifferentialCase("instances = 2\nper_source = 1", (ONE, ONE, TWO, THREE)),
    DifferentialCase("max_load = 1000000"),
    DifferentialCase("max_load = 0.01"),
    DifferentialCase("cps = 100 1"),
    *(DifferentialCase(f"nice = {value}") for value in ("5", "-3", "19", "0")),
    *(DifferentialCase(f"umask = {value}") for value in ("077", "027", "022", "007", "000")),
    *(DifferentialCase(f"rlimit_{key} = {value}") for key, value in (
        ("files", "50"), ("cpu", "10"), ("as", "256M"), ("as", "300000K"), ("stack", "4M"), ("data", "128M"),
    )),
    DifferentialCase("user = nobody"),
    DifferentialCase("user = 65534"),
    DifferentialCase("user = daemon\ngroup = mail"),
    DifferentialCase("user = mail\ngroups = yes"),
    DifferentialCase("user = mail\ngroups = no"),
    DifferentialCase("server_args = one two three"),
    DifferentialCase("flags = NAMEINARGS\nserver_args = other one two"),
    *(DifferentialCase(f"flags = {flag}") for flag in FLAGS),
    DifferentialCase("env = COLOUR=red SIZE=9"),
    DifferentialCase("env = COLOUR=red\nenv += SIZE=9"),
    DifferentialCase("passenv = PATH KEPT"),
    DifferentialCase("passenv =\nenv = ALONE=1"),
    DifferentialCase("passenv = KEPT\nenv = KEPT=own"),
    *(DifferentialCase(f"only_from = {clients}\nbanner_fail = TEXTS/no") for clients in CLIENTS[:13]),
    *(DifferentialCase(f"only_from = 127.0.0.0/8\nno_access = {clients}") for clients in CLIENTS[:13]),
    *(DifferentialCase(f"user = nobody\nnice = {value}", (ONE,)) for value in ("1", "15", "-5")),
    *(DifferentialCase(f"user = mail\numask = {value}", (ONE,)) for value in ("077", "002", "0022")),
    *(DifferentialCase(f"rlimit_{key} = UNLIMITED", (ONE,)) for key in ("files", "cpu", "as", "data")),
    *(DifferentialCase(f"user = {user}\ngroup = {group}", (ONE,)) for user in USERS for group in ("tty", "mail", "8")),
    *(DifferentialCase(f"user = {user}\ngroups = {word}", (ONE,)) for user in USERS for word in ("yes", "no")),
    *(DifferentialCase(f"per_source = {limit}\nbanner_fail = TEXTS/no", (ONE, ONE, TWO)) for limit in ("1", "2")),
    *(DifferentialCase(f"instances = {limit}\nbanner_success = TEXTS/yes", (ONE, TWO)) for limit in ("1", "2")),
    DifferentialCase("", (ONE, TWO), "hello\nEND\n", has_server=False, internal="echo"),
    DifferentialCase(f"no_access = {TWO}", (ONE, TWO), "hello\nEND\n", has_server=False, internal="echo"),
    DifferentialCase("", (ONE,), has_server=False, internal="daytime"),
    DifferentialCase("", (ONE,), has_server=False, internal="time"),
    DifferentialCase("", (ONE,), has_server=False, internal="discard", closes=True),
    DifferentialCase(f"no_access = {TWO}", (ONE, TWO), has_server=False, internal="discard", closes=True),
    DifferentialCase("", (ONE,), has_server=False, internal="chargen", enough=72 * 74),
    *(
        DifferentialCase(attributes, (ONE, TWO), has_server=False, internal=name, is_datagram=True, silent=silent)
        for name, attributes, silent in (
            ("echo", "", ()), ("echo", f"no_access = {TWO}", (1,)), ("echo", f"only_from = {TWO}", (0,)),
            ("daytime", "", ()), ("daytime", f"no_access = {TWO}", (1,)), ("time", "", ()), ("chargen", "", ()),
        )
    ),
    DifferentialCase("", (ONE,), has_server=False, internal="discard", is_datagram=True, silent=(0,)),
    DifferentialCase("cps = 2 1", (ONE, ONE, ONE, TWO, None, TWO), pause=2.5),
    DifferentialCase("log_on_success += USERID", (ONE, TWO)),
    DifferentialCase("flags = IDONLY", (ONE, TWO)),
    DifferentialCase("flags = IDONLY\nlog_on_success += USERID", (ONE, TWO)),
    DifferentialCase("disable = yes"),
    DifferentialCase("disable = no"),
    DifferentialCase(f"redirect = 127.0.0.1 {FIRST_PORT}", has_server=False),
    DifferentialCase(f"redirect = 127.0.0.1 {FIRST_PORT}\nno_access = {TWO}", has_server=False),
]  # fmt: skip


def service(index, case, directory):
    lines = [
        f"type = UNLISTED{' INTERNAL' * bool(case.internal)}",
        f"id = case{index}",
        f"port = {FIRST_PORT + index}",
        "socket_type = dgram" if case.is_datagram else "socket_type = stream",
        "protocol = udp" if case.is_datagram else "protocol = tcp",
        f"wait = {'yes' if case.is_datagram else 'no'}",
        f"log_on_success = HOST PID EXIT DURATION{' TRAFFIC' * ('redirect' in case.attributes)}",
        "log_on_failure = HOST ATTEMPT",
        f"log_type = FILE {directory}/services.log",
    ]
    attributes = case.attributes.replace("TEXTS", str(directory))
    lines += ["user = root"] if "user =" not in attributes else []
    lines += ["passenv = PATH"] if "passenv" not in attributes else []
    lines += [f"server = {directory}/facts"] if case.has_server else []
    lines += ["bind = 127.0.0.1", *attributes.splitlines()]
    return f"service {case.internal or f'case{index}'}\n{{\n" + "".join(f"\t{line}\n" for line in lines) + "}\n"


def normal(text):
    """What a client got, without what only one of the two gives: variables, and the own group among the others."""
    lines = OWN.sub("", text or "").splitlines(keepends=True)
    gids = {gid for line in lines if line.startswith("Gid:") for gid in line.split()[1:]}
    return [
        ["Groups:", *(gid for gid in line.split()[1:] if gid not in gids)] if line.startswith("Groups:") else line
        for line in lines
    ]


@pytest.fixture(scope="module")
def directory():
    """One that every user can enter; that of pytest is closed to others than root."""
    with tempfile.TemporaryDirectory(prefix="sockd-differential-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def results(directory):
    """What the clients of each case get of xinetd, and of sockd."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs a network namespace")
    xinetd = str(XINETD) if XINETD.exists() else shutil.which("xinetd")
    if xinetd is None:
        pytest.skip("needs xinetd")
    if subprocess.run([xinetd, "-version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("xinetd does not run here: a library of its is missing")
    (directory / "facts").write_text(FACTS)
    (directory / "facts").chmod(0o755)
    for name in ("all", "yes", "no"):
        (directory / name).write_text(f"This is {name}.\n")
    (directory / "x.conf").write_text("".join(service(index, case, directory) for index, case in enumerate(CASES)))
    plan = [case._asdict() | {"address": ("127.0.0.1", FIRST_PORT + index)} for index, case in enumerate(CASES)]
    (directory / "plan").write_text(json.dumps(plan))
    imported = subprocess.run(
        [BIN / "sockctl", "import", directory / "x.conf"], capture_output=True, text=True, check=True
    )
    (directory / "sockd.toml").write_text(imported.stdout)
    play = ["unshare", "-n", sys.executable, str(PLAYER), str(directory / "plan")]
    old = [
        xinetd,
        "-dontfork",
        "-filelog",
        f"{directory}/log",
        "-f",
        f"{directory}/x.conf",
        "-pidfile",
        f"{directory}/pid",
    ]
    new = [str(BIN / "sockd"), "-f", "--log-format", "json", "-c", f"{directory}/sockd.toml"]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "KEPT": "this"}
    if library := os.environ.get("LD_LIBRARY_PATH"):
        environment["LD_LIBRARY_PATH"] = library
    found, logs = [], []
    for command in (old, new):
        done = subprocess.run(
            [*play, *command], capture_output=True, text=True, timeout=120, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr + (directory / "plan.output").read_text()[-2000:]
        found.append(json.loads(done.stdout))
        logs.append((directory / "plan.output").read_text())
    logs[0] = (directory / "services.log").read_text()
    return found, imported, logs


def test_nothing_is_left_out_but_what_nobody_may_reach(results):
    (line,) = [line for line in results[1].stderr.splitlines() if "left out:" in line]
    assert "only_from = : no client would be accepted" in line


def test_programs_of_every_user_were_reached(results):
    (of_xinetd, of_sockd), *_ = results
    with_user = [index for index, case in enumerate(CASES) if case.attributes.startswith("user =")]
    assert len(with_user) > 20
    silent = [
        CASES[index].attributes for index in with_user for one in (of_xinetd, of_sockd) if "END" not in one[index][0]
    ]
    assert silent == []


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: CASES[index].attributes.replace("\n", "; ")[:60])
def test_clients_get_the_same(results, index):
    (of_xinetd, of_sockd), *_ = results
    if CASES[index].attributes == "user = nobody\nnice = -5":  # xinetd sets it when it is root no more, and goes on
        assert ("nice 0\n" in of_xinetd[index][0], "nice -5\n" in of_sockd[index][0]) == (True, True)
        return
    if CASES[index].internal in FORMS:  # the second may be the next one
        forms = FORMS[CASES[index].internal]
        answers = zip(of_xinetd[index], of_sockd[index], strict=True)
        fits = [
            [one if one is None else bool(form.fullmatch(one)) for form, one in zip(forms, two, strict=True)]
            for two in answers
        ]
        expected = [None if number in CASES[index].silent else True for number in range(len(fits))]
        assert fits == [[one, one] for one in expected]
        return
    assert [*map(normal, of_sockd[index])] == [*map(normal, of_xinetd[index])]


# ---- what is logged


class CaseLog:
    """What a log says of the clients of one case.

    Attributes:
        served: addresses of clients that were, sorted.
        refused: reasons, and how often.
        strangers: addresses of clients that were refused, as far as they are named.
        ends: exit code or signal of each program, and whole seconds that it ran.
        users: of clients (RFC 1413).
        bytes: relayed from and to each client.
    """

    def __init__(self):
        self.started, self.refused, self.strangers, self.ended = {}, Counter(), set(), {}
        self.users, self.bytes = set(), []

    @property
    def served(self):
        return sorted(self.started.values())

    @property
    def ends(self):
        return sorted(how for pid, how in self.ended.items() if pid in self.started)


REASONS = {
    "address": "denied", "time": "hours", "load": "load", "per_source_limit": "per-source", "service_limit": "full",
    "connections per second": "total-rate",
}  # fmt: skip
"""Words of xinetd, and of sockd."""
XINETD_LINE = re.compile(r".*?: (START|EXIT|FAIL|NOID|USERID|TRAFFIC): case(\d+) (.*)")


def log_of_xinetd(text):
    logs, forked = defaultdict(CaseLog), defaultdict(list)
    matches = filter(None, map(XINETD_LINE.fullmatch, text.splitlines()))
    for word, index, rest in (match.groups() for match in matches):
        one = logs[int(index)]
        host = rest.rpartition("from=")[2]
        fields = dict(re.findall(r"(\w+)=(\w+)", rest))
        if word == "START":
            one.started[f"{fields['pid']} {len(one.started)}" if fields["pid"] == "0" else fields["pid"]] = host
        elif word == "EXIT":
            how = fields.get("status") or f"signal {fields['signal']}"
            one.ended[fields["pid"]] = (how, int(fields["duration"]))
        elif word in ("FAIL", "NOID"):
            host = host if word == "FAIL" else rest.split()[0]
            reason = REASONS[rest.rpartition(" from=")[0]] if word == "FAIL" else "ident"
            one.refused[reason] += 1
            one.strangers.add(host)
            if reason in ("denied", "ident"):
                forked[int(index)].append(host)
        elif word == "USERID":
            one.users.add(rest.rpartition(": ")[2])
        else:
            one.bytes.append(tuple(int(number) for number in re.findall(r"=(\d+)", rest)))
    for index, hosts in forked.items():  # a process was started for each of them, which looked at the address
        for host in hosts:
            started = logs[index].started
            started.pop(next((pid for pid, known in started.items() if known == host), None), None)
    return logs


def log_of_sockd(text):
    logs = defaultdict(CaseLog)
    where = {}
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        row = json.loads(line)
        if row["message"] == "listening":
            where[row["service"]] = int(row["address"].rpartition(":")[2]) - FIRST_PORT
        if row["message"] == "listening" or "service" not in row:
            continue
        port = row.get("address", "").rpartition(":")[2]
        one = logs[int(port) - FIRST_PORT if port else where[row["service"]]]
        host = row.get("peer", "").partition("://")[2].rpartition(":")[0]
        if row["message"] == "program started":
            one.started[row["pid"]] = host
        elif row["message"] == "program ended":
            how = str(row["exit_code"]) if "exit_code" in row else f"signal {row['signal']}"
            one.ended[row["pid"]] = (how, int(row["seconds"]))
        elif row["message"] == "refused":
            one.refused[row["reason"]] += row["count"]
            one.strangers |= {host} if host else set()
        elif row["message"] == "refused: denied":
            one.refused["denied"] += 1
            one.strangers.add(host)
        elif row["message"] == "client identified":
            one.users.add(row["user"])
        elif row["message"] == "closed" and "target" in row:
            one.started[len(one.started)] = host
            one.bytes.append((row["received"], row["sent"]))
    return logs


@pytest.fixture(scope="module")
def logs(results):
    """What the two have logged; not of the first case, to which others come as well."""
    of_xinetd, of_sockd = log_of_xinetd(results[2][0]), log_of_sockd(results[2][1])
    reached = [index for index, case in enumerate(CASES) if index and case.attributes != "only_from ="]
    return {index: (of_xinetd[index], of_sockd[index]) for index in reached}


def differences(logs, fact, indexes):
    found = {index: [fact(one) for one in logs[index]] for index in indexes if index in logs}
    return {CASES[index].attributes: two for index, two in found.items() if two[0] != two[1]}


OF_PROGRAMS = [index for index, case in enumerate(CASES) if case.has_server]
OF_RELAYS = [index for index, case in enumerate(CASES) if "redirect" in case.attributes]
OF_STREAMS = [index for index, case in enumerate(CASES) if not case.is_datagram and "cps = 2" not in case.attributes]
OF_DATAGRAMS = [index for index, case in enumerate(CASES) if case.is_datagram]
WITH_CPS = [index for index, case in enumerate(CASES) if "cps = 2" in case.attributes]


def test_who_is_served_is_logged(logs):
    """HOST and PID."""
    assert differences(logs, lambda one: one.served, [*OF_PROGRAMS, *OF_RELAYS]) == {}
    assert sum(len(two[1].served) for two in logs.values()) > 200
    assert [one for two in logs.values() for one in two if not {*one.ended} >= {*one.started} and one.ended] == []


def test_who_is_refused_is_logged_and_why(logs):
    """HOST and ATTEMPT; with cps, xinetd closes its socket, so that it does not see the clients of the pause."""
    assert differences(logs, lambda one: one.refused, OF_STREAMS) == {}
    assert differences(logs, lambda one: {*one.refused}, [*OF_DATAGRAMS, *WITH_CPS]) == {}
    assert sum(sum(two[1].refused.values()) for two in logs.values()) > 100
    others = [
        index for index in logs if index not in WITH_CPS and not logs[index][1].strangers <= logs[index][0].strangers
    ]
    assert others == []
    assert "total-rate" in logs[WITH_CPS[0]][1].refused


def test_ends_are_logged(logs):
    """EXIT and DURATION."""
    assert differences(logs, lambda one: [how for how, _ in one.ends], OF_PROGRAMS) == {}
    for index in logs.keys() & {*OF_PROGRAMS}:
        longest = [max((seconds for _, seconds in one.ends), default=0) for one in logs[index]]
        assert abs(longest[0] - longest[1]) <= 1, CASES[index].attributes


def test_users_are_logged(logs):
    """USERID."""
    assert differences(logs, lambda one: one.users, logs) == {}
    assert sum(two[1].users == {"alice"} for two in logs.values()) == 2


def test_traffic_is_logged(results, logs):
    """TRAFFIC: what came of the client, and what it got."""
    for index in OF_RELAYS:
        for answers, one in zip((two[index] for two in results[0]), logs[index], strict=True):
            got = [len(text) for text in answers if text]
            assert sorted(one.bytes) == sorted((len(CASES[index].said), count) for count in got)
