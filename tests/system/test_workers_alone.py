# SPDX-License-Identifier: MIT
"""Workers that die, hang or are left alone: the supervisor waits for none of them.

Seen to fail with questions that wait for their answers, one pause for all crashes, and workers that learn of their
supervisor's end in their loop alone: see each test.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from contextlib import ExitStack, suppress

import psutil
import pytest
import stuck
from controlling import Sockctl
from watching import _until

APP = """
import os
import time

def pid(line):
    if line == b"die":
        os._exit(3)
    if line.startswith(b"sleep"):
        time.sleep(float(line[5:]))
    return b"%d" % os.getpid()
"""
AT_ONCE_S = 3.0
"""Who waits for a worker in a call needs 5 s; one second is what it may take, the rest is a busy machine's."""
LISTEN = '[[listen]]\naddress = "{}"\nservice = "{}"\n'


@pytest.fixture
def house(daemon, tmp_path):
    """Start a daemon with workers, a control socket and pages."""

    def start(text="", *, app=APP, options="", workers=2, **more):
        text = text or LISTEN.format("tcp://127.0.0.1:0", "app:pid") + LISTEN.format("tcp://127.0.0.1:0", "metrics")
        top = f'[daemon]\nworkers = {workers}\ncontrol = "{tmp_path}/control.sock"\n{options}\n'
        one = daemon(toml=top + text, app=app, **more)
        one.sockctl = Sockctl(tmp_path)
        return one

    return start


def page(one, path):
    address = one.addresses[1].removeprefix("tcp://")
    with urllib.request.urlopen(f"http://{address}{path}", timeout=20) as answer:
        return answer.read().decode()


def timed(call):
    began = time.monotonic()
    result = call()
    return result, time.monotonic() - began


# ---- they die


def test_lines_that_end_a_worker_cost_those_who_send_them(house):
    """fails with one pause for all: another service fails 35 of 40 times, and is silent for a minute"""
    text = LISTEN.format("tcp://127.0.0.1:0", "app:pid") + LISTEN.format("tcp://127.0.0.1:0", "upper")
    one = house(text)
    answered = slowest = 0
    for _ in range(40):
        with one.connect() as killer:
            killer.sendall(b"die\n")
            with suppress(ConnectionResetError):
                killer.recv(10)
        with one.connect(1) as other:
            began = time.monotonic()
            other.sendall(b"honest\n")
            try:
                answered += other.recv(100) == b"HONEST\n"
            except ConnectionResetError:  # it was the dying worker's already
                continue
            slowest = max(slowest, time.monotonic() - began)
    assert answered >= 38
    assert slowest < 2
    one.wait_for("worker ended", exit_code=3, count=40)
    assert not one.logged("workers exit as soon as they start")
    _until(lambda: len(one.sockctl.ask("status")["workers"]) == 2)


def test_workers_that_die_as_soon_as_they_begin_are_replaced_ever_later(house):
    app = APP + "import sockd\nservice = sockd.Service()\nservice.frame(pid)\n"
    app += "@service.startup\ndef up():\n    if os.path.exists('broken'):\n        os._exit(7)\n"
    one = house(LISTEN.format("tcp://127.0.0.1:0", "app:service"), app=app)
    (one.directory / "broken").touch()
    os.kill(one.sockctl.ask("status")["workers"][0]["pid"], signal.SIGKILL)
    one.wait_for("workers exit as soon as they start", again_seconds=2.0, within=20)
    assert len(one.logged("worker ended", exit_code=7)) in (3, 4)  # the one that was killed may count
    assert one.ask(b"x\n")  # by the other one
    (one.directory / "broken").unlink()
    _until(lambda: len(one.sockctl.ask("status")["workers"]) == 2)


# ---- they hang


def hang_both(one, line):
    """Have both workers in a call: more and more connections, for one worker may accept all that come at once."""

    def hang():
        one.connect().sendall(line)
        return len({line["worker"] for line in one.logged("event loop stalled", handler="app:pid")}) == 2

    _until(hang)


def test_a_supervisor_answers_while_all_workers_are_in_a_call(house):
    """fails with answers that are waited for: status takes 5 s and more for each worker, /live as long, TERM 20 s"""
    one = house(options='stop_timeout = "1s"')
    hang_both(one, b"sleep25\n")
    status, seconds = timed(lambda: one.sockctl.ask("status"))
    assert seconds < AT_ONCE_S
    assert [worker["answers"] for worker in status["workers"]] == [False, False]
    for path in ("/live", "/ready", "/metrics", "/status.json", "/live", "/live"):
        text, seconds = timed(lambda path=path: page(one, path))
        assert text
        assert seconds < AT_ONCE_S, (path, seconds)
    ends = stuck.Ends(one.pid, *(worker["pid"] for worker in status["workers"]))
    one.process.send_signal(signal.SIGTERM)
    ends.wait(15)
    one.kill()
    assert one.process.returncode == 0
    one.let_clients_go()


