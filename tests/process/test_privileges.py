# SPDX-License-Identifier: MIT
"""Rights: what is dropped, in which order, and that nothing is served when a step fails ("Shows" 4, FAQ IV.8).

Seen to fail: with setgroups left out; with the threads' status not looked at, a kernel that only pretends
to set the groups (`retval=0:when=1`) is believed; with the way back not tried.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import threading

import pytest
from background import status_of
from controlling import Sockctl
from watching import _until

from sockd.errors import ConfigurationError, PermissionFault, SystemFault
from sockd.process import privileges

NOBODY = pwd.getpwnam("nobody")
NOBODY_DROPS = 'user = "nobody"'
SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")


@pytest.fixture(autouse=True)
def _root(as_root):
    """All of this is about what root has."""


def assert_nothing_is_left(status):
    uid, gid = str(NOBODY.pw_uid), str(NOBODY.pw_gid)
    assert status["Uid"] == [uid] * 4
    assert status["Gid"] == [gid] * 4
    assert status["Groups"] == [gid]
    assert all(int(status[name][0], 16) == 0 for name in SETS)
    assert status["NoNewPrivs"] == ["1"]


def test_nothing_of_root_is_left(background):
    one = background(daemon=NOBODY_DROPS, preexec_fn=lambda: os.setgroups([0, 4, 24]))
    assert_nothing_is_left(one.status())
    assert one.logged("privileges dropped")[0]["uid"] == NOBODY.pw_uid
    assert one.ask(b"a") == b"A\n"


def test_every_thread_has_dropped(background):
    """Also those that a handler started when it was imported, before the drop."""
    app = """
import threading
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
def answer(line):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    return line
"""
    one = background(daemon=NOBODY_DROPS, app=app, service="app:answer")
    assert one.logged("privileges dropped")[0]["threads"] == 4
    one.ask(b"a")
    threads = os.listdir(f"/proc/{one.pid}/task")
    assert len(threads) == 5
    for thread in threads:
        assert_nothing_is_left(status_of(one.pid, thread))


def test_a_handler_cannot_become_root_again(background):
    app = """
import os
def answer(line):
    for call in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0])):
        try:
            call()
        except PermissionError:
            continue
        return b"again root"
    return b"refused"
"""
    assert background(daemon=NOBODY_DROPS, app=app, service="app:answer").ask(b"a") == b"refused\n"


def test_the_group_and_the_numbers_that_are_asked_for(background):
    one = background(daemon='user = "nobody"\ngroup = "daemon"')
    gid = pwd.getpwnam("daemon").pw_gid
    status = one.status()
    assert status["Gid"] == [str(gid)] * 4
    assert status["Groups"] == [str(gid)]
    one = background(daemon='user = "54321"\ngroup = "54322"')
    status = one.status()
    assert (status["Uid"], status["Gid"], status["Groups"]) == (["54321"] * 4, ["54322"] * 4, ["54322"])
    assert one.ask(b"a") == b"A\n"


def test_the_command_line_decides(background):
    one = background(daemon='user = "root"', words=("-u", "nobody", "-g", "nogroup"))
    assert_nothing_is_left(one.status())


CALLS = ("setgroups", "setresgid", "chroot", "chdir", "setresuid", "capset", "prctl")
FAULTS = [(call, f"error={error}", code) for call in CALLS for error, code in (("EPERM", 77), ("EINVAL", 71))]
PRETENDED = [
    (call, pretended, 71)
    for call in ("setgroups", "setresgid", "setresuid")
    for pretended in ("retval=0", "retval=0:when=1")  # when=1: the attempt to go back is a real one
]


@pytest.mark.parametrize(("call", "fault", "code"), FAULTS + PRETENDED)
def test_a_step_that_fails_never_serves(background, tmp_path, free_port, call, fault, code):
    """strace(1) fails the call, or pretends that it was done; somebody tries to connect all the time."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace(1)")
    if call == "chdir":
        fault += ":when=2"  # the first is the daemonizer's
    (tmp_path / "empty").mkdir()
    trace = tmp_path / "trace"
    words = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={call}", "-e", f"inject={call}:{fault}"]
    with greedy(free_port) as answers:
        one = background(
            daemon=f'user = "nobody"\nchroot = "{tmp_path}/empty"', listen=f"tcp://127.0.0.1:{free_port}", prefix=words
        )
    assert "(INJECTED)" in trace.read_text()
    assert one.code == code, one.words
    assert "not serving" in one.words
    assert not one.alive
    assert answers == []


@pytest.fixture
def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class greedy:  # noqa: N801 - reads as a with statement
    """Connect again and again and ask; the bytes that came."""

    def __init__(self, port):
        self.port, self.answers, self.over = port, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.wait(0.002):
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                    sock.sendall(b"me\n")
                    if answer := sock.recv(100):
                        self.answers.append(answer)
            except OSError:
                continue

    def __enter__(self):
        self.thread.start()
        return self.answers

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def test_the_greedy_client_would_have_been_answered(background, free_port):
    with greedy(free_port) as answers:
        background(daemon=NOBODY_DROPS, listen=f"tcp://127.0.0.1:{free_port}")
        _until(lambda: answers)
    assert answers[0] == b"ME\n"


