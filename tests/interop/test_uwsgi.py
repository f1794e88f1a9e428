# SPDX-License-Identifier: MIT
"""uWSGI, a TCP server that inetd and xinetd start with wait: imported from the two files that its manual shows.

Only paths, ports and Debian's plugin of Python are added; the clients are nginx, in the server's own protocol, and
curl.  `--protocol http` and `--idle` are options of uWSGI for curl and for an end that a test can await.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from controlling import Sockctl
from programs import find_socket, free_port, needs
from watching import _until

LIMIT_S = 30
PLUGIN = Path("/usr/lib/uwsgi/plugins/python3_plugin.so")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the files of the manual have user root"),
    needs("uwsgi", "uwsgi-core"),
    needs("curl", "curl"),
    pytest.mark.skipif(not PLUGIN.exists(), reason="package uwsgi-plugin-python3 is missing"),
]
INETD = (  # Socket activation with inetd/xinetd, of the documentation of uWSGI
    "127.0.0.1:{port} stream tcp wait root {uwsgi} uwsgi --plugin python3 -M -p 4 --wsgi-file {place}/welcome.py"
    " --logto {place}/uwsgi.log{more}\n"
)
XINETD = """
service uwsgi
{{
        disable         = no
        id              = uwsgi-000
        type            = UNLISTED
        socket_type     = stream
        server          = {uwsgi}
        server_args     = --plugin python3 --chdir {place} --module welcome --logto {place}/uwsgi.log{more}
        port            = {port}
        bind            = 127.0.0.1
        user            = root
        wait            = yes
}}
"""
WELCOME = """
import os, uwsgi

def application(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if environ["PATH_INFO"] == "/held":
        open("{place}/seen", "w").close()
        open("{place}/fifo").read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d %d" % (uwsgi.masterpid() or os.getpid(), len(body))]
"""
NGINX = """
daemon off;
master_process off;
pid {place}/nginx.pid;
error_log {place}/nginx.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {place}; proxy_temp_path {place}; fastcgi_temp_path {place};
    uwsgi_temp_path {place}; scgi_temp_path {place};
    server {{
        listen unix:{place}/nginx.sock;
        location / {{ include /etc/nginx/uwsgi_params; uwsgi_pass 127.0.0.1:{port}; }}
    }}
}}
"""


class Site:
    """A service of uWSGI that was imported; ask() gives the pid of its master, and how much of a body came."""

    def __init__(self, place, port):
        self.place, self.port = place, port
        self._to = (f"http://127.0.0.1:{port}",)

    def through(self, path):
        """Ask by a Unix socket from now on, behind which nginx stands."""
        self._to = ("--unix-socket", path, "http://site")

    def words(self, path="/", *options):
        *socket, base = self._to
        return ["curl", "-sS", "--fail", "--max-time", str(LIMIT_S), *options, *map(str, socket), f"{base}{path}"]

    def ask(self, *options):
        done = subprocess.run(self.words("/", *options), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        pid, size = map(int, done.stdout.split())
        return pid, size

    def hold(self):
        """Ask for what uWSGI answers only after release(); returns the client, once it is being served."""
        client = subprocess.Popen(self.words("/held"), stdout=subprocess.PIPE, text=True)
        _until((self.place / "seen").exists)
        (self.place / "seen").unlink()
        return client

    def release(self, client):
        os.close(os.open(self.place / "fifo", os.O_WRONLY | os.O_NONBLOCK))  # an error if it serves no more
        said, _ = client.communicate(timeout=LIMIT_S)
        return int(said.split()[0])

    @property
    def processes(self):
        """Those of uWSGI, whose words name the place."""
        words = ((one, one.info["cmdline"] or [""]) for one in psutil.process_iter(["cmdline"]))
        return [one for one, (first, *rest) in words if "uwsgi" in first and str(self.place) in " ".join(rest)]


@pytest.fixture
def site():
    with tempfile.TemporaryDirectory(prefix="sockd-uwsgi-") as name:
        place = Path(name)
        (place / "welcome.py").write_text(WELCOME.format(place=place))
        os.mkfifo(place / "fifo")
        one = Site(place, free_port())
        yield one
        for left in one.processes:
            with suppress(psutil.Error):
                left.kill()


@pytest.fixture
def serve_imported(launch, run, sockctl, site, tmp_path):
    """Import a file of the manual, and serve what came of it."""

    def start(text, name, *, more="", stop_timeout="1s"):
        uwsgi = find_socket("uwsgi")
        (tmp_path / name).write_text(text.format(place=site.place, port=site.port, uwsgi=uwsgi, more=more))
        done = run(sockctl, "import", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert b"0 left out" in done.stderr
        keys = f'[daemon]\ncontrol = "{tmp_path}/control.sock"\nstop_timeout = "{stop_timeout}"\n'
        (tmp_path / "sockd.toml").write_text(done.stdout.decode().replace("[daemon]\n", keys, 1))
        return launch("--foreground", "--log-format", "json", "-c", "sockd.toml").ready()

    return start


def at_once(site, count, *options):
    with ThreadPoolExecutor(count) as clients:
        return {*clients.map(lambda _: site.ask(*options), range(count))}


def test_from_its_file_of_inetd(serve_imported, site):
    server = serve_imported(INETD, "inetd.conf", more=" --protocol http --die-on-term")
    ((pid, size),) = at_once(site, 8, "--data", "x" * 5_000)
    assert size == 5_000
    assert server.having("program started", pid=pid)
    assert len(server.having("program started")) == 1
    server.stop()
    assert site.processes == []


@pytest.mark.skipif(shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None, reason="nginx is not here")
def test_from_its_file_of_xinetd_behind_nginx(serve_imported, site, talk):
    server = serve_imported(XINETD, "xinetd.conf", more=" --die-on-term")
    (site.place / "nginx.conf").write_text(NGINX.format(place=site.place, port=site.port))
    talk("nginx", "-c", site.place / "nginx.conf")
    path = site.place / "nginx.sock"
    _until(path.exists)
    site.through(path)
    ((pid, size),) = at_once(site, 8, "--data", "x" * 5_000)
    assert size == 5_000
    assert [event["pid"] for event in server.having("program started")] == [pid]
    server.stop()
    assert site.processes == []


def test_reload_upgrade_and_stop_while_it_serves(serve_imported, site, tmp_path):
    more = " --protocol http --idle 1 --die-on-idle"
    server = serve_imported(INETD, "inetd.conf", more=more, stop_timeout="30s")
    control = Sockctl(tmp_path)
    client = site.hold()
    ((pid, _),) = at_once(site, 4)
    assert control.ask("reload")["ok"]
    assert site.ask()[0] == pid
    upgraded = control.ask("upgrade")["pid"]
    assert site.ask()[0] == pid  # of the process before, whose socket it still has
    assert site.release(client) == pid
    (listener,) = control.ask("status")["listeners"]
    assert listener["programs"]["running"] == 1  # it, which is a child of the process before
    _until(lambda: not site.processes, LIMIT_S)  # nobody has asked for a second
    ((second, _),) = at_once(site, 4)
    assert second != pid
    assert len(server.having("program started")) == 2
    client = site.hold()
    before = len(server.having("stopping"))
    os.kill(upgraded, signal.SIGTERM)
    server.wait_for("stopping", count=before + 1)
    assert site.release(client) == second  # its answer comes whole, and nobody asks for more
    server.wait()
    assert site.processes == []
    assert json.dumps(server.having("program ended")).count('"exit_code": 0') == 2
