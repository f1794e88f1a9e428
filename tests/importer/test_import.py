# SPDX-License-Identifier: MIT
"""`sockctl import` from outside: its TOML goes through `sockd --check`, and nothing is lost in silence.

Each of samples/ says at its head what is expected: `expect:` the counts, `names:` words of standard error, `has:`
words of the TOML, `format:` the option.

Seen failing, each once: a note dropped (SETS without log_on_success), `allow` not written, pass_socket() doing
nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sockd.importer import convert, read
from sockd.importer.model import Host

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.conf"))
BIN = Path(sys.executable).parent
LIMIT_S = 60
EX_CONFIG = 78

# Lines that say what sockd does anyway: without them the result is the same.
SAME = re.compile(
    r"(type\s*=\s*UNLISTED|socket_type\s*=|protocol\s*=|wait\s*=|umask\s*=\s*022|groups\s*=\s*no$|rpc_version)"
    r"|log_on_(success|failure)\s*[+]?=[ A-Z]*$|includedir|service|defaults|[{}]$"
)


def wanted(path, word):
    lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    return [line.removeprefix(f"# {word}: ") for line in lines if line.startswith(f"# {word}: ")]


def run(*words, **options):
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=LIMIT_S, **options)


@pytest.fixture
def imported(tmp_path):
    """Import files and have sockd check the result; gives the TOML and what was said."""

    def start(*words):
        done = run(BIN / "sockctl", "import", *words, cwd=tmp_path)
        assert "Traceback" not in done.stderr
        assert done.returncode == 0, done.stderr
        (tmp_path / "sockd.toml").write_text(done.stdout)
        checked = run(BIN / "sockd", "--check", "-c", "sockd.toml", cwd=tmp_path)
        assert checked.returncode == 0, checked.stderr + done.stdout
        return done.stdout, done.stderr

    return start


@pytest.fixture
def no_access_rules():
    for name in ("/etc/hosts.allow", "/etc/hosts.deny"):
        if os.path.exists(name) and re.search(r"^\s*[^#\s]", Path(name).read_text(), re.M):
            pytest.skip(f"{name} has rules, which the result names")


def counts(text):
    return re.sub(r"^1 services", "1 service", text.replace(" served, ", " services; commented out: "))


def as_seen(text, path):
    """What is expected, with the quotes and the path that stand in the output."""
    return text.replace("SAMPLE", str(path))


@pytest.mark.usefixtures("no_access_rules")
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_sample(path, imported):
    form = wanted(path, "format")
    toml, said = imported(path, *(["--format", *form] if form else []))
    (expected,) = wanted(path, "expect")
    assert counts(expected) in said
    for text in wanted(path, "has"):
        assert as_seen(text, path) in toml
    plain = re.sub(r"""["']""", "", said)
    for text in wanted(path, "names"):
        assert re.sub(r"""["']""", "", text) in plain
    for line in said.splitlines()[:-1]:  # the last one counts
        assert line.startswith((f"sockctl: {path}:", "sockctl: includedir-that")), line
        place, _, words = line.removeprefix("sockctl: ").partition(": ")
        assert place in toml
        assert words.rpartition("left out: ")[2].partition(": ")[2] in toml


@pytest.mark.usefixtures("no_access_rules")
@pytest.mark.parametrize("path", [path for path in SAMPLES if wanted(path, "expect-all")], ids=lambda path: path.stem)
def test_what_is_disabled_can_be_had(path, imported):
    _, said = imported("--all", path)
    assert counts(wanted(path, "expect-all")[0]) in said


HOST = Host(access_rule="", has_groups=lambda user: user == "mail")


def converted(path, host=HOST, **options):
    return convert(read([str(path)], **options), host, lambda text: None)


