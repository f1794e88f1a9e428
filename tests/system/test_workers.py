# SPDX-License-Identifier: MIT
"""`workers = N`: several processes that serve, one that keeps them.

Seen to fail: with workers not replaced, the second half of the clients gets no answer; with the sockets of a removed
listener left open in new workers, its clients are never refused; with counts of a worker that has ended forgotten, the
totals go down; with the channel's other ends kept in workers, they outlive a supervisor that was killed; with answers
that come too late taken for those to the next question, `sockctl connections` ends the supervisor; with the pid
file open in workers, its lock outlives the supervisor.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import random
import signal
import socket
import ssl
import sys
import threading
import urllib.request

import psutil
import pytest
from controlling import Sockctl
from watching import SOAK, _until

APP = """
import os
import sockd

def pid(line: bytes) -> bytes:
    if line == b"die":
        os._exit(3)
    return b"WORD %d " % os.getpid() + line

async def session(reader, writer):
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()
"""
BROKEN = """
import sockd

service = sockd.Service()
service.frame(bytes.upper)

@service.startup
def up():
    raise OSError("no database")
"""
PASSES = """
import os, socket, sys
one = socket.create_server(("127.0.0.1", 0))
with open("port", "w") as file:
    file.write(str(one.getsockname()[1]))
os.dup2(one.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execvp(sys.argv[1], sys.argv[1:])
"""
LISTEN = '[[listen]]\naddress = "{}"\nservice = "{}"\n'
ROUNDS = 400 if SOAK else 12


@pytest.fixture
def house(daemon, tmp_path):
    """Start a daemon with workers: `house(text)`; `write` changes its configuration and its handler's first word."""

    def start(text="", *, options="", workers=3, word="one", **more):
        text = text or LISTEN.format("tcp://127.0.0.1:0", "app:pid")
        top = f'[daemon]\nworkers = {workers}\ncontrol = "{tmp_path}/control.sock"\n{options}\n'
        one = daemon(toml=top + text, app=APP.replace("WORD", word), **more)
        one.sockctl = Sockctl(tmp_path)

        def write(text, word="two"):
            (one.directory / "app.py").write_text(APP.replace("WORD", word))
            (one.directory / "sockd.toml").write_text(top + text)

        one.write = write
        one.workers = lambda: one.sockctl.ask("status")["workers"]
        return one

    return start


class Client:
    def __init__(self, one, index=0):
        self.sock = one.connect(index)

    def ask(self, line=b"x"):
        self.sock.sendall(line + b"\n")
        return self.line()

    def line(self):
        accepted = b""
        while not accepted.endswith(b"\n"):
            piece = self.sock.recv(4096)
            if not piece:
                raise EOFError
            accepted += piece
        return accepted[:-1]

    def pid(self):
        return int(self.ask().split()[1])


def test_connections_go_to_several_processes(house):
    one = house()
    pids = {Client(one).pid() for _ in range(60)}
    assert len(pids) > 1
    assert pids <= {worker["pid"] for worker in one.workers()}
    assert one.pid not in pids
    assert {psutil.Process(pid).ppid() for pid in pids} == {one.pid}


def test_every_kind_of_socket_and_service(house, tmp_path):
    kinds = [
        ("tcp://127.0.0.1:0", "app:pid"),
        ("udp://127.0.0.1:0", "app:pid"),
        (f"unix:{tmp_path}/u", "app:pid"),
        ("tcp://127.0.0.1:0", "app:session"),
        ("tcp://127.0.0.1:0", "upper"),
        ("tcp://127.0.0.1:0", "uname"),
    ]
    text = "".join(LISTEN.format(*kind) for kind in kinds) + '[service.uname]\nexec = ["/bin/uname"]\nuser = "root"\n'
    one = house(text)
    assert one.ask(b"x\n", 0).startswith(b"one ")
    assert one.ask(b"x", 1).startswith(b"one ")
    assert one.ask(b"x\n", 2).startswith(b"one ")
    assert one.ask(b"x\n", 3) == b"X\n"
    assert one.ask(b"x\n", 4) == b"X\n"
    assert one.ask(b"", 5) == b"Linux\n"
    assert one.stop() == 0
    assert not (tmp_path / "u").exists()


def test_one_that_dies_takes_its_own_connections_alone_and_is_replaced(house):
    one = house()
    clients = [Client(one) for _ in range(30)]
    pids = [client.pid() for client in clients]
    victim = pids[0]
    os.kill(victim, signal.SIGKILL)
    assert one.wait_for("worker ended", pid=victim)["signal"] == "KILL"
    for client, pid in zip(clients, pids, strict=True):
        if pid == victim:
            with pytest.raises((EOFError, ConnectionResetError)):
                client.ask()
        else:
            assert client.pid() == pid
    _until(lambda: len(one.workers()) == 3)
    assert victim not in {worker["pid"] for worker in one.workers()}
    assert victim not in {Client(one).pid() for _ in range(30)}


def test_what_dies_young_again_is_replaced_later(house):
    one = house(workers=2)
    for _ in range(3):
        Client(one).sock.sendall(b"die\n")
    first, second = (one.wait_for("worker ended", exit_code=3, count=count) for count in (1, 2))
    assert first["worker"] != second["worker"]
    assert Client(one).ask().startswith(b"one ")  # at the latest by one that came after the pause
    _until(lambda: len(one.workers()) == 2)


def test_a_reload_serves_anew_and_old_connections_go_on(house, tmp_path):
    port = _free_port()
    kept, gone, new = (
        LISTEN.format(where, "app:pid")
        for where in (f"unix:{tmp_path}/kept", f"tcp://127.0.0.1:{port}", f"unix:{tmp_path}/new")
    )
    one = house(kept + gone)
    old, draining = Client(one, 0), Client(one, 1)
    assert (old.ask()[:4], draining.ask()[:4]) == (b"one ", b"one ")
    one.write(kept + new)
    changes = one.sockctl.ask("reload")["changes"]
    assert [changes[kind][0][0] for kind in ("kept", "added", "removed")] == [
        f"unix:{tmp_path}/kept",
        f"unix:{tmp_path}/new",
        f"tcp://127.0.0.1:{port}",
    ]
    assert draining.sock.recv(100) == b""  # drained
    draining.sock.close()
    assert old.ask()[:4] == b"one "
    assert Client(one, 0).ask()[:4] == b"two "
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{tmp_path}/new")
    _until(lambda: _is_refused(port))
    assert [worker["accepts"] for worker in one.workers()].count(True) == 3
    old.sock.close()
    _until(lambda: len(one.workers()) == 3)  # who served it has ended


def test_what_is_wrong_changes_nothing(house):
    one = house()
    pids = {worker["pid"] for worker in one.workers()}
    for text, word, why in (
        ("[[listen]]\naddres = 1\n", "two", "addres"),
        (LISTEN.format("tcp://127.0.0.1:0", "app:nothing"), "two", "nothing"),
    ):
        one.write(text, word)
        done = one.sockctl.run("reload")
        assert done.returncode == 78
        assert why in done.stderr
        assert {worker["pid"] for worker in one.workers()} == pids
    assert Client(one).ask()[:4] == b"one "
    assert one.sockctl.ask("status")["reloads"] == {"succeeded": 0, "failed": 2}


def test_a_generation_of_which_one_fails_leaves_nobody_behind(house):
    one = house()
    pids = {worker["pid"] for worker in one.workers()}
    one.write(LISTEN.format("tcp://127.0.0.1:0", "app:service"))
    only_the_first = """try:
        os.open("first", os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return
    raise"""
    text = BROKEN.replace("raise", only_the_first).replace("import sockd", "import os\nimport sockd")
    (one.directory / "app.py").write_text(text)
    done = one.sockctl.run("reload")
    assert (done.returncode, "no database" in done.stderr) == (78, True)
    assert {process.pid for process in psutil.Process(one.pid).children()} == pids
    assert {worker["pid"] for worker in one.workers()} == pids


def test_an_answer_that_comes_late_is_nobody_elses(house):
    one = house(workers=2)
    clients = [Client(one) for _ in range(4)]
    pids = {client.pid() for client in clients}
    os.kill(min(pids), signal.SIGSTOP)
    one.sockctl.ask("status")
    os.kill(min(pids), signal.SIGCONT)
    assert len({row["id"] for row in one.sockctl.ask("connections")}) == 4
    assert one.sockctl.ask("status")["connections"] == 4


def test_the_pid_files_lock_ends_with_the_supervisor(house, tmp_path):
    one = house(options=f'pidfile = "{tmp_path}/pid"', workers=2, may_die=True)
    pids = [worker["pid"] for worker in one.workers()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    os.kill(one.pid, signal.SIGKILL)
    one.process.wait(20)
    try:
        with open(tmp_path / "pid", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    _until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_a_passed_socket_of_no_listener_is_open_nowhere(house):
    one = house(prefix=[sys.executable, "-c", PASSES])
    assert Client(one).ask().startswith(b"one ")
    assert _is_refused(int((one.directory / "port").read_text()))


def test_what_the_supervisor_serves_is_open_in_no_worker(house, certificates, tmp_path):
    """Pages are its own: what waits for its PROXY header, is in a handshake or behind TLS, or is asked for a page."""
    own = certificates.server
    tls = f'tls = {{ certificate = "{own.path}", key = "{own.key}" }}'
    proxy = 'proxy_protocol = { from = ["127.0.0.0/8"], timeout = "60s" }'
    text = LISTEN.format("tcp://127.0.0.1:0", "app:pid")
    text += "".join(LISTEN.format("tcp://127.0.0.1:0", "page") + way + "\n" for way in ("", tls, proxy))
    one = house(text + "[service.page]\nmetrics = true\n", workers=2, listeners=4)
    one.write(text + "[service.page]\nmetrics = true\n")

    def held():
        assert one.sockctl.ask("reload")["ok"]
        _until(lambda: len(workers := one.workers()) == 2 and all(worker["accepts"] for worker in workers))
        return [len(os.listdir(f"/proc/{worker['pid']}/fd")) for worker in one.workers()]

    before = held()
    clients = [one.connect(place) for place in (1, 2, 3) for _ in range(20)]
    for client in clients:
        client.sendall(b"\x16\x03" if client in clients[20:40] else b"PROXY " if client in clients[40:] else b"GET")
    context = ssl.create_default_context(cafile=certificates.ca)
    secured = [context.wrap_socket(one.connect(2), server_hostname="localhost") for _ in range(20)]
    assert held() == before
    for client in secured:
        client.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        client.close()


def test_nobody_is_refused_while_it_reloads(house, tmp_path):
    text = LISTEN.format("tcp://127.0.0.1:0", "app:pid")
    comes_and_goes = LISTEN.format(f"unix:{tmp_path}/more", "app:pid")
    one = house(text, workers=4)
    words, stop, failures, asked = set(), threading.Event(), [], []

    def visit():
        while not stop.is_set():
            try:
                with socket.create_connection(one.sockaddr(0)[2], timeout=20) as sock:
                    sock.sendall(b"x\n")
                    words.add(sock.recv(100)[:4])
                    asked.append(1)
            except OSError as error:
                failures.append(error)

    threads = [threading.Thread(target=visit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(ROUNDS):
        one.write(text + comes_and_goes * (number % 2), f"n{number:02}"[-3:])
        assert one.sockctl.run("reload").returncode == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(words) > 2
    assert b"" not in words
    assert len(asked) > ROUNDS


def test_a_stop_is_in_order(house):
    one = house(workers=2)
    clients = [Client(one) for _ in range(10)]
    pids = {client.pid() for client in clients}
    for client in clients:
        client.sock.sendall(b"last\n")
    one.process.send_signal(signal.SIGTERM)
    for client in clients:
        assert client.line().endswith(b" last")
        assert client.sock.recv(10) == b""
        client.sock.close()
    assert one.process.wait(30) == 0  # and no second TERM
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_workers_do_not_outlive_their_supervisor(house):
    one = house(workers=2, may_die=True)
    pids = [worker["pid"] for worker in one.workers()]
    os.kill(one.pid, signal.SIGKILL)
    _until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_numbers_are_of_the_whole_and_never_go_down(house):
    text = LISTEN.format("tcp://127.0.0.1:0", "app:pid") + LISTEN.format("tcp://127.0.0.1:0", "metrics")
    one = house(text, workers=2)
    clients = [Client(one) for _ in range(20)]
    for client in clients:
        client.ask()
    rows = one.sockctl.ask("connections")
    assert len({row["worker"] for row in rows}) == 2
    assert len({row["id"] for row in rows}) == len(rows) == 20
    status = one.sockctl.ask("status")
    assert (status["connections"], status["services"]["app:pid"]["frames"]) == (20, 20)
    assert (status["listeners"][0]["accepted"], status["listeners"][0]["open"]) == (20, 20)
    assert _metric(one, 'sockd_frames_total{service="app:pid"}') == 20
    assert _metric(one, 'sockd_open_connections{service="app:pid"}') == 20
    assert _metric(one, 'sockd_descriptors{service="app:pid"}') == 20 + 3  # the socket is open in three processes
    assert _metric(one, 'sockd_handler_seconds_count{service="app:pid"}') >= 1
    assert _metric(one, "process_resident_memory_bytes") > 3 * 10_000_000
    assert one.sockctl.say("close", rows[0]["id"]).startswith("closing tcp://127.0.0.1:")
    closed = next(client for client in clients if rows[0]["peer"].endswith(f":{client.sock.getsockname()[1]}"))
    assert closed.sock.recv(10) == b""
    closed.sock.close()
    assert one.wait_for("closed", peer=rows[0]["peer"])["reason"] == "shutdown"
    os.kill(one.workers()[0]["pid"], signal.SIGKILL)
    one.wait_for("worker ended")
    assert _metric(one, 'sockd_frames_total{service="app:pid"}') == 20
    one.write(text)
    one.sockctl.run("reload")
    assert Client(one).ask()[:4] == b"two "
    assert _metric(one, 'sockd_frames_total{service="app:pid"}') == 21


def _page(one, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{one.port(1)}{path}", timeout=20) as page:
        return page.read().decode()


def test_metrics_and_the_page_name_a_worker_that_is_silent(house):
    """Seen failing with the pages as they were: the figures of its last reply, and no word of that."""
    text = LISTEN.format("tcp://127.0.0.1:0", "app:pid") + LISTEN.format("tcp://127.0.0.1:0", "metrics")
    one = house(text, workers=2)
    first, second = one.workers()
    names = [f'sockd_worker_answers{{worker="{row["worker"]}",pid="{row["pid"]}"}}' for row in (first, second)]
    assert [f"{name} 1" in _page(one, "/metrics").splitlines() for name in names] == [True, True]
    os.kill(second["pid"], signal.SIGSTOP)
    try:
        assert [_metric(one, name) for name in names] == [1, 0]
        rows = json.loads(_page(one, "/status.json"))["workers"]
        assert [(row["pid"], row["answers"]) for row in rows] == [(first["pid"], True), (second["pid"], False)]
    finally:
        os.kill(second["pid"], signal.SIGCONT)
    _until(lambda: _metric(one, names[1]) == 1)


def test_a_peak_is_a_bound_and_does_not_go_down(house):
    """Seen failing with the sum of those workers' peaks alone that are there now: 4, behind the end of one."""
    text = LISTEN.format("tcp://127.0.0.1:0", "app:pid") + LISTEN.format("tcp://127.0.0.1:0", "metrics")
    one = house(text, workers=2)
    clients = [Client(one) for _ in range(6)]
    for client in clients:
        client.ask()
    assert _metric(one, 'sockd_peak_connections{service="app:pid"}') == 6
    for client in clients:
        client.sock.close()
    os.kill(one.workers()[0]["pid"], signal.SIGKILL)
    one.wait_for("worker ended")
    _until(lambda: len(one.workers()) == 2)
    (row, _) = one.sockctl.ask("status")["listeners"]
    assert row["peak"] == 6
    assert _metric(one, 'sockd_peak_connections{service="app:pid"}') == 6
    lines = one.sockctl.say("status").splitlines()
    heads = [line.split() for line in lines if line.startswith(("LISTENER", "SERVICE"))]
    assert ["PEAK<=" in head for head in heads] == [True, True]


@pytest.mark.parametrize("workers", [1, 2])
def test_connections_and_status_have_the_programs_too(house, workers):
    """Seen failing: connections had none, and the status of a supervisor none of its workers'."""
    text = LISTEN.format("tcp://127.0.0.1:0", "cat") + LISTEN.format("tcp://127.0.0.1:0", "app:pid")
    user = pwd.getpwuid(os.geteuid()).pw_name
    one = house(text + f'[service.cat]\nexec = ["/bin/cat"]\nuser = "{user}"\n', workers=workers)
    programs, own = [Client(one) for _ in range(3)], Client(one, 1)
    own.ask()
    assert [client.ask() for client in programs] == [b"x"] * 3
    peers = {"tcp://{}:{}".format(*client.sock.getsockname()) for client in programs}
    rows = one.sockctl.ask("connections")
    assert [row["service"] for row in rows] == ["app:pid", "cat", "cat", "cat"]
    assert {row["peer"] for row in rows if "id" not in row} == peers
    assert {psutil.Process(row["pid"]).name() for row in rows if "id" not in row} == {"cat"}
    running = one.sockctl.ask("status")["running"]
    assert {row["pid"] for row in running} == {row["pid"] for row in rows if "id" not in row}
    connections, _, table = one.sockctl.say("connections").partition("\n\n")
    assert len(connections.splitlines()) == 2
    assert [line.split()[1:3] for line in table.splitlines()[1:]] == [["cat", row["peer"]] for row in rows[1:]]
    assert one.sockctl.say("connections").count("\nPROGRAM ") == 1


def test_the_log_says_who_writes_and_its_level_is_of_all(house):
    one = house(workers=2)
    Client(one).ask()
    one.let_clients_go()
    assert one.closed("eof")["worker"] in (1, 2)
    one.sockctl.say("log-level", "warning")
    before = len(one.lines)
    for _ in range(20):
        assert one.ask(b"x\n").startswith(b"one")
    one.sockctl.say("log-level", "info")
    one.ask(b"x\n")
    one.wait_for("closed", since=before)
    assert len(one.logged("closed", since=before)) <= 2


def test_a_startup_that_fails_ends_it_with_the_reason(daemon):
    toml = "[daemon]\nworkers = 2\n" + LISTEN.format("tcp://127.0.0.1:0", "app:service")
    one = daemon(toml=toml, app=BROKEN, listeners=0, may_die=True)
    assert one.process.wait(20) == 78
    one.kill()
    (line,) = one.logged("not serving")
    assert "listen[0].service: startup hook failed at" in line["error"]


@pytest.mark.skipif(os.geteuid() != 0, reason="root becomes somebody")
def test_rights_are_dropped_before_workers_are_there(daemon):
    toml = "[daemon]\nworkers = 2\n" + LISTEN.format("tcp://127.0.0.1:0", "app:pid")
    one = daemon(toml=toml, app=APP.replace("WORD", "one"), arguments=["--user", "nobody"])
    nobody = pwd.getpwnam("nobody").pw_uid
    for process in (psutil.Process(one.pid), *psutil.Process(one.pid).children()):
        assert set(process.uids()) == {nobody}
    assert Client(one).ask()[:4] == b"one "


def test_killed_at_random_under_load_only_their_own_are_lost(house, soak):
    one = house(workers=3)
    chance = random.Random(7)
    lost = answered = 0
    for _ in range(40 if soak else 4):
        _until(lambda: [worker["answers"] for worker in one.sockctl.ask("status")["workers"]] == [True] * 3)
        clients = [Client(one) for _ in range(20)]
        pids = [client.pid() for client in clients]
        victim = chance.choice(pids)
        for client in clients:
            client.sock.sendall(b"again\n")
        os.kill(victim, signal.SIGKILL)
        for client, pid in zip(clients, pids, strict=True):
            try:
                assert client.line() == b"one %d again" % pid
                answered += 1
            except (EOFError, ConnectionResetError):
                assert pid == victim
                lost += 1
            client.sock.close()
        one.wait_for("worker ended", pid=victim)
    assert answered > 0
    assert lost > 0


def _metric(one, name):
    address = one.addresses[1].removeprefix("tcp://")
    text = urllib.request.urlopen(f"http://{address}/metrics", timeout=20).read().decode()
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.rpartition(" ")[0] == name)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _is_refused(port):
    with socket.socket() as sock:
        sock.settimeout(0.2)
        try:
            sock.connect(("127.0.0.1", port))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
