# SPDX-License-Identifier: MIT
"""Programs that get the socket itself (wait), imported from the files that packages show, under their real clients.

in.tftpd of tftpd-hpa with tftp, in.ntalkd with talk, sockd itself as a server that inetd starts with wait, with nc; and
the same small programs under the real xinetd and under sockd after import, asked by the same clients.

Seen failing without the filter of allow and deny.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from unpacked import UNPACKED, program

ROOT = Path(__file__).parents[2]
LIMIT_S = 30
PYTHON = "/usr/bin/python3"  # that of the tests may be in a directory of root's
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users and chroot, as these servers do")


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def place():
    """A directory that every user can read and write."""
    with tempfile.TemporaryDirectory(prefix="sockd-wait-") as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.fixture
def background():
    """Start a program, and end it with what it started."""
    with ExitStack() as stack:

        def start(words, log):
            file = stack.enter_context(open(log, "ab"))
            one = subprocess.Popen(
                list(map(str, words)),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd="/",
                start_new_session=True,
            )
            stack.callback(one.wait)
            stack.callback(one.terminate)
            return one

        yield start


def until(tell, within=LIMIT_S):
    end = time.monotonic() + within
    while not (found := tell()):
        assert time.monotonic() < end, f"not so within {within} s: {tell}"
        time.sleep(0.02)  # only until the next look
    return found


@pytest.fixture
def serve_imported(run, sockctl, sockd, background, place):
    """Import a file and serve what came of it; returns the text of the log so far, when called."""

    def start(path, *options):
        done = run(sockctl, "import", *options, path)
        assert done.returncode == 0, done.stderr
        assert b"0 left out" in done.stderr
        text = done.stdout.decode().replace("[daemon]\n", '[daemon]\nstop_timeout = "200ms"\n', 1)
        (place / "sockd.toml").write_text(text)
        log = place / "sockd.log"
        background([sockd, "--foreground", "-c", place / "sockd.toml"], log)
        until(lambda: "Press Ctrl-C" in log.read_text())
        return log.read_text

    return start


# ---- tftp


@pytest.fixture
def tftp(place):
    """The server's line as README.security has it, on a port of ours, and what calls the client."""
    server = program("in.tftpd", "tftpd-hpa")
    client = program("tftp", "tftp-hpa")
    readme = Path(UNPACKED / "tftpd-hpa/usr/share/doc/tftpd-hpa/README.security").read_text()
    (line,) = re.findall(
        r"^(tftp\tdgram\tudp\twait\troot)\t/usr/sbin/in\.tftpd\n(in\.tftpd -s /tftpboot .*)$", readme, re.M
    )
    port = free_port(socket.SOCK_DGRAM)
    boot = place / "tftpboot"
    boot.mkdir()
    boot.chmod(0o755)
    words = f"127.0.0.1:{line[0].replace('tftp', str(port), 1)}\t{server} {line[1].replace('/tftpboot', str(boot))}"
    (place / "inetd.conf").write_text(f"{words}\n")

    def call(verb, source, target):
        words = [client, "-4", "-m", "binary", "127.0.0.1", str(port), "-c", verb, source, target]
        return subprocess.Popen(words, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    return boot, call, place / "inetd.conf"


def test_tftp_gets_and_puts_several_at_once(tftp, serve_imported, place):
    boot, call, conf = tftp
    log = serve_imported(conf)
    data = {f"file{number}": os.urandom(200_000 + number) for number in range(6)}
    for name, content in data.items():
        (boot / name).write_bytes(content)
        (boot / f"up-{name}").touch()
        (boot / f"up-{name}").chmod(0o666)
    gets = [call("get", name, f"got-{name}") for name in data]
    assert [one.communicate(timeout=LIMIT_S)[0] for one in gets] == [b""] * len(gets)
    puts = [call("put", f"got-{name}", f"up-{name}") for name in data]
    assert [one.communicate(timeout=LIMIT_S)[0] for one in puts] == [b""] * len(puts)
    assert {name: (boot / f"up-{name}").read_bytes() for name in data} == data
    assert b"File not found" in call("get", "nothing", "nothing").communicate(timeout=LIMIT_S)[0]
    assert log().count("program started") == 1  # it forks for each transfer


# ---- talk


def test_talk_asks_the_daemon_who_is_there(serve_imported, place):
    server, client = program("in.ntalkd", "talkd"), program("netkit-ntalk", "talk")
    script = Path(UNPACKED / "talkd/DEBIAN/postinst").read_text()
    (entry,) = re.findall(r'ntalk_entry="(ntalk\t\tdgram\tudp\twait\t.*)"', script)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", socket.getservbyname("ntalk", "udp")))
        except OSError as error:
            pytest.skip(f"the client knows one port only: {error}")
    (place / "inetd.conf").write_text(f"127.0.0.1:{entry.replace('/usr/sbin/in.ntalkd', server)}\n")
    log = serve_imported(place / "inetd.conf")
    said = terminal([client, "nobody-of-this-name@localhost"], b"Your party is not logged on")
    assert b"Your party is not logged on" in said  # which is the daemon's answer NOT_HERE
    assert log().count("program started") == 1
    assert "ended at once" not in log()


def terminal(words, expected):
    """Run a program of the screen until it says something."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "vt100"
        os.execv(words[0], words)
    said, end = b"", time.monotonic() + LIMIT_S
    try:
        while expected not in said and time.monotonic() < end:
            if select.select([fd], [], [], 0.5)[0]:
                said += os.read(fd, 4096)
    except OSError:  # it has ended
        pass
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)
    return said


# ---- a server that accepts by itself


@pytest.mark.parametrize("form", ["inetd.conf", "xinetd.d/sockd"])
def test_a_tcp_server_with_wait_and_nc(serve_imported, place, sockd, form):
    nc = shutil.which("nc")
    if nc is None:
        pytest.skip("no nc; tests/interop/install installs it")
    text = (ROOT / "packaging" / "inetd" / form).read_text()
    ports = {"7007 tcp": free_port(socket.SOCK_STREAM), "7008 tcp": free_port(socket.SOCK_STREAM)}
    ports["7007 udp"] = free_port(socket.SOCK_DGRAM)
    if form == "inetd.conf":
        text = re.sub(
            r"^(\d+)(\s+\w+\s+)(tcp|udp)",
            lambda m: f"127.0.0.1:{ports[f'{m[1]} {m[3]}']}{m[2]}{m[3]}",
            text,
            flags=re.M,
        )
    else:
        text = re.sub(
            r"(protocol\s+= )(\w+)(\s+port\s+= )(\d+)",
            lambda m: f"{m[1]}{m[2]}{m[3]}{ports[f'{m[4]} {m[2]}']}\n    bind = 127.0.0.1",
            text,
        )
    wrapper = place / "sockd-of-the-test"  # for the wheel under test is in a directory of root's
    wrapper.write_text(f'#!/bin/sh\nexec {sockd} -c {place}/inner.toml "$@"\n')
    wrapper.chmod(0o755)
    (place / "inner.toml").write_text('[daemon]\ninetd_timeout = "1s"\n')
    text = re.sub(r"\bnobody\b", "root", text).replace("/usr/local/bin/sockd", str(wrapper))
    conf = place / "conf"
    conf.write_text(text)
    log = serve_imported(conf)
    for _ in range(3):
        done = subprocess.run(
            [nc, "-N", "127.0.0.1", str(ports["7008 tcp"])], input=b"hello\n", capture_output=True, timeout=LIMIT_S
        )
        assert done.stdout == b"HELLO\n"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(LIMIT_S)
        client.connect(("127.0.0.1", ports["7007 udp"]))
        client.send(b"hello")
        assert client.recv(100) == b"HELLO"
    until(lambda: log().count("program ended") == 2)  # both, for nobody has come for a second
    assert log().count("program started") == 2


# ---- the same under xinetd

PROBE = """#!/bin/sh
exec {python} -I -S {directory}/probe.py "$0" "$@"
"""
PROBE_PY = """
import json, os, resource, select, socket, sys
s = socket.socket(fileno=os.dup(0))
stream = s.type == socket.SOCK_STREAM
old = os.umask(0)
about = {
    "arguments": sys.argv[2:], "type": str(s.type), "listens": s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
    "blocking": os.get_blocking(0), "same": os.fstat(0).st_ino == os.fstat(1).st_ino, "ids": [os.getuid(), os.getgid()],
    "groups": sorted({*os.getgroups()} - {os.getgid()}), "umask": old, "nice": os.nice(0), "env": os.environ.get("A"),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0] if "files" in sys.argv else None,
    "memory": resource.getrlimit(resource.RLIMIT_AS)[0],
}
text = b"%d %s" % (os.getpid(), json.dumps(about).encode())
while select.select([s], [], [], 0.4)[0]:
    if stream:
        c, _ = s.accept()
        c.sendall(text)
        c.close()
    else:
        _, peer = s.recvfrom(100)
        s.sendto(text, peer)