def test_a_page_is_answered_while_others_are_waited_for(house):
    """The event loop resumed: fails with a wait within the supervisor"""
    one = house()
    os.kill(one.sockctl.ask("status")["workers"][0]["pid"], signal.SIGSTOP)
    host, port = one.addresses[1].removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\nGET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        _, seconds = timed(lambda: page(one, "/live"))
        assert seconds < 0.4
        accepted = b""
        while b"live\n" not in accepted:
            piece = slow.recv(65536)
            assert piece
            accepted += piece
        assert accepted.index(b"sockd_build_info") < accepted.index(b"live\n")
    for worker in psutil.Process(one.pid).children():
        worker.resume()


def test_a_successor_whose_hook_hangs_holds_nobody_up(house):
    app = APP + "import sockd\nservice = sockd.Service()\nservice.frame(pid)\n"
    app += "@service.startup\ndef up():\n    if os.path.exists('hang'):\n        open('hanging', 'w').close()\n"
    app += "        time.sleep(3600)\n"
    text = LISTEN.format("tcp://127.0.0.1:0", "app:service") + LISTEN.format("tcp://127.0.0.1:0", "metrics")
    one = house(text, app=app, options='stop_timeout = "1s"', may_die=True)
    (one.directory / "hang").touch()
    os.kill(one.sockctl.ask("status")["workers"][0]["pid"], signal.SIGKILL)
    _until((one.directory / "hanging").exists)
    status, seconds = timed(lambda: one.sockctl.ask("status"))
    assert seconds < AT_ONCE_S
    assert sorted(worker["answers"] for worker in status["workers"]) == [False, True]
    assert timed(lambda: page(one, "/live"))[1] < AT_ONCE_S
    assert one.ask(b"x\n")
    one.process.send_signal(signal.SIGHUP)  # whose generation hangs as well
    assert timed(lambda: page(one, "/live"))[1] < AT_ONCE_S
    done = one.sockctl.run("reload")
    assert (done.returncode, "in progress" in done.stderr) == (75, True)
    assert one.sockctl.run("upgrade").returncode == 75
    assert one.ask(b"x\n")
    ends = stuck.Ends(one.pid, *(child.pid for child in psutil.Process(one.pid).children()))
    one.process.send_signal(signal.SIGTERM)
    ends.wait(15)
    one.kill()
    assert one.process.returncode == 0


# ---- they are left alone


def test_a_restart_finds_its_address_free_while_a_worker_is_in_a_call(house, daemon, tmp_path):
    """fails without PR_SET_PDEATHSIG: "address in use", as long as the call lasts"""
    toml = f'[daemon]\nworkers = 2\npidfile = "{tmp_path}/pid"\nstop_timeout = "3s"\n'
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = (f"tcp://127.0.0.1:{port}", f"udp://127.0.0.1:{port}", f"unix:{tmp_path}/s")
    toml += "".join(LISTEN.format(place, "app:pid") for place in places)
    one = daemon(toml=toml, app=APP, may_die=True)
    hang_both(one, b"sleep30\n")
    workers = [child.pid for child in psutil.Process(one.pid).children()]
    os.kill(one.pid, signal.SIGKILL)
    again = daemon(toml=toml, app=APP)
    assert all(psutil.pid_exists(pid) for pid in workers)
    for index in range(3):
        assert again.ask(b"x\n" if index != 1 else b"x", index).strip().isdigit()
    stuck.Ends(*workers).wait(3 + 2 + 3)  # by the bound of a stop
    one.let_clients_go()


def test_idle_workers_end_in_order_when_they_are_left_alone(house):
    one = house(may_die=True)
    peer = one.connect()
    peer.sendall(b"x\nunfinished")
    assert peer.recv(100)
    workers = [child.pid for child in psutil.Process(one.pid).children()]
    ends = stuck.Ends(*workers)
    os.kill(one.pid, signal.SIGKILL)
    peer.sendall(b"\n")
    assert peer.recv(100).strip().isdigit()
    assert peer.recv(100) == b""
    peer.close()
    ends.wait(10)
    one.process.wait(10)
    one.kill()
    assert not one.logged("ended by force")
    assert not one.logged("listening socket shut down by another process, no longer listening")


# ---- what they keep


def test_a_start_in_the_background_returns_once_it_serves(tmp_path, sockd_script):
    """`x=$(sockd)`: fails with workers that keep its standard output: never returns"""
    (tmp_path / "app.py").write_text("print('seen', flush=True)\n" + APP)
    toml = f'[daemon]\nworkers = 2\nuser = "root"\npidfile = "{tmp_path}/pid"\nlog = {{ to = "{tmp_path}/log" }}\n'
    (tmp_path / "sockd.toml").write_text(toml + LISTEN.format(f"unix:{tmp_path}/s", "app:pid"))
    if os.geteuid() != 0:
        pytest.skip("the configuration is root's")
    command = f'x=$({sockd_script} -c sockd.toml 2>&1); echo "$x, $?"'
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=20)
    pid = int((tmp_path / "pid").read_text())
    ends = stuck.Ends(pid)
    try:
        assert done.stdout == "seen, 0\n"
        for process in (psutil.Process(pid), *psutil.Process(pid).children()):
            for fd in (0, 1, 2):
                assert os.readlink(f"/proc/{process.pid}/fd/{fd}") == os.devnull
    finally:
        os.kill(pid, signal.SIGTERM)
        ends.wait(10)


