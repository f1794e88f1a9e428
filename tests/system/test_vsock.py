# SPDX-License-Identifier: MIT
"""Listeners for virtual machines (AF_VSOCK, vsock(7)).

What the kernel has alone is tried on it: to listen.  A connection needs a virtual machine, or a module that few kernels
have loaded; here a library between sockd and the kernel makes each vsock an abstract Unix socket whose name has its CID
and port, so that all of sockd is the one that serves virtual machines.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import ssl
import subprocess
import sys

import pytest
from controlling import SOCKCTL, Sockctl
from serving import STAY_ROOT

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <linux/vm_sockets.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int socket(int domain, int type, int protocol)
{
    if (domain == AF_VSOCK && getenv("NO_VSOCK")) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    return REAL(socket)(domain == AF_VSOCK ? AF_UNIX : domain, type, domain == AF_VSOCK ? 0 : protocol);
}

static socklen_t name_of(const struct sockaddr_vm *vm, struct sockaddr_un *un)
{
    unsigned port = vm->svm_port == VMADDR_PORT_ANY ? (unsigned)getpid() : vm->svm_port;
    memset(un, 0, sizeof *un);
    un->sun_family = AF_UNIX;
    int size = snprintf(un->sun_path + 1, sizeof un->sun_path - 1, "vsock/%u/%u", vm->svm_cid, port);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)size);
}

int bind(int fd, const struct sockaddr *address, socklen_t size)
{
    struct sockaddr_un un;
    if (address->sa_family != AF_VSOCK)
        return REAL(bind)(fd, address, size);
    size = name_of((const struct sockaddr_vm *)address, &un);
    return REAL(bind)(fd, (struct sockaddr *)&un, size);
}

int connect(int fd, const struct sockaddr *address, socklen_t size)
{
    struct sockaddr_un un;
    if (address->sa_family != AF_VSOCK)
        return REAL(connect)(fd, address, size);
    struct sockaddr_vm here = *(const struct sockaddr_vm *)address;
    struct sockaddr_vm own = {.svm_cid = 5, .svm_port = VMADDR_PORT_ANY};
    size = name_of(&own, &un);
    REAL(bind)(fd, (struct sockaddr *)&un, size);
    here.svm_cid = VMADDR_CID_ANY; /* every machine is this one */
    size = name_of(&here, &un);
    return REAL(connect)(fd, (struct sockaddr *)&un, size);
}

static int as_vsock(int result, struct sockaddr_un *un, socklen_t un_size, struct sockaddr *address, socklen_t *size)
{
    struct sockaddr_vm vm = {.svm_family = AF_VSOCK};
    const void *from = un;
    if (result < 0 || address == NULL)
        return result;
    if (un->sun_family == AF_UNIX && sscanf(un->sun_path + 1, "vsock/%u/%u", &vm.svm_cid, &vm.svm_port) == 2) {
        from = &vm;
        un_size = sizeof vm;
    }
    memcpy(address, from, un_size < *size ? un_size : *size);
    *size = un_size;
    return result;
}

int getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    struct sockaddr_un un = {0};
    socklen_t n = sizeof un;
    int result = REAL(getsockname)(fd, (struct sockaddr *)&un, &n);
    return as_vsock(result, &un, n, address, size);
}

int getpeername(int fd, struct sockaddr *address, socklen_t *size)
{
    struct sockaddr_un un = {0};
    socklen_t n = sizeof un;
    int result = REAL(getpeername)(fd, (struct sockaddr *)&un, &n);
    return as_vsock(result, &un, n, address, size);
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    struct sockaddr_un un = {0};
    socklen_t n = sizeof un;
    int result = REAL(accept4)(fd, (struct sockaddr *)&un, &n, flags);
    return as_vsock(result, &un, n, address, size);
}
"""
ANY = 0xFFFFFFFF
OWN_PORTS = itertools.count(os.getpid() << 8)
HINT = (
    "this kernel has no vsock; load the module vhost_vsock on a host, vmw_vsock_virtio_transport in a virtual machine"
)


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    directory = tmp_path_factory.mktemp("vsock")
    (directory / "shim.c").write_text(SHIM)
    command = [compiler, "-shared", "-fPIC", "-w", "-o", directory / "shim.so", directory / "shim.c", "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return {"LD_PRELOAD": str(directory / "shim.so")}


class Machine(socket.socket):
    """A virtual machine's connection."""

    def __init__(self, port, cid=5):
        super().__init__(socket.AF_UNIX)
        self.settimeout(20)
        self.own = next(OWN_PORTS)
        self.bind(f"\0vsock/{cid}/{self.own}")
        self.connect(f"\0vsock/{ANY}/{port}")

    def ask(self, line):
        self.sendall(line)
        return self.recv(100)


@pytest.fixture
def house(serve, shim, tmp_path):
    (tmp_path / "app.py").write_text("def who(line, connection):\n    return connection.peer.encode()\n")
    sockctl = Sockctl(tmp_path)

    def start(listen, more="", daemon=""):
        text = f'[daemon]\ncontrol = "{sockctl.path}"\n{daemon}\n[[listen]]\naddress = "vsock::0"\n{listen}\n{more}'
        server = serve(config=text, environment=shim)
        return server, sockctl, int(server.addresses[0].rpartition(":")[2])

    return start


@pytest.mark.parametrize("workers", [1, 2])
def test_a_machine_is_served_by_its_cid(house, workers):
    server, sockctl, port = house('service = "app:who"', daemon=f"workers = {workers}")
    assert server.addresses == [f"vsock::{port}"]
    with Machine(port) as machine:
        name = f"vsock:5:{machine.own}"
        assert machine.ask(b"x\n") == f"{name}\n".encode()
        assert [row["peer"] for row in sockctl.ask("connections")] == [name]
        sockctl.ask("reload")
        sockctl.ask("upgrade")
        if workers == 1:
            assert machine.ask(b"x\n") == f"{name}\n".encode()
            assert [row["peer"] for row in sockctl.ask("connections")] == [name]
    server.wait_for("closed", peer=name, reason="eof")
    with Machine(port, cid=6) as machine:
        assert machine.ask(b"x\n") == f"vsock:6:{machine.own}\n".encode()
    sockctl.run("stop", "--wait")


@pytest.mark.parametrize(
    ("rules", "served"),
    [
        ('allow = ["vsock:5"]', {5}),
        ('deny = ["vsock:5"]', {6}),
        ('allow = ["vsock:5", "vsock:6"]\ndeny = ["vsock:6"]', {5}),
        ('allow = ["127.0.0.0/8"]', set()),
        ('max_connections = 10\nat_limit = "refuse"', {5, 6}),
    ],
)
def test_rules_by_cid(house, rules, served):
    server, _, port = house(f'service = "echo"\n{rules}')
    for cid in (5, 6):
        with Machine(port, cid=cid) as machine:
            try:
                answer = machine.ask(b"x")
            except ConnectionError:
                answer = b""
            assert answer == (b"x" if cid in served else b"")
        if cid not in served:
            server.wait_for("refused", peer=f"vsock:{cid}:{machine.own}", reason="denied")


def test_a_rule_for_a_machine_lets_no_other_client_in(house):
    server, _, _ = house('service = "echo"', '[[listen]]\naddresses = ["tcp://127.0.0.1:0", "vsock::7"]\n'
                         'service = "echo"\nallow = ["vsock:5"]\n')  # fmt: skip
    assert server.connect(server.addresses[1]).to_end() == b""


def test_programs_and_relays(house):
    server, _, port = house(
        'service = "env"',
        '[service.env]\nuser = "root"\nexec = ["/usr/bin/env"]\n[[listen]]\naddress = "vsock::9"\nservice = "relay"\n'
        f'[service.relay]\nrelay = {{ to = ["unix:@vsock/{ANY}/11"] }}\n'
        '[[listen]]\naddress = "vsock::11"\nservice = "echo"\n'
    )  # fmt: skip
    with Machine(port) as machine, machine.makefile("r") as lines:
        said = set(lines.read().splitlines())
    wanted = {
        "PROTO=VSOCK",
        f"VSOCKLOCALPORT={port}",
        "VSOCKREMOTECID=5",
        f"VSOCKREMOTEPORT={machine.own}",
        "REMOTE_ADDR=vsock:5",
    }
    assert said >= wanted
    with Machine(9) as machine:
        assert machine.ask(b"through") == b"through"
    assert "vsock::9" in server.addresses


def test_socket_activation(managed, shim):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0vsock/{ANY}/{os.getpid()}")
        sock.listen()
        unit = managed("fd:web=upper", sockets=[("web", sock)], environment=shim)
        with Machine(os.getpid()) as machine:
            assert machine.ask(b"a\n") == b"A\n"
        unit.process.terminate()
        unit.end(0)


@pytest.mark.parametrize("key", ["allow", "deny"])
def test_rules_that_the_kernel_cannot_hold_are_refused(managed, tmp_path, key):
    """Seen failing: a program that accepts by itself had a passed vsock, of which nobody kept any client out."""
    with _vsock() as sock:
        program = 'wait = true\nexec = ["/bin/cat"]\n' + ('user = "root"\n' if os.geteuid() == 0 else "")
        text = f'[[listen]]\naddress = "fd:web"\nservice = "it"\n{key} = ["10.0.0.0/8"]\n[service.it]\n{program}'
        (tmp_path / "sockd.toml").write_text(text)
        unit = managed(words=["--foreground", "-c", "sockd.toml"], sockets=[("web", sock)])
        words = f"sockd.toml:4: listen[0].{key}: does not apply to a vsock of a service with wait = true; remove it"
        assert f"{words} (fd:web is vsock:" in unit.end(78)


PASSED = {
    "stream": (socket.AF_INET, socket.SOCK_STREAM),
    "datagrams": (socket.AF_INET, socket.SOCK_DGRAM),
    "packets": (socket.AF_UNIX, socket.SOCK_SEQPACKET),
    "vsock": (getattr(socket, "AF_VSOCK", None), socket.SOCK_STREAM),
}
KEYS = {
    'proxy_protocol = { from = ["10.0.0.1"] }': ("datagrams", "packets", "vsock"),
    'hosts_access = { daemon = "x" }': ("datagrams",),
    'hours = ["08:00-18:00"]': ("datagrams",),
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("kind", PASSED)
def test_a_passed_socket_has_the_rules_of_a_configured_one(managed, tmp_path, kind, key):
    """Seen failing: a vsock with proxy_protocol, and datagrams with what is for connections, were served."""
    family, form = PASSED[kind]
    with _vsock() if kind == "vsock" else socket.socket(family, form) as sock:
        if kind != "vsock":
            sock.bind(str(tmp_path / "s") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        if form != socket.SOCK_DGRAM:
            sock.listen()
        (tmp_path / "sockd.toml").write_text(f'[[listen]]\naddress = "fd:web"\nservice = "upper"\n{key}\n')
        unit = managed(words=["--foreground", "-c", "sockd.toml"], sockets=[("web", sock)])
        if kind in KEYS[key]:
            said = unit.end(78)
            assert "remove it" in said or "of its own" in said
            assert "(fd:web is " in said
            assert "sockd: sockd.toml:" in said
        else:
            unit.wait_for("listening")
            unit.process.terminate()
            unit.end(0)


def _vsock():
    try:
        sock = socket.socket(socket.AF_VSOCK)
    except (OSError, AttributeError) as error:
        pytest.skip(f"this kernel has no vsock: {error}")
    sock.bind((ANY, ANY))
    sock.listen()
    return sock


def test_sockctl_connect(house, shim):
    _, _, port = house('service = "upper"')
    command = [SOCKCTL, "connect", f"vsock:2:{port}"]
    done = subprocess.run(command, env=os.environ | shim, capture_output=True, text=True, timeout=30, input="x\n")
    assert (done.stderr, done.stdout) == ("", "X\n")


def sockd_says(script, tmp_path, listen, *words, **environment):
    (tmp_path / "sockd.toml").write_text(listen)
    command = [script, *STAY_ROOT, *(words or ("--foreground",)), "-c", "sockd.toml"]
    env = os.environ | environment
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30)


def test_a_kernel_without_it_is_told(sockd_script, shim, tmp_path):
    listen = '[[listen]]\naddress = "vsock:2:5000"\nservice = "echo"\n'
    for words, code in (((), 71), (("--check",), 0)):
        done = sockd_says(sockd_script, tmp_path, listen, *words, **shim, NO_VSOCK="1")
        assert f"vsock:2:5000: Address family not supported by protocol (EAFNOSUPPORT); {HINT}" in done.stderr
        assert done.returncode == code


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        ('address = "vsock:x:1"', "CID: 'x' is not a number of 0 to 4294967294 (vsock(7))"),
        ('address = "vsock:3:4294967295"', "port: '4294967295' is not a number of 0 to 4294967294"),
        ('address = "vsock:5000"', "no port; did you mean vsock::5000 (every CID of this machine), or vsock:5000:PORT"),
        ('address = "vsock://3:5"', "begins with two slashes; did you mean vsock:3:5"),
        ('address = "vsock::5"\nallow = ["vsock:x"]', '"vsock:x" is not a client; write "vsock:CID"'),
        ('address = "tcp://127.0.0.1:0"\nallow = ["vsock:3"]', "is a client of vsock, and this listener has no vsock"),
        (
            'address = "vsock::5"\nproxy_protocol = { from = ["10.0.0.1"] }',
            "is a vsock, over which no proxy sends a header",
        ),
    ],
)
def test_what_is_wrong_is_told(sockd_script, tmp_path, listen, words):
    done = sockd_says(sockd_script, tmp_path, f'[[listen]]\nservice = "echo"\n{listen}\n', "--check")
    assert words in done.stderr
    assert done.returncode == 78


def test_the_kernel_itself(sockd_script, serve, tmp_path):
    try:
        socket.socket(socket.AF_VSOCK).close()
    except (OSError, AttributeError) as error:
        pytest.skip(f"this kernel has no vsock: {error}")
    server = serve(config='[[listen]]\naddress = "vsock::0"\nservice = "echo"\n')
    assert server.addresses[0].startswith("vsock::")
    assert server.addresses[0] != "vsock::0"
    listen = f'[[listen]]\naddress = "{server.addresses[0]}"\nservice = "echo"\n'
    done = sockd_says(sockd_script, tmp_path, listen)
    assert "Address already in use (EADDRINUSE)" in done.stderr
    done = sockd_says(sockd_script, tmp_path, listen.replace("vsock:", "vsock:77"))
    assert "(EADDRNOTAVAIL); this machine has no such CID; write vsock::PORT" in done.stderr


def test_tls(house, certificates):
    tls = f'tls = {{ certificate = "{certificates.server.path}", key = "{certificates.server.key}" }}'
    _, _, port = house(f'service = "echo"\n{tls}')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with Machine(port) as machine, context.wrap_socket(machine) as sealed:
        sealed.sendall(b"secret")
        assert sealed.recv(10) == b"secret"