"""
VARIANTS = {
    "plain": "",
    "arguments": "server_args = -a 'two words' -b",
    "group": "group = daemon",
    "groups": "groups = yes",
    "no groups": "groups = no",
    "root": "user = root",
    "environment": "env = A=b",
    "umask": "umask = 027",
    "nice": "nice = 5",
    "instances": "instances = 3",
    "per source": "per_source = 2",
    "files": "rlimit_files = 50\n    server_args = files",
    "memory": "rlimit_as = 256M",
    "allowed": "only_from = 127.0.0.1",
    "allowed, a network": "only_from = 127.0.0.0/24",
    "denied": "only_from = 192.0.2.1",
    "denied, no access": "no_access = 127.0.0.1",
    "no access of another": "no_access = 192.0.2.0/24",
    "flags": "flags = REUSE NODELAY",
    "open hours": "access_times = 0:00-23:59",
    "denied, closed hours": f"access_times = {'1:00-2:00' if time.localtime().tm_hour > 12 else '20:00-21:00'}",
    "load": "max_load = 1000000",
    "disabled no": "disable = no",
}


DIFFERENT = {
    ("allowed", "stream"): [False, True],
    ("allowed, a network", "stream"): [False, True],
    ("denied, no access", "stream"): [True, False],
}
"""Who is served by xinetd, and by sockd: xinetd knows no client of a listening socket, and only_from lets nobody in."""


@pytest.fixture
def probe(place):
    (place / "probe.py").write_text(PROBE_PY)
    path = place / "probe"
    path.write_text(PROBE.format(python=PYTHON, directory=place))
    path.chmod(0o755)
    return path


def asked(kind, port):
    """Ask thrice, and once more after the program has ended; the replies, by what they say, and from how many."""

    def ask(seconds):
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.settimeout(seconds)
            try:
                sock.connect(("127.0.0.1", port))
                sock.send(b"x") if kind == socket.SOCK_DGRAM else None
                said = sock.recv(4096)
            except OSError as error:
                return None, type(error).__name__
        pid, _, text = said.partition(b" ")
        return (int(pid), json.loads(text)) if pid else (None, "closed")

    first = ask(2)
    if first[0] is None:
        return {"served": False}
    replies = [first, ask(5), ask(5)]
    about = first[1]
    time.sleep(0.8)  # its own time without a client is 0.4 s
    replies.append(ask(5))
    return {
        "served": True,
        "programs": len({pid for pid, _ in replies}),
        "same": all(one == about for _, one in replies),
    } | about


def xinetd_conf(kind, port, probe, variant):
    word, protocol = ("stream", "tcp") if kind == socket.SOCK_STREAM else ("dgram", "udp")
    user = "" if "user =" in variant else "user = nobody"
    return f"""service probe
{{
    type = UNLISTED
    socket_type = {word}
    protocol = {protocol}
    port = {port}
    bind = 127.0.0.1
    wait = yes
    {user}
    server = {probe}
    {variant}
}}
"""


@pytest.mark.parametrize("word", ["dgram", "stream"])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_under_xinetd(name, word, probe, place, background, serve_imported):
    xinetd = program("xinetd", "xinetd")
    kind = socket.SOCK_STREAM if word == "stream" else socket.SOCK_DGRAM
    log, results = place / "xinetd.log", []
    for who in ("xinetd", "sockd"):
        port = free_port(kind)
        conf = place / f"{who}.conf"
        conf.write_text(xinetd_conf(kind, port, probe, VARIANTS[name]))
        if who == "xinetd":
            one = background(
                [xinetd, "-dontfork", "-filelog", log, "-f", conf, "-pidfile", place / "pid"], place / "output"
            )
            until(lambda: log.exists() and "Started working" in log.read_text())
        else:
            serve_imported(conf)
        results.append(asked(kind, port))
        if who == "xinetd":
            one.terminate()
            one.wait()
    if (name, word) in DIFFERENT:
        assert [one["served"] for one in results] == DIFFERENT[name, word]
        return
    assert results[0] == results[1]
    assert results[0]["served"] is not name.startswith("denied")
