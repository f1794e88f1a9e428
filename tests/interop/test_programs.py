# SPDX-License-Identifier: MIT
"""Programs of packages that inetd or xinetd starts, imported from the file that their package or manual shows, and used
by their real clients: rsync, git, sshd, nrpe, in.fingerd, popa3d; and leafnode from the units of its package.

Only paths, ports and the address are replaced.  in.tftpd, in.ntalkd and a tcp server with wait are in test_wait.py.
check_mk_agent is no package of Debian: its file of xinetd is tried with a program that prints sections as it does.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from unpacked import UNPACKED, program

LIMIT_S = 30
PYTHON = "/usr/bin/python3"
USERS = "sshd:x:64101:65534::/run/sshd:/usr/sbin/nologin\npopa3d:x:64102:65534::/var/lib/popa3d:/usr/sbin/nologin\n"
"""Users that packages make when they are installed; only the daemon under test sees them, and their directories."""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users, as these servers do")


@pytest.fixture
def place():
    """A directory that every user can read."""
    with tempfile.TemporaryDirectory(prefix="sockd-programs-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def serve_imported(run, sockctl, sockd, place):
    """Import the text of a file, and serve what came of it; gives the log, when called."""
    with ExitStack() as stack:

        def start(text, name="old.conf", prepare=":"):
            (place / name).write_text(text)
            done = run(sockctl, "import", place / name)
            assert done.returncode == 0, done.stderr
            assert b"0 left out" in done.stderr, done.stderr
            (place / "sockd.toml").write_bytes(done.stdout)
            log = place / "sockd.log"
            file = stack.enter_context(open(log, "ab"))
            (place / "passwd").write_text(Path("/etc/passwd").read_text() + USERS)
            inside = (
                f"mount --bind {place}/passwd /etc/passwd && mount -t tmpfs none /var/lib && mount -t tmpfs none /run"
            )
            inside += (
                f" && {prepare} && mkdir /var/lib/popa3d /run/sshd && exec {sockd} --foreground -c {place}/sockd.toml"
            )
            words = ["unshare", "--mount", "sh", "-c", inside]
            one = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd="/")
            stack.callback(one.wait)
            stack.callback(one.terminate)
            end = time.monotonic() + LIMIT_S
            while "Press Ctrl-C" not in log.read_text():
                assert one.poll() is None, log.read_text()
                assert time.monotonic() < end
                time.sleep(0.02)  # only until the next look
            return log.read_text

        yield start


def call(*words, **options):
    return subprocess.run(
        [*map(str, words)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        stdin=subprocess.DEVNULL,
        **options,
    )


def test_rsync_from_its_manual(serve_imported, place, port):
    """rsyncd.conf(5): `rsync stream tcp nowait root /usr/bin/rsync rsyncd --daemon`."""
    rsync = program("rsync", "rsync")
    (place / "files").mkdir()
    data = {f"file{number}": os.urandom(50_000) for number in range(5)}
    for name, content in data.items():
        (place / "files" / name).write_bytes(content)
    (place / "rsyncd.conf").write_text(
        f"[files]\npath = {place}/files\nread only = no\nuid = root\ngid = root\nuse chroot = no\n"
    )
    log = serve_imported(
        f"127.0.0.1:{port} stream tcp nowait root {rsync} rsyncd --daemon --config={place}/rsyncd.conf\n"
    )
    url = f"rsync://127.0.0.1:{port}"
    assert call(rsync, f"{url}/").stdout.split() == ["files"]
    done = call(rsync, "-a", f"{url}/files/", f"{place}/got/")
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name: path.read_bytes() for path in (place / "got").iterdir()} == data
    (place / "got" / "file0").write_bytes(b"changed")
    assert call(rsync, "-ac", f"{place}/got/file0", f"{url}/files/").returncode == 0
    assert (place / "files" / "file0").read_bytes() == b"changed"
    assert log().count("program started") == 3
    assert " user=" not in log()


def test_git_daemon_from_its_manual(serve_imported, place, port):
    """git-daemon(1): `git stream tcp nowait nobody /usr/bin/git git daemon --inetd --verbose --export-all /pub`."""
    git = shutil.which("git")
    if git is None or not Path(call(git, "--exec-path").stdout.strip(), "git-daemon").exists():
        pytest.skip("no git daemon (package git)")
    environment = {**os.environ, "HOME": str(place), "GIT_CONFIG_NOSYSTEM": "1"}
    (place / ".gitconfig").write_text("[user]\nname = a\nemail = a@example.com\n[safe]\ndirectory = *\n")
    assert call(git, "init", "-q", place / "pub" / "one", env=environment).returncode == 0
    (place / "pub" / "one" / "text").write_text("hello\n")
    assert call(git, "-C", place / "pub" / "one", "add", "text", env=environment).returncode == 0
    assert call(git, "-C", place / "pub" / "one", "commit", "-qm", "first", env=environment).returncode == 0
    shutil.chown(place / "pub" / "one", "nobody")
    subprocess.run(["chown", "-R", "nobody", place / "pub" / "one"], check=True)
    log = serve_imported(
        f"127.0.0.1:{port} stream tcp nowait nobody {git} git daemon --inetd --verbose --export-all {place}/pub\n"
    )
    done = call(git, "clone", "-q", f"git://127.0.0.1:{port}{place}/pub/one", place / "got", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert (place / "got" / "text").read_text() == "hello\n"
    assert "program started" in log()


def test_sshd(serve_imported, place, port):
    """sshd(8), -i, and the line of inetd.conf of the BSDs: `ssh stream tcp nowait root /usr/sbin/sshd sshd -i`."""
    sshd = program("sshd", "openssh-server")
    ssh, keygen = shutil.which("ssh"), shutil.which("ssh-keygen")
    if ssh is None or keygen is None:
        pytest.skip("no ssh client (package openssh-client)")
    for name in ("host", "own"):
        assert call(keygen, "-q", "-t", "ed25519", "-N", "", "-f", place / name).returncode == 0
    (place / "sshd_config").write_text(
        f"HostKey {place}/host\nAuthorizedKeysFile {place}/own.pub\nStrictModes no\nUsePAM no\nPidFile none\n"
        "PermitRootLogin yes\n"
    )
    log = serve_imported(f"127.0.0.1:{port} stream tcp nowait root {sshd} sshd -i -f {place}/sshd_config\n")
    options = ["-p", port, "-i", place / "own", "-F", "none", "-o", "StrictHostKeyChecking=no"]
    options += ["-o", f"UserKnownHostsFile={place}/known", "-o", "BatchMode=yes"]
    done = call(ssh, *options, "root@127.0.0.1", "echo $((6 * 7)); exit 3")
    assert (done.stdout, done.returncode) == ("42\n", 3), done.stderr
    assert "program started" in log()


NRPE = """
service nrpe
{{
    flags           = REUSE
    type            = UNLISTED
    port            = {port}
    bind            = 127.0.0.1
    socket_type     = stream
    wait            = no
    user            = nobody
    group           = nogroup
    server          = {server}
    server_args     = -c {place}/nrpe.cfg --inetd
    log_on_failure  += HOST
    disable         = no
    only_from       = 127.0.0.1
}}
"""


def test_nrpe_from_its_file_of_xinetd(serve_imported, place, port):
    server = program("nrpe", "nagios-nrpe-server")
    plugin = UNPACKED / "nagios-nrpe-plugin/usr/lib/nagios/plugins/check_nrpe"
    if not plugin.exists():
        pytest.skip("needs check_nrpe (package nagios-nrpe-plugin)")
    (place / "nrpe.cfg").write_text(
        f"allowed_hosts=127.0.0.1\ncommand[one]=/bin/echo all is well\ncommand[two]={place}/two\n"
    )
    (place / "two").write_text("#!/bin/sh\necho not well; exit 2\n")
    (place / "two").chmod(0o755)
    log = serve_imported(NRPE.format(port=port, server=server, place=place))
    done = call(plugin, "-H", "127.0.0.1", "-p", port, "-c", "one")
    assert (done.stdout.strip(), done.returncode) == ("all is well", 0), log()
    done = call(plugin, "-H", "127.0.0.1", "-p", port, "-c", "two")
    assert (done.stdout.strip(), done.returncode) == ("not well", 2)
    assert log().count("program started") == 2


CHECK_MK = """
service check_mk
{{
    type           = UNLISTED
    port           = {port}
    bind           = 127.0.0.1
    socket_type    = stream
    protocol       = tcp
    wait           = no
    user           = root
    server         = {place}/check_mk_agent
    only_from      = 127.0.0.1
    log_on_success =
    disable        = no
}}
"""


def test_a_monitoring_agent_from_its_file_of_xinetd(serve_imported, place, port):
    (place / "check_mk_agent").write_text(
        '#!/bin/sh\necho "<<<check_mk>>>"\necho "AgentOS: linux"\necho "<<<df>>>"\ndf -P /\n'
    )
    (place / "check_mk_agent").chmod(0o755)
    serve_imported(CHECK_MK.format(port=port, place=place))
    nc = shutil.which("nc")
    if nc is None:
        pytest.skip("no nc; tests/interop/install installs it")
    done = call(nc, "127.0.0.1", port)
    assert done.stdout.startswith("<<<check_mk>>>\nAgentOS: linux\n<<<df>>>\n")
    assert done.stdout.endswith("/\n")


def test_finger_from_its_package(serve_imported, place):
    server, client = program("in.fingerd", "fingerd"), shutil.which("finger")
    if client is None:
        pytest.skip("no finger; tests/interop/install installs it")
    script = (UNPACKED / "fingerd/DEBIAN/postinst").read_text()
    (entry,) = re.findall(r'^\s*fingerentry="(finger.*)"', script, re.M)
    words = entry.replace("/usr/sbin/in.fingerd", server)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", 79))  # the only port that the client knows
        except OSError as error:
            pytest.skip(f"the client knows one port only: {error}")
    log = serve_imported(f"127.0.0.1:{words}\n")
    done = call(client, "root@127.0.0.1")
    assert "Login: root" in done.stdout, log()
    assert "program started" in log()


def test_pop3_from_its_package(serve_imported, place, port):
    """popa3d: the line of its postinst; whom it does not know it refuses, after its dialogue."""
    server, curl = program("popa3d", "popa3d"), shutil.which("curl")
    if curl is None:
        pytest.skip("no curl; tests/interop/install installs it")
    script = (UNPACKED / "popa3d/DEBIAN/postinst").read_text()
    (entry,) = re.findall(r"--add '(pop3.*)'", script)
    words = entry.replace("\\t", "\t").replace("pop3", str(port), 1).replace("/usr/sbin/popa3d", server)
    log = serve_imported(f"127.0.0.1:{words}\n")
    done = call(curl, "-sS", "-v", "--user", "nobody:wrong", f"pop3://127.0.0.1:{port}/")
    assert "< +OK" in done.stderr, log()
    assert done.returncode == 67, done.stderr  # the login is denied
    assert "hosts_access" in (place / "sockd.toml").read_text()  # tcpd of the line
    assert "program started" in log()


SPOOL = """
mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work &&
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc &&
mkdir -p /etc/news/leafnode && mount -t tmpfs none /var/spool &&
printf 'server = news.invalid\\nexpire = 20\\nhostname = reader.sockd-tests.org\\n' >/etc/news/leafnode/config &&
cd /var/spool && mkdir -p news/alt/test && cd news &&
mkdir leaf.node failed.postings interesting.groups out.going message.id temp.files &&
echo 'alt.test 1 1 1600000000 A group' >leaf.node/groupinfo &&
chown -R news:news /var/spool/news && cd /
"""
READER = """
import sys, nntplib
news = nntplib.NNTP("127.0.0.1", int(sys.argv[1]), timeout=20)
print(news.getwelcome())
print([group.group for group in news.list()[1]])
print(news.group("alt.test")[:4])
print([line for line in news.article("1")[1].lines if line.startswith(b"This server")])
print(news.quit())
"""


def test_news_from_the_units_of_its_package(serve_imported, place, port):
    """leafnode.socket and leafnode@.service of leafnode; nntplib reads the article that it has for a new group."""
    server, units = program("leafnode", "leafnode"), UNPACKED / "leafnode/lib/systemd/system"
    reader = [PYTHON, "-W", "ignore", "-c", READER]
    if not units.is_dir() or call(PYTHON, "-W", "ignore", "-c", "import nntplib").returncode:
        pytest.skip("needs the units of package leafnode, and nntplib (Python before 3.13)")
    service = (units / "leafnode@.service").read_text().replace("/usr/sbin/leafnode", server)
    (place / "leafnode@.service").write_text(service)
    socket = (units / "leafnode.socket").read_text().replace("=119", f"=127.0.0.1:{port}")
    log = serve_imported(socket, "leafnode.socket", SPOOL.replace("\n", " ").strip())
    done = call(*reader, port)
    lines = done.stdout.splitlines()
    assert len(lines) == 5, done.stderr + log()
    assert lines[0].startswith("200 Leafnode NNTP Daemon")
    assert lines[1] == "['alt.test']"
    assert "This server is running leafnode" in lines[3]
    assert lines[4].startswith("205 ")
    assert "program started" in log()