@pytest.mark.parametrize(
    ("user", "groups", "expected"),
    [
        ("mail", "", 'user = "mail"\ngroups = []'),
        ("mail", "groups = yes", 'user = "mail"\n'),
        ("games", "", "[daemon]"),
    ],
)
def test_groups_are_those_of_xinetd(tmp_path, user, groups, expected):
    entry = f"type = UNLISTED\nport = 7001\nsocket_type = stream\nwait = no\nuser = {user}\nserver = /bin/cat\n{groups}"
    path = tmp_path / "one"
    path.write_text(f"service one\n{{\n{entry}\n}}\n")
    text = converted(path).text
    assert expected in text
    assert ("groups = []" in text) == (user == "mail" and not groups)
    assert ("[daemon]\n# root" in text) == ("groups = []" in text)  # only root can take groups away


@pytest.mark.parametrize(
    ("client", "allow"),
    [
        ("::", '"::"'),
        ("::/0", '"::/0", "0.0.0.0/0"'),
        ("127.0.0.10", '"127.0.0.10"'),
        ("127.0.0.010 127.0.0.9", '"127.0.0.9"'),
    ],
)
def test_no_client_is_accepted_that_xinetd_refuses(tmp_path, client, allow):
    """As tried with xinetd 2.3.15.3.  Seen failing: :: was everybody, and not one address; 010, which is 8, was 10."""
    entry = "type = UNLISTED\nport = 7001\nsocket_type = stream\nwait = no\nuser = games\nserver = /bin/cat\n"
    path = tmp_path / "one"
    path.write_text(f"service one\n{{\n{entry}only_from = {client}\n}}\n")
    assert f"allow = [{allow}]\n" in converted(path).text
    path.write_text(f"service one\n{{\n{entry}no_access = {client}\n}}\n")
    assert (converted(path).served == 0) == ("010" in client)  # which clients are to be refused is not known


def test_an_ipv6_wildcard_is_that_of_the_dialect(tmp_path):
    """As tried with openbsd-inetd.  Seen failing: it served IPv4 clients, too, unless the wildcard was left out."""
    path = tmp_path / "inetd.conf"
    for address in ("*:7001", "[::]:7001", "7001"):
        path.write_text(f"{address} stream tcp6 nowait games /bin/cat cat\n")
        assert "ipv6_only = true\n" in converted(path, form="openbsd").text


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_no_line_is_lost(path, tmp_path):
    """Without any one line the result is another: each has left a trace."""
    form = {"form": (wanted(path, "format") or ["auto"])[0]}
    lines = path.read_bytes().split(b"\n")
    copy = tmp_path / path.name
    copy.write_bytes(b"\n".join(lines))
    whole = converted(copy, **form)
    for index, line in enumerate(lines):
        shown = line.decode("utf-8", "replace").strip()
        if shown.split() == ["user", "=", "root"] and "internal" in path.stem:  # an internal service has no process
            continue
        is_prose = shown.startswith("#") and "\t" not in shown and not shown.startswith("#@")
        if not shown or is_prose or SAME.match(shown):
            continue
        copy.write_bytes(b"\n".join([*lines[:index], b"#", *lines[index + 1 :]]))
        without = converted(copy, **form)
        assert (without.text, without.notes) != (whole.text, whole.notes), shown


def test_commented_services_are_toml_when_uncommented():
    for path in SAMPLES:
        text = converted(path, form=(wanted(path, "format") or ["auto"])[0]).text
        tomllib.loads(text)
        if "not UTF-8" not in text:  # such bytes cannot stand in TOML
            tomllib.loads(re.sub(r"^#(?=[\[a-z])", "", text, flags=re.M))


# ---- the host


def test_rules_of_hosts_access_are_honoured_for_wrapped_services(tmp_path):
    (tmp_path / "inetd.conf").write_text("7001 stream tcp nowait nobody /usr/sbin/tcpd /bin/cat\n")
    (tmp_path / "xinetd.conf").write_text(
        "service a\n{\ntype = UNLISTED\nport = 7002\nsocket_type = stream\nwait = no\nuser = nobody\n"
        "server = /bin/cat\n}\n"
        "service b\n{\ntype = UNLISTED\nport = 7003\nsocket_type = stream\nwait = no\nuser = nobody\n"
        "server = /bin/cat\nflags = NOLIBWRAP\n}\n"
    )
    ruled = Host(access_rule="/etc/hosts.deny:3")
    assert 'hosts_access = { daemon = "cat" }' in converted(tmp_path / "inetd.conf", ruled).text
    result = converted(tmp_path / "xinetd.conf", ruled)
    assert (result.served, result.left_out) == (2, 0)
    first, second = result.text.split("[[listen]]")[1:]
    assert 'hosts_access = { daemon = "cat" }' in first
    assert "hosts_access =" not in second
    assert "hosts_access =" not in converted(tmp_path / "xinetd.conf").text  # no rules