@pytest.mark.parametrize("workers", [1, 2])
def test_programs_have_the_limit_of_the_start_also_behind_an_upgrade(house, workers):
    """fails with a raised limit that the new process takes for its own: 500, then what is allowed at most"""
    text = LISTEN.format("tcp://127.0.0.1:0", "files")
    text += '[service.files]\nexec = ["/bin/sh", "-c", "ulimit -Sn"]\nuser = "root"\n'
    one = house(text, workers=workers, prefix=["prlimit", "--nofile=500:"], may_die=True)
    assert one.ask(b"") == b"500\n"
    pids = []
    for _ in range(2):
        pids.append(one.sockctl.ask("upgrade")["pid"])
        assert one.ask(b"") == b"500\n"
    one.let_clients_go()
    ends = stuck.Ends(pids[-1])
    one.sockctl.run("stop")
    ends.wait(10)
    one.process.wait(10)


def sockets_of(pid) -> int:
    return sum(one.startswith("socket:") for one in map(os.readlink, links_of(pid)))


def links_of(pid) -> list[str]:
    directory = f"/proc/{pid}/fd"
    return [f"{directory}/{name}" for name in os.listdir(directory)]


def generation(one) -> list[int]:
    return [worker["pid"] for worker in one.sockctl.ask("status")["workers"] if worker["accepts"]]


def test_workers_hold_nobody_whom_their_supervisor_serves(house, certificates):
    """In a handshake, behind it, before a PROXY header: fails without leave(): 20 sockets more in each worker"""
    own = certificates.server
    tls = f'tls = {{ certificate = "{own.path}", key = "{own.key}" }}\n'
    proxied = 'proxy_protocol = { from = ["127.0.0.1"], timeout = "3s" }\n'
    texts = [LISTEN.format("tcp://127.0.0.1:0", "app:pid")]
    texts += [LISTEN.format("tcp://127.0.0.1:0", "metrics") + more for more in ("", tls, proxied)]
    one = house("".join(texts))
    assert one.sockctl.run("reload").returncode == 0
    before = max(map(sockets_of, generation(one)))
    context = ssl.create_default_context(cafile=certificates.ca)
    with ExitStack() as peers:
        for _ in range(5):
            one.connect(1).sendall(b"GET ")
            one.connect(2).sendall(b"\x16\x03")
            secured = context.wrap_socket(one.connect(2), server_hostname="localhost")
            peers.enter_context(secured).sendall(b"GET ")
        waiting = [one.connect(3) for _ in range(5)]
        for peer in waiting:
            peer.sendall(b"PROXY ")
        _until(lambda: one.descriptors() >= 5 * 5)
        workers = generation(one)
        assert one.sockctl.run("reload").returncode == 0
        assert not set(workers) & set(generation(one))
        assert max(map(sockets_of, generation(one))) == before
        assert [peer.recv(100) for peer in waiting] == [b""] * 5  # ended by close(2) alone, once their time is over


DEFECT = (
    APP
    + """
def defect(line, connection):
    connection._loop.call_soon(lambda: 1 / 0)
    return b"%d" % os.getpid()
"""
)


def test_the_defects_of_a_worker_count_when_it_has_ended(house):
    """fails with a sum of those that are there: 1, then 0 behind a reload"""
    text = LISTEN.format("tcp://127.0.0.1:0", "app:defect") + LISTEN.format("tcp://127.0.0.1:0", "metrics")
    one = house(text, app=DEFECT)
    pid = int(one.ask(b"x\n"))
    one.wait_for("defect")
    assert "sockd_defects_total 1\n" in page(one, "/metrics")
    one.let_clients_go()
    assert one.sockctl.run("reload").returncode == 0
    one.wait_for("worker ended", pid=pid)
    assert "sockd_defects_total 1\n" in page(one, "/metrics")


@pytest.mark.parametrize("workers", [1, 2])
def test_defects_count_on_behind_an_upgrade(house, workers):
    """fails without Numbers.defects: 0"""
    one = house(LISTEN.format("tcp://127.0.0.1:0", "app:defect"), app=DEFECT, workers=workers, may_die=True)
    assert one.ask(b"x\n")
    one.wait_for("defect")
    assert one.sockctl.ask("status")["defects"] == 1  # workers are asked for it
    one.let_clients_go()
    pid = one.sockctl.ask("upgrade")["pid"]
    assert one.sockctl.ask("status")["defects"] == 1
    assert one.ask(b"x\n")
    one.wait_for("defect", count=2)
    assert one.sockctl.ask("status")["defects"] == 2
    one.let_clients_go()
    ends = stuck.Ends(pid)
    one.sockctl.run("stop")
    ends.wait(10)
    one.process.wait(10)
