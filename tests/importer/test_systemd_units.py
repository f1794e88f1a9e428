# SPDX-License-Identifier: MIT
"""Socket units of systemd with their services: what becomes of each setting, and that none is lost in silence.

The same units under a real systemd are in tests/interop/test_systemd_import.py.
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
SOCKET = """[Unit]
Description=A test
[Socket]
ListenStream=7901
ListenStream=[::1]:7902
ListenStream=/run/test.sock
ListenSequentialPacket=/run/test.packets
Accept=yes
MaxConnections=5
MaxConnectionsPerSource=2
SocketUser=nobody
SocketGroup=daemon
SocketMode=0660
Backlog=50
NoDelay=true
KeepAlive=yes
KeepAliveTimeSec=1min 30s
KeepAliveProbes=3
ReceiveBuffer=64K
DeferAcceptSec=5
IPAddressDeny=any
IPAddressAllow=localhost 10.0.0.0/8
[Install]
WantedBy=sockets.target
"""
SERVICE = """[Unit]
Description=Its service
[Service]
ExecStart=-@/bin/cat in.catd -u "two words" ${MODE} $WORDS 100%% $$x
StandardInput=socket
StandardError=journal
User=nobody
Group=daemon
Environment=MODE=fast "WORDS=a b"
PassEnvironment=TZ
WorkingDirectory=/srv
UMask=0027
Nice=5
LimitNOFILE=100:200
LimitCPU=1min
LimitAS=64M
LimitSTACK=infinity
RuntimeMaxSec=2h
"""


@pytest.fixture
def converted(tmp_path):
    def start(socket, service, name="test@.service", drop_ins=()):
        (tmp_path / "test.socket").write_text(socket)
        if service is not None:
            (tmp_path / name).write_text(service)
        for unit, text in drop_ins:
            (tmp_path / f"{unit}.d").mkdir()
            (tmp_path / f"{unit}.d" / "mine.conf").write_text(text)
        result = convert(read([str(tmp_path / "test.socket")]), Host(access_rule=""), lambda text: None)
        return result, tomllib.loads(result.text)

    return start


def test_connections(converted):
    result, toml = converted(SOCKET, SERVICE)
    assert (result.served, result.left_out, result.notes) == (1, 0, ())
    assert toml["listen"] == [
        {
            "addresses": ["tcp://:7901", "tcp://[::1]:7902", "unix:/run/test.sock", "unixpacket:/run/test.packets"],
            "service": "test",
            "max_connections_per_source": 2,
            "owner": "nobody",
            "group": "daemon",
            "backlog": 50,
            "nodelay": True,
            "keepalive": {"on": True, "idle": "1m30s", "count": 3},
            "receive_buffer": 65536,
            "defer_accept": "5s",
            "mode": "0660",
            "at_limit": "refuse",
            "source_prefix_ipv6": 128,
            "allow": ["127.0.0.0/8", "::1/128", "10.0.0.0/8"],
        }
    ]
    assert toml["service"]["test"] == {
        "exec": ["/bin/cat", "-u", "two words", "fast", "a", "b", "100%", "$x"],
        "argv0": "in.catd",
        "user": "nobody",
        "group": "daemon",
        "directory": "/srv",
        "umask": "0027",
        "nice": 5,
        "max_instances": 5,
        "limits": {"files": 100, "cpu": "1m", "memory": "64 MiB", "wall": "2h"},
        "environment": ["PATH", "TZ", "MODE=fast", "WORDS=a b"],
        "stderr": "log",
    }


WAIT = "[Socket]\nListenDatagram=127.0.0.1:7903\n"
PLAIN = "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n"


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("ListenDatagram=127.0.0.1:7903", "udp://127.0.0.1:7903"),
        ("ListenDatagram=/run/d", "unixgram:/run/d"),
        ("ListenDatagram=@d", "unixgram:@d"),
        ("ListenStream=@d", "unix:@d"),
        ("ListenStream=127.0.0.1:7903", "tcp://127.0.0.1:7903"),
        ("ListenSequentialPacket=/run/d", "unixpacket:/run/d"),
        ("ListenStream=vsock::1234", "vsock::1234"),
    ],
)
def test_a_socket_for_one_program(converted, listen, address):
    """Accept=no with StandardInput=socket is wait."""
    result, toml = converted(f"[Socket]\n{listen}\n", PLAIN, "test.service")
    assert (result.served, result.notes) == (1, ())
    assert toml["listen"][0]["address"] == address
    assert ("mode" in toml["listen"][0]) == ("/run/" in address)
    assert toml["service"]["test"] == {"exec": ["/bin/cat"], "user": "root", "wait": True}


def test_drop_ins_and_empty_settings(converted):
    result, toml = converted(
        "[Socket]\nListenStream=7901\nAccept=yes\n",
        f"{PLAIN}User=daemon\n",
        drop_ins=[
            ("test.socket", "[Socket]\nListenStream=\nListenStream=7905\n"),
            ("test@.service", "[Service]\nExecStart=\nExecStart=/bin/echo hi\nUser=nobody\n"),
        ],
    )
    assert (result.served, result.notes) == (1, ())
    assert toml["listen"][0]["address"] == "tcp://:7905"
    assert (toml["service"]["test"]["exec"], toml["service"]["test"]["user"]) == (["/bin/echo", "hi"], "nobody")


def test_an_empty_address_drops_those_of_every_kind(converted):
    """socket_free_ports() in systemd; else a drop-in that moves a service would leave it reachable where it was."""
    result, toml = converted(
        "[Socket]\nListenDatagram=7901\nBacklog=5\n", PLAIN, "test.service",
        drop_ins=[("test.socket", "[Socket]\nListenStream=\nListenDatagram=127.0.0.1:7902\n")],
    )  # fmt: skip
    assert result.served == 1
    assert (toml["listen"][0]["address"], toml["listen"][0]["backlog"]) == ("udp://127.0.0.1:7902", 5)


def test_a_service_of_another_name(converted):
    result, _ = converted("[Socket]\nListenDatagram=7901\nService=other.service\n", PLAIN, "other.service")
    assert result.served == 1


def test_addresses_that_are_denied_less_those_that_are_allowed(converted):
    filters = "IPAddressDeny=10.0.0.0/8\nIPAddressAllow=10.128.0.0/9\n"
    _, toml = converted(f"{WAIT}{filters}", PLAIN, "test.service")
    assert toml["listen"][0]["deny"] == ["10.0.0.0/9"]


def test_filters_of_the_service_do_not_hold_for_a_socket_that_it_is_passed(converted):
    """systemd.resource-control(5): a common pair, whose service may connect to more than may connect to it."""
    filters = "IPAddressDeny=any\nIPAddressAllow=127.0.0.1\n"
    _, toml = converted(f"{WAIT}{filters}", f"{PLAIN}IPAddressDeny=any\nIPAddressAllow=192.0.2.0/24\n", "test.service")
    assert toml["listen"][0]["allow"] == ["127.0.0.1/32"]


def test_nothing_is_denied_where_everybody_is_allowed(converted):
    _, toml = converted(f"{WAIT}IPAddressDeny=10.0.0.0/8\nIPAddressAllow=any\n", PLAIN, "test.service")
    assert "deny" not in toml["listen"][0]


def test_units_of_the_host_have_drop_ins_in_every_directory_of_systemd(tmp_path, monkeypatch):
    """What `systemctl edit` writes: it is in another directory than the unit of a package."""
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    for path, text in (
        (lib / "a-test.socket", "[Socket]\nListenStream=7901\nAccept=yes\n"),
        (lib / "a-test@.service", f"{PLAIN}User=root\n"),
        (etc / "a-test@.service", f"{PLAIN}User=nobody\n"),
        (etc / "a-test.socket.d/override.conf", "[Socket]\nListenStream=\nListenStream=127.0.0.1:7902\n"),
        (etc / "a-.socket.d/50-more.conf", "[Socket]\nIPAddressDeny=10.0.0.0/8\n"),
        (lib / "a-.socket.d/50-more.conf", "[Socket]\nBacklog=1\n"),
        (lib / "service.d/10-all.conf", "[Service]\nNice=3\n"),
        (etc / "a-test@.service.d/x.conf.bak", "[Service]\nNice=4\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr("sockd.importer.files.UNIT_DIRECTORIES", (str(etc), str(lib)))
    result = convert(read([str(lib / "a-test.socket")]), Host(access_rule=""), lambda text: None)
    toml = tomllib.loads(result.text)
    (listen,), service = toml["listen"], toml["service"]["a-test"]
    assert (listen["address"], listen["deny"]) == ("tcp://127.0.0.1:7902", ["10.0.0.0/8"])
    assert "backlog" not in listen
    assert (service["user"], service["nice"]) == ("nobody", 3)


@pytest.mark.parametrize("form", ["auto", "systemd"])
def test_a_service_alone_is_not_taken_for_another_file(tmp_path, form):
    (tmp_path / "test.service").write_text(PLAIN)
    result = convert(read([str(tmp_path / "test.service")], form=form), Host(access_rule=""), lambda text: None)
    assert [note.partition("test.service:")[2] for note in result.notes] == [
        "1: is read with its socket; name the .socket file"
    ]


def test_a_last_line_that_goes_on_counts(converted):
    _, toml = converted("[Socket]\nListenDatagram=127.0.0.1:7903\nIPAddressDeny=10.0.0.0/8 \\", PLAIN, "test.service")
    assert toml["listen"][0]["deny"] == ["10.0.0.0/8"]


ACCEPT = "[Socket]\nListenStream=7901\nAccept=yes\n"


@pytest.mark.parametrize(
    ("socket", "service", "words"),
    [
        (f"{ACCEPT}Priority=3\n", PLAIN, "test.socket:4: test: Priority=3 has no equivalent in [[listen]]"),
        (f"{ACCEPT}nonsense\n", PLAIN, "test.socket:4: test: 'nonsense' is not a setting"),
        (ACCEPT, f"{PLAIN}PrivateTmp=yes\n", "test@.service:4: test: PrivateTmp=yes is not applied by sockd"),
        (ACCEPT, f"{PLAIN}EnvironmentFile=/x\n", "EnvironmentFile=/x is not applied by sockd"),
        (ACCEPT, f"{PLAIN}ProtectSystem=strict\n", "set it in sockd.service for all"),
        (ACCEPT, f"{PLAIN}StandardOutput=journal\n", "StandardOutput=journal: it is the socket"),
        (ACCEPT, f"{PLAIN}StandardError=tty\n", "StandardError=tty: it goes to the log"),
        (ACCEPT, f"{PLAIN}IPAddressDeny=any\n", "test@.service:4: test: IPAddressDeny=any is not applied by sockd"),
        (f"{WAIT}MaxConnections=3\n", PLAIN, ""),
    ],
)
def test_what_is_lost_is_named_with_its_place(converted, socket, service, words):
    result, _ = converted(socket, service, "test.service" if socket.startswith(WAIT) else "test@.service")
    assert (result.served, result.left_out) == (1, 0), result.notes
    assert words in "".join(result.notes)


@pytest.mark.parametrize(
    ("socket", "service", "words"),
    [
        (ACCEPT, None, "test@.service was not found, beside it or where systemd looks"),
        (ACCEPT, "[Service]\nExecStart=/bin/cat\n", "expects the socket as descriptor 3 (sd_listen_fds(3))"),
        ("[Socket]\nAccept=yes\n", PLAIN, "has no ListenStream="),
        ("[Socket]\nListenDatagram=1\nAccept=yes\n", PLAIN, "Accept=yes is for connections"),
        ("[Socket]\nListenSequentialPacket=vsock::1234\nAccept=yes\n", PLAIN, "of vsock, sockd serves streams alone"),
        ("[Socket]\nListenFIFO=/run/x\nAccept=yes\n", PLAIN, "ListenFIFO=/run/x: sockd serves streams"),
        (f"{ACCEPT}IPAddressDeny=any\n", PLAIN, "no client would be accepted"),
        (f"{ACCEPT}Backlog=many\n", PLAIN, "Backlog=many: is not a value of Backlog"),
        (f"{ACCEPT}MaxConnections=many\n", PLAIN, "MaxConnections=many: is not a number"),
        (ACCEPT, f"{PLAIN}ExecStart=/bin/true\n", "2 lines ExecStart=; sockd starts one program"),
        (ACCEPT, PLAIN.replace("cat", "cat %i"), "%i is replaced by systemd; write its value"),
        (ACCEPT, PLAIN.replace("cat", "cat $X"), "$X is not set by Environment="),
        (ACCEPT, PLAIN.replace("/bin", "+/bin"), "with more rights than User= has"),
        (ACCEPT, PLAIN.replace("cat", "cat 'x"), "No closing quotation"),
        (ACCEPT, f"{PLAIN}DynamicUser=yes\n", "sockd makes no users"),
        (ACCEPT, f"{PLAIN}Type=forking\n", "sockd waits for the program that it starts"),
        (ACCEPT, f"{PLAIN}RootDirectory=/srv\n", "sockd changes the root of no program"),
        (ACCEPT, f"{PLAIN}WorkingDirectory=/home/%i\n", "%i is replaced by systemd; write its value"),
        (f"{ACCEPT}SocketUser=%i\n", PLAIN, "%i is replaced by systemd; write its value"),
        (ACCEPT, PLAIN.replace("cat", "cat a\\x20b"), "\\x is an escape of systemd"),
        (ACCEPT, PLAIN.replace("cat", "cat ; /bin/true"), "two commands; sockd starts one program"),
        (ACCEPT, f"{PLAIN}LimitNOFILE=many\n", "LimitNOFILE=many: is not a number"),
        (f"{WAIT}ListenDatagram=7904\n", PLAIN, "needs one socket alone, also in systemd"),
    ],
)
def test_what_cannot_be_served_is_left_out(converted, socket, service, words):
    result, _ = converted(socket, service, "test.service" if socket.startswith(WAIT) else "test@.service")
    assert (result.served, result.left_out) == (0, 1), result.text
    assert words in "".join(result.notes)


def test_no_line_is_lost(converted, tmp_path):
    """Without any one line the result is another; but for the words that say what systemd does anyway."""
    same = ("Description=", "WantedBy=", "[Unit]", "[Install]", "LimitSTACK=infinity")
    whole, _ = converted(SOCKET, SERVICE)
    for name, text in (("test.socket", SOCKET), ("test@.service", SERVICE)):
        lines = text.splitlines()
        for index, line in enumerate(lines):
            if not line.startswith(same):
                (tmp_path / name).write_text("\n".join([*lines[:index], "#", *lines[index + 1 :]]))
                without = convert(read([str(tmp_path / "test.socket")]), Host(access_rule=""), lambda text: None)
                assert (without.text, without.notes) != (whole.text, whole.notes), line
        (tmp_path / name).write_text(text)


@pytest.mark.parametrize("place", ["test.socket", "."])
def test_it_runs_from_its_file_and_from_a_directory(tmp_path, launch, place):
    user = "root" if os.geteuid() == 0 else str(os.geteuid())
    (tmp_path / "test.socket").write_text(f"[Socket]\nListenStream={tmp_path}/socket\nAccept=yes\n")
    (tmp_path / "test@.service").write_text(
        f'[Service]\nExecStart=/bin/sh -c "echo $${{MODE}} $$(umask)"\nEnvironment=MODE=fast\nUMask=077\n'
        f"StandardInput=socket\nUser={user}\n"
    )
    done = subprocess.run(
        [BIN / "sockctl", "import", place], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / "sockd.toml").write_text(done.stdout)
    server = launch("-f", "--log-format", "json", "-c", "sockd.toml").ready()
    client = server.connect()
    assert client.to_end() == b"fast 0077\n"
    client.close()
    server.stop()
