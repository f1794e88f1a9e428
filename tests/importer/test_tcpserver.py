# SPDX-License-Identifier: MIT
"""Run scripts of tcpserver, and the rules of tcprules: what becomes of each option and of each kind of rule.

What the rules decide is compared with the real tcprulescheck in tests/interop/test_tcpserver_rules.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sockd.importer import convert, read
from sockd.importer.model import Host

BIN = Path(sys.executable).parent
LIMIT_S = 60
HOST = Host(
    access_rule="",
    has_groups=lambda user: user == "games",
    find_program=lambda name: f"/bin/{name}" if name == "cat" else None,
)
RUN = """#!/bin/sh
exec 2>&1
# the incoming mail
QUSER=nobody
LIMIT="20"
exec envuidgid $QUSER softlimit -m 64000000 -o 50 \\
    /usr/bin/tcpserver -vRHl0 -U -c ${LIMIT} -b 30 -x RULES.cdb 127.0.0.1 7801 /bin/cat -u
"""
RULES = """# relays
127.:allow,RELAYCLIENT="",NAME=/a b/
10.1.2.3-5:deny
10.1.:allow
192.168.0.7:deny
joe@10.1.2.9:deny
:allow
"""


@pytest.fixture
def converted(tmp_path):
    def start(script, rules=None):
        directory = tmp_path / "mail"
        directory.mkdir(exist_ok=True)
        (directory / "run").write_text(script.replace("RULES", f"{tmp_path}/tcp.mail"))
        if rules is not None:
            (tmp_path / "tcp.mail").write_text(rules)
        result = convert(read([str(directory / "run")]), HOST, lambda text: None)
        return result, tomllib.loads(result.text)

    return start


def test_a_run_script_with_its_rules(converted, tmp_path):
    result, toml = converted(RUN, RULES)
    assert (result.served, result.left_out) == (1, 0), result.notes
    (listen,) = toml["listen"]
    assert listen == {
        "address": "tcp://127.0.0.1:7801",
        "service": "mail",
        "backlog": 30,
        "deny": ["10.1.2.3", "10.1.2.4", "10.1.2.5", "192.168.0.7"],
    }
    assert toml["service"]["mail"] == {
        "exec": ["/bin/cat", "-u"],
        "user": "nobody",
        "max_instances": 20,
        "limits": {"memory": "64 MB", "files": 50},
        "client_environment": ["127.0.0.0/8 RELAYCLIENT=", "127.0.0.0/8 NAME=a b"],
    }
    assert result.notes == (f"{tmp_path}/tcp.mail:6: mail: joe@10.1.2.9 matches nobody: tcpserver -R asks for no user",)


def line(options="-HR", more="", before=""):
    return f"#!/bin/sh\nexec {before}tcpserver {options} 0 7801 cat {more}\n"


@pytest.mark.parametrize(
    ("script", "listen", "service"),
    [
        (line(), {"address": "tcp://0.0.0.0:7801"}, {"exec": ["/bin/cat"], "max_instances": 40}),
        (line("-R"), {"names": True}, {}),
        (line("-Hr"), {"ident": "log"}, {}),
        (line("-HRu 65534 -g 8"), {}, {"user": "65534", "group": "8"}),
        (line(before="setuidgid nobody "), {}, {"user": "nobody"}),
        (line(before="chpst -u nobody:mail -m 1048576 "), {}, {"user": "nobody", "group": "mail"}),
        (line(before="nice -n 5 "), {}, {"nice": 5}),
        (line(before="env A=b "), {}, {"environment": ["PATH", "A=b"]}),
        (line("-HR -6"), {"address": "tcp://[::]:7801", "ipv6_only": False}, {}),
        (line(more="2>&1 | logger -t cat &"), {}, {"exec": ["/bin/cat"]}),
        (line(more=r'"\$HOME \`x" "\\" \$x'), {}, {"exec": ["/bin/cat", "$HOME `x", "\\", "$x"]}),
        (line(more="# the cat"), {}, {"exec": ["/bin/cat"]}),
        (line(more="-c 'a 2>&1 | b; $c' \\; a#b"), {}, {"exec": ["/bin/cat", "-c", "a 2>&1 | b; $c", ";", "a#b"]}),
        (line(before="env - PATH='/usr/bin:/bin' A=/x setuidgid nobody "), {}, {"user": "nobody"}),
        (line(before="env - PATH='/usr/bin:/bin' A=/x "), {}, {"environment": ["PATH=/usr/bin:/bin", "A=/x"]}),
        (line(before="env - "), {}, {"environment": []}),
        (line(before="fghack setuidgid nobody "), {}, {"user": "nobody"}),
        (line(before="chpst -u :8:9:10 "), {}, {"user": "8", "group": "9", "groups": ["10"]}),
        (line(before="setuidgid games "), {}, {"user": "games", "groups": []}),
        ("umask 077\ncd /srv; A=b; export A\n" + line(), {}, {"umask": "077", "directory": "/srv"}),
        ("umask 077\ncd /srv; A=b; export A\n" + line(), {}, {"environment": ["PATH", "A=b"]}),
        (
            'T="/usr/bin/tcpserver"\n"$T" -HR 0 7801 cat "$T" \'$T\'',
            {},
            {"exec": ["/bin/cat", "/usr/bin/tcpserver", "$T"]},
        ),
        ("[ -x /usr/bin/tcpserver ] || exit 0\n" + line(), {}, {"exec": ["/bin/cat"]}),
        ("tcpserver -HR 0 7801 cat \\", {}, {"exec": ["/bin/cat"]}),
    ],
)
def test_options_and_the_words_before(converted, script, listen, service):
    result, toml = converted(script)
    assert result.served == 1, result.notes
    assert listen.items() <= toml["listen"][0].items()
    assert service.items() <= toml["service"]["mail"].items()


@pytest.mark.parametrize(
    ("script", "rules", "words"),
    [
        (line("-HRB hello"), None, "-B 'hello': write it into a file, and name that in greeting_files"),
        (line("-R"), None, ""),
        (line("-H"), None, "no program gets TCPREMOTEINFO; -R asks for none"),
        (line("-HRo"), None, "-o has no equivalent"),
        (line("-HRl here"), None, "TCPLOCALHOST is the confirmed name"),
        (line(before="envdir ./env "), None, "envdir ./env: write the variables of its files into environment"),
        (line(before="softlimit -c 0 "), None, "softlimit -c 0: has no equivalent"),
        (line(more="| logger"), None, "the log of sockd is for all services"),
        (line("-R -x RULES.cdb"), "=a.example.com:allow,A=/b/\n:deny\n", "variables for a name have no equivalent"),
        (line("-R -x RULES.cdb"), "=a.example.com:allow\n10.:deny\n", "whatever its name"),
        (line("-HR -x RULES.cdb"), "=a.example.com:deny\n", "tcpserver -H looks no names up"),
        (line("-H -x RULES.cdb"), "joe@1.2.3.4:allow\n", "because their own host names them"),
        (line("-HR -x RULES.cdb"), "1.2.3:deny\n", "1.2.3 matches nobody"),
        (line("-HR -x RULES.cdb"), "1.2.3.4\n:allow\n", "has no colon; tcprules skips it"),
    ],
)
def test_what_is_lost_is_named_with_its_place(converted, script, rules, words):
    result, _ = converted(script, rules)
    assert (result.served, result.left_out) == (1, 0), result.notes
    assert words in "".join(result.notes)
    assert all("/run:2: " in note or "/tcp.mail:1: " in note for note in result.notes)


@pytest.mark.parametrize(
    ("script", "rules", "words"),
    [
        (line("-HR -x RULES.cdb"), None, "is compiled; name the text from which tcprules made it as another FILE"),
        (line("-HR -x RULES.cdb"), ":deny\n", "no client would be accepted"),
        (line("-HR -x RULES.cdb"), "1.2.3.4:perhaps\n", "tcprules refuses the file; write ADDRESS:allow"),
        (line("-HR -x RULES.cdb"), "1.2.3.4:allow,A=b\n", "tcprules refuses the file"),
        (line("-H -x RULES.cdb"), "joe@1.2.3.4:deny\n", "deny the address instead"),
        (line("-R -x RULES.cdb"), "=:deny\n", "=:deny has no equivalent; write networks"),
        (line("-HR -u `id -u x`"), None, "`id is the shell's: write its value in the script"),
        (line("-HR -c $CONNECTIONS"), None, "$CONNECTIONS is the shell's"),
        (line('-HR -l "$A" -c ${B} -u $A'), None, "$A, ${B} are the shell's: write their values in the script"),
        (line(more=r'"\\$HOME"'), None, "$HOME is the shell's"),
        (line("-HR -Z"), None, "option -Z not recognized; see tcpserver(1)"),
        ("#!/bin/sh\ntcpserver 0 25\n", None, "has no host, port and program"),
        (
            line(before="rotatelogs setuidgid nobody "),
            None,
            "rotatelogs: not known as a word before tcpserver, and may",
        ),
        (line(before="chpst -/ /srv "), None, "sockd changes the root of no program"),
        (line("-HRU"), None, "no envuidgid before it sets UID and GID; write -u and -g"),
        (line(more="*.conf"), None, "*.conf is the shell's"),
        (line(more="&& echo"), None, "&& is the shell's"),
        (line(before="yes | "), None, "tcpserver is only named in it"),
        ("A=1\nA=`id`\n" + line("-HR -c $A"), None, "$A is the shell's"),
        ("A=1\nif x\nthen A=2\nfi\n" + line("-HR -c $A"), None, "$A is the shell's"),
        ("A=1\n. /etc/default/mail\n" + line("-HR -c $A"), None, "$A is the shell's"),
        ("A=1\nA=2\nexport A\n" + line(), None, "A: exported, but set in more than one way"),
        (line("-HR -x RULES.cdb"), "10.1-2-3.:deny\n:allow\n", "tcprules refuses the file"),
        (line("-HR -x RULES.cdb"), "10.0.0.0/8:deny\n:allow\n", "10.0.0.0/8 is a network for ucspi-tcp6"),
        (line("-HR -x ''"), None, "is compiled; name the text"),
        (line("-HR -x RULES.cdb"), "10.a-b.:deny\n:allow\n", "tcprules refuses the file"),
        (line("-HR -x RULES.cdb"), "10.1.:allow\r\n", "tcprules refuses the file"),
    ],
)
def test_what_cannot_be_served_is_left_out(converted, script, rules, words):
    result, _ = converted(script, rules)
    assert (result.served, result.left_out) == (0, 1), result.text
    assert words in "".join(result.notes)


def test_variables_of_all_and_of_some(converted):
    _, toml = converted(line("-HR -x RULES.cdb"), ':allow,A="all"\n')
    assert toml["service"]["mail"]["environment"] == ["PATH", "A=all"]
    _, toml = converted(line("-HR -x RULES.cdb"), '10.:allow\n10.1.:allow,B="x"\n:allow,A="all"\n')
    assert toml["service"]["mail"]["client_environment"] == ["0.0.0.0/0 A=all", "10.0.0.0/8", "10.1.0.0/16 B=x"]


def test_variables_of_all_are_those_of_ipv6_too(converted):
    _, toml = converted(line("-HR6 -x RULES.cdb"), '10.:allow\n:allow,A="all"\n')
    entries = ["0.0.0.0/0 A=all", "10.0.0.0/8", "::/0 A=all"]
    assert toml["service"]["mail"]["client_environment"] == entries


@pytest.mark.parametrize(
    ("rule", "denied"),
    [
        ("10.-2.:deny\n", ["10.0.0.0/16", "10.1.0.0/16", "10.2.0.0/16"]),
        ("10.5-.:deny\n", []),
        ("10.01-02.:deny\n", ["10.1.0.0/16", "10.2.0.0/16"]),
        ('10.1.:deny,A="x,y=z",B=/q"/\n', ["10.1.0.0/16"]),
        ("# 11.\x0c12.:deny\n10.1.:deny\n", ["10.1.0.0/16"]),
    ],
)
def test_ranges_and_lines_as_tcprules_reads_them(converted, rule, denied):
    result, toml = converted(line("-HR -x RULES.cdb"), f"{rule}:allow\n")
    assert result.served == 1, result.notes
    assert toml["listen"][0].get("deny", []) == denied


@pytest.mark.parametrize("address", ["010.1.", "300.", "10.1-2.3-4", "10.1.2.3."])
def test_an_address_that_is_none_is_told_once(converted, address):
    result, _ = converted(line("-HR -x RULES.cdb"), f"{address}:deny\n")
    assert [note for note in result.notes if "matches nobody" in note] == [*result.notes]
    assert len(result.notes) == 1


def test_lines_that_are_not_read_are_told(converted):
    result, _ = converted(f"ulimit -n 5\n{line()}")
    assert result.served == 1
    assert [note.partition("/run:")[2] for note in result.notes] == [
        "1: 'ulimit -n 5' is not read: see whether it changes something for the program"
    ]


def test_rules_of_one_name_in_two_places_are_not_mixed_up(tmp_path):
    for name, rules in (("one", "10.:deny\n"), ("two", ":allow\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tcp.smtp").write_text(rules)
    (tmp_path / "run").write_text(line(f"-HR -x {tmp_path}/one/tcp.smtp.cdb") + line(f"-HR -x {tmp_path}/tcp.smtp.cdb"))
    names = ("run", "one/tcp.smtp", "two/tcp.smtp")
    result = convert(read([str(tmp_path / name) for name in names]), HOST, lambda text: None)
    assert (result.served, result.left_out) == (1, 1), result.text
    assert tomllib.loads(result.text)["listen"][0]["deny"] == ["10.0.0.0/8"]


def test_rules_are_those_beside_the_script_and_not_where_it_is_imported(tmp_path, monkeypatch):
    for name, rules in (("here", ":allow\n"), ("smtpd", "10.:deny\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tcp.smtp").write_text(rules)
    (tmp_path / "smtpd/run").write_text(line("-HR -x tcp.smtp.cdb"))
    monkeypatch.chdir(tmp_path / "here")
    result = convert(read([str(tmp_path / "smtpd/run")]), HOST, lambda text: None)
    assert tomllib.loads(result.text)["listen"][0]["deny"] == ["10.0.0.0/8"]


def test_rules_alone_serve_nothing(tmp_path):
    (tmp_path / "tcp.smtp").write_text(RULES)
    done = subprocess.run(
        [BIN / "sockctl", "import", "tcp.smtp"], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 78
    assert "tcp.smtp:1: rules alone serve nothing; name the script that starts tcpserver -x, too" in done.stderr


def test_it_runs_and_clients_have_their_variables(tmp_path, launch):
    user = "root" if os.geteuid() == 0 else str(os.geteuid())
    (tmp_path / "show").write_text("#!/bin/sh\nexec env\n")
    (tmp_path / "show").chmod(0o755)
    (tmp_path / "run").write_text(
        f"#!/bin/sh\nexec setuidgid {user} tcpserver -HR -x rules.cdb 127.0.0.1 0 {tmp_path}/show\n"
    )
    (tmp_path / "rules").write_text('127.0.0.1:allow,RELAYCLIENT="yes"\n:deny\n')
    done = subprocess.run(
        [BIN / "sockctl", "import", "run", "rules"], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / "sockd.toml").write_text(done.stdout)
    server = launch("-f", "--log-format", "json", "-c", "sockd.toml").ready()
    client = server.connect()
    assert b"RELAYCLIENT=yes\n" in client.to_end()
    client.close()
    server.stop()