def test_datagrams_that_were_wrapped_are_left_out_where_there_are_rules(tmp_path):
    (tmp_path / "inetd.conf").write_text("7001 dgram udp wait nobody /usr/sbin/tcpd /bin/cat\n")
    ruled = Host(access_rule="/etc/hosts.deny:3")
    result = converted(tmp_path / "inetd.conf", ruled)
    assert result.left_out == 1
    assert "there are rules (/etc/hosts.deny:3)" in "".join(result.notes)
    assert "tcpd(8) is left out" in "".join(converted(tmp_path / "inetd.conf").notes)


def test_the_name_in_the_rules_is_that_of_xinetd(tmp_path):
    entry = "type = UNLISTED\nport = 7002\nsocket_type = stream\nwait = no\nuser = nobody\nserver = /bin/cat\n"
    for more, daemon in (
        ("libwrap = in.mine", "in.mine"),
        ("flags = NAMEINARGS\nserver_args = in.catd -u", "in.catd"),
        ("", "cat"),
    ):
        (tmp_path / "x").write_text(f"service a\n{{\n{entry}{more}\n}}\n")
        ruled = Host(access_rule="/etc/hosts.deny:3")
        assert f'hosts_access = {{ daemon = "{daemon}" }}' in converted(tmp_path / "x", ruled).text


# ---- files and directories


def test_directories_and_includes(tmp_path, imported):
    entry = "service {0}\n{{\ntype = UNLISTED\nport = {1}\nsocket_type = stream\nwait = no\n"
    entry += "user = root\nserver = /bin/cat\n}}\n"
    directory = tmp_path / "xinetd.d"
    directory.mkdir()
    (directory / "two").write_text(entry.format("two", 7002))
    (directory / "one").write_text(entry.format("one", 7001))
    (directory / "three.dpkg-dist").write_text(entry.format("three", 7003))
    (tmp_path / "four").write_text(entry.format("four", 7004))
    (tmp_path / "xinetd.conf").write_text(
        f"defaults\n{{\ninstances = 3\n}}\nincludedir {directory}\n"
        f"include {tmp_path}/four\ninclude {tmp_path}/xinetd.conf\n"
    )
    toml, said = imported("xinetd.conf", directory)
    assert re.findall(r"^service = \"(\w+)\"", toml, re.M) == ["one", "two", "four"]
    assert toml.count("max_instances = 3") == 3
    assert f"{directory}/three.dpkg-dist:1: skipped" in said


def test_a_file_that_is_not_there(tmp_path):
    done = run(BIN / "sockctl", "import", "nowhere", cwd=tmp_path)
    assert done.returncode == 71
    assert done.stderr == "sockctl: nowhere: No such file or directory (ENOENT)\n"
    assert done.stdout == ""


def test_words_that_look_like_values_from_outside_stay_what_they_are(tmp_path, imported):
    """A configuration reads ${file:/path} as the content of a file, and $${file:/path} as these words."""
    (tmp_path / "inetd.conf").write_text(
        "7001 stream tcp nowait root /bin/sh sh -c ${file:/etc/passwd} $${X} ${ $HOME\n"
    )
    text, _ = imported("inetd.conf")
    assert tomllib.loads(text)["service"]["7001"]["exec"][2:] == ["$${file:/etc/passwd}", "$$${X}", "$${", "$HOME"]