@pytest.mark.parametrize(
    ("daemon", "code", "said"),
    [
        ('user = "nobdy"', 78, 'daemon.user: "nobdy" is not a user of this host; did you mean "nobody"?'),
        ('user = "nobody"\ngroup = "nogrup"', 78, 'daemon.group: "nogrup" is not a group of this host; did you mean'),
        ('user = "54321"', 78, 'daemon.user: "54321" has no group of its own; add a group'),
        ('user = "4294967295"\ngroup = "nogroup"', 78, "is not a user of this host"),
        ('user = "nobody"\ngroup = "root"', 78, "is root's group"),
        (
            'user = "nobody"\nchroot = "/no/where"',
            78,
            'daemon.chroot: "/no/where" does not exist; create one: install -d',
        ),
        ('user = "nobody"\nchroot = "/etc/passwd"', 78, 'daemon.chroot: "/etc/passwd" is not a directory'),
    ],
)
def test_who_cannot_serve_is_named_with_the_remedy(background, daemon, code, said):
    one = background(daemon=daemon)
    assert one.code == code
    assert said in one.words
    assert background(daemon=daemon, words=["--check"]).words.splitlines()[0] in one.words


def test_root_that_was_told_to_serve_does(background):
    one = background(daemon='user = "root"')
    assert one.ask(b"a") == b"A\n"
    assert one.logged("serving as root; set [daemon] user to switch to another user")


def test_a_configuration_that_the_daemons_user_cannot_read(background, tmp_path, open_path):
    """Seen to fail: `sockd.toml: Permission denied (EACCES)` alone, where root had just read it."""
    one = background(daemon=f'user = "nobody"\ncontrol = "{tmp_path}/control.sock"')
    one.log.with_name("sockd.toml").chmod(0o600)
    refused = Sockctl(tmp_path).run("reload")
    assert refused.returncode == 77
    assert f"EACCES); it was read as uid {NOBODY.pw_uid}, which needs read access" in refused.stderr
    one.log.with_name("sockd.toml").chmod(0o644)
    assert Sockctl(tmp_path).run("reload").returncode == 0


def test_a_module_that_the_daemons_user_cannot_read(background, tmp_path, open_path):
    """Seen to fail: `importing 'app' failed at PermissionError: [Errno 13] ...`."""
    app = "def answer(line):\n    return line\n"
    one = background(daemon=f'user = "nobody"\ncontrol = "{tmp_path}/control.sock"', app=app, service="app:answer")
    module = one.log.with_name("app.py")
    module.chmod(0o600)
    refused = Sockctl(tmp_path).run("reload")
    assert refused.returncode == 78
    said = f"{module}: Permission denied; it was read as uid {NOBODY.pw_uid}, which needs read access"
    assert f"importing 'app' failed at {said}" in refused.stderr


LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n'


@pytest.mark.parametrize("foreground", [False, True])
def test_root_without_a_user_is_refused(tmp_path, sockd_script, foreground):
    (tmp_path / "sockd.toml").write_text(f'[daemon]\nlog = {{ to = "{tmp_path}/log" }}\n{LISTEN}')
    words = [sockd_script, "-c", "sockd.toml", *(["--foreground"] if foreground else [])]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78
    said = 'daemon.user: started as root without a user to switch to; write user = "nobody" into [daemon], or give'
    assert said in done.stderr


def test_root_may_try_in_the_foreground(tmp_path, sockd_script):
    """What is typed with --listen, or the built-in example: the log warns."""
    words = [sockd_script, "-f", "-l", "tcp://127.0.0.1:0=upper"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while "Ctrl-C" not in process.stdout.readline():
            assert process.poll() is None
        process.terminate()
        assert "serving as root" in process.communicate()[1]
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("daemon", None, None), 'daemon.user: "daemon": only root can switch users; this process is uid 65534'),
        (("nobody", "daemon", None), 'daemon.group: "daemon": only root can switch users'),
        (("nobody", None, "/"), 'daemon.chroot: "/": only root can change its root directory'),
    ],
)
def test_who_is_not_root_cannot_become_another(words, said):
    """In a child of ours: the installed command may stand where another user cannot execute it."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setgid(NOBODY.pw_gid)
        os.setuid(NOBODY.pw_uid)
        try:
            privileges.wanted(*words, root_may_stay=False)
        except PermissionFault as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        assert said in pipe.read()
    os.waitpid(child, 0)


# ---- the order, with another kernel


class Kernel:
    """Notes the calls; `fails` is refused."""

    def __init__(self, fails=""):
        self.calls, self.fails = [], fails

    def __getattr__(self, name):
        def call(*words):
            self.calls.append((name, *words))
            if name == self.fails:
                raise PermissionError(1, "no")

        return call


ACCOUNT = privileges.Account("someone", 1000, 1001, (1001, 1002))


def dropping(kernel, account=ACCOUNT, chroot="/var/empty"):
    return privileges.drop(privileges.PreparedDrop(privileges.Wanted(account, chroot), -1), kernel)


def test_the_order():
    kernel = Kernel()
    with pytest.raises(SystemFault, match=r"setuid\(0\) still works after the drop to someone"):
        dropping(kernel)
    assert kernel.calls == [
        ("setgroups", (1001, 1002)),
        ("setgid", 1001),
        ("chroot", "/var/empty"),
        ("chdir", "/"),
        ("setuid", 1000),
        ("clear_capabilities",),
        ("setuid", 0),
    ]


@pytest.mark.parametrize("call", ["setgroups", "setgid", "chroot", "chdir", "setuid", "clear_capabilities"])
def test_a_step_that_fails_is_the_last(call):
    kernel = Kernel(fails=call)
    with pytest.raises(PermissionFault, match="privileges not dropped, not serving"):
        dropping(kernel)
    assert kernel.calls[-1][0] == call


def test_an_account_of_nothing():
    kernel = Kernel()
    assert dropping(kernel, account=None, chroot=None) == privileges.Dropped(None, 0)
    assert kernel.calls == []


def test_the_users_own_groups_are_taken_along():
    account = privileges.look_up("root", None)
    assert account.groups == tuple(sorted(set(os.getgrouplist("root", 0))))
    assert privileges.look_up("0", None).user == "root"
    with pytest.raises(ConfigurationError):
        privileges.look_up("-1", None)