@pytest.mark.parametrize(
    "text",
    [
        "# an old one: {mark}7001 stream tcp nowait root /bin/cat cat\n",
        "# an old one: {mark}service x\n{{\ntype = UNLISTED\nport = 7001\nsocket_type = stream\nwait = no\n"
        "user = root\nserver = /bin/cat\n}}\n",
    ],
)
@pytest.mark.parametrize("mark", ["\f", "\v", "\x1c", "\x85", "\u2028"])
def test_a_comment_ends_at_a_newline_alone(tmp_path, text, mark):
    """As for fgets(3); str.splitlines() would make the rest of the comment a service."""
    (tmp_path / "old.conf").write_text(text.format(mark=mark))
    assert convert(read([str(tmp_path / "old.conf")]), Host(access_rule=""), lambda text: None).served == 0


def test_nothing_to_serve(tmp_path):
    (tmp_path / "inetd.conf").write_text("#echo stream tcp nowait root internal\n")
    done = run(BIN / "sockctl", "import", "inetd.conf", cwd=tmp_path)
    assert done.returncode == EX_CONFIG
    assert done.stderr.endswith("nothing to serve; use --all to convert disabled services\n")
    assert "#service" in done.stdout


@pytest.mark.parametrize(
    ("accounts", "daemon"),
    [(("nobody", "nobody"), 'user = "nobody"'), (("nobody:tty",), 'user = "nobody"\ngroup = "tty"'),
     (("nobody", "daemon"), 'user = "root"'), (("root",), 'user = "root"')],
)  # fmt: skip
def test_the_daemon_is_root_only_where_programs_need_it(tmp_path, imported, accounts, daemon):
    lines = (f"{7001 + i} stream tcp nowait {who} /bin/cat cat\n" for i, who in enumerate(accounts))
    (tmp_path / "inetd.conf").write_text("".join(lines))
    toml, _ = imported("inetd.conf")
    assert daemon in toml.partition("[[listen]]")[0]


def test_the_daemon_stays_root_for_a_priority_that_only_root_can_set(tmp_path, imported):
    entry = "type = UNLISTED\nport = 7001\nsocket_type = stream\nwait = no\nuser = nobody\nserver = /bin/cat\n"
    (tmp_path / "one").write_text(f"service one\n{{\n{entry}nice = -5\n}}\n")
    toml, _ = imported("one")
    assert 'user = "root"' in toml.partition("[[listen]]")[0]
    assert 'user = "nobody"\nnice = -5' in toml


def test_packets_of_unix_sockets(tmp_path, imported):
    (tmp_path / "inetd.conf").write_text(f"{tmp_path}/s seqpacket unix nowait nobody /bin/cat cat\n")
    toml, _ = imported("inetd.conf")
    assert f'address = "unixpacket:{tmp_path}/s"' in toml


# ---- and it runs


@pytest.mark.parametrize("form", ["inetd", "xinetd"])
def test_imported_programs_answer(tmp_path, launch, form, until):
    """Each on a Unix socket or a port that was free a moment ago; the shell's steps are seen in the program."""
    script = tmp_path / "show"
    script.write_text('#!/bin/sh\nread line\necho "$line $(umask) $(ulimit -s) $(nice) $REMOTE_PORT" >&2\n')
    script.chmod(0o755)
    user = "root" if os.geteuid() == 0 else str(os.geteuid())
    if form == "inetd":
        text = f"{tmp_path}/socket stream unix nowait {user} {script} show\n"
    else:
        text = (
            f"service show\n{{\ntype = UNLISTED\nport = 0\nbind = 127.0.0.1\nsocket_type = stream\nwait = no\n"
            f"user = {user}\nserver = {script}\numask = 027\nrlimit_stack = 4M\nnice = 3\nonly_from = localhost\n}}\n"
        )
    (tmp_path / "old.conf").write_text(text)
    done = run(BIN / "sockctl", "import", "old.conf", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "sockd.toml").write_text(done.stdout)
    server = launch("-f", "--log-format", "json", "-c", "sockd.toml").ready()
    client = server.connect()
    client.send(b"hello\n")
    answer = client.to_end().split()
    if form == "inetd":
        assert answer[:2] == [b"hello", b"0022"]
    else:
        assert answer == [b"hello", b"0027", b"4096", b"3", client.name.rpartition(":")[2].encode()]
    client.close()
    server.stop()
