# SPDX-License-Identifier: MIT
"""Both sides of an upgrade in-process, the other one dying, failing or talking nonsense before and after each message.

Until COMMITTED the old process is as it was, and can be upgraded again; behind it the new one serves, whatever becomes
of the old one.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import ExitStack, suppress

import msgspec
import pytest
from in_process import InProcess, descriptors

from sockd.daemon.shutdown import ServingState
from sockd.daemon.upgrade import UPGRADE_VARIABLE, transfer
from sockd.daemon.upgrade import messages as messages_module
from sockd.daemon.upgrade import sender as sending
from sockd.daemon.upgrade.channel import HEAD, Channel, Message
from sockd.daemon.upgrade.messages import (
    AcceptedListener,
    Adopted,
    Commit,
    Connections,
    ConnectionState,
    Counters,
    Hello,
    Ready,
    UpgradeFailed,
)
from sockd.daemon.upgrade.receiver import ReceiverState, UpgradeReceiver
from sockd.daemon.upgrade.sender import PATIENCE_SECONDS, SenderState
from sockd.errors import EX_OSERR, SockdError, SystemFault, TemporaryFault
from sockd.process.socket_activation import Owner

TEXT = """
[daemon]
pidfile = "DIRECTORY/pid"
control = "DIRECTORY/control"
upgrade_timeout = "30s"
[[listen]]
address = "unix:DIRECTORY/lines"
service = "upper"
[[listen]]
address = "udp://127.0.0.1:0"
service = "echo"
"""
PID = 4_000_000
"""Of nobody."""


class FakeChild:
    """A new process that is this test's."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.pid = 0
        self.how = ""
        self.is_killed = False

    def release(self, pid: int) -> None:
        self.pid = pid

    def kill(self) -> None:
        self.is_killed = True

    def ended(self) -> str:
        return self.how


class FakeCommand:
    """Starts what the test says: its script runs in a thread, with the new process's end of the channel."""

    words = ("sockd",)

    def __init__(self, script, error: SockdError | None = None) -> None:
        self._script = script
        self._error = error
        self.children: list[FakeChild] = []
        self.threads: list[threading.Thread] = []

    def start(self) -> FakeChild:
        if self._error is not None:
            raise self._error
        ours, theirs = socket.socketpair()
        child = FakeChild(Channel(ours))
        thread = threading.Thread(target=self._play, args=(theirs,))
        self.children.append(child)
        self.threads.append(thread)
        thread.start()
        return child

    def _play(self, sock: socket.socket) -> None:
        channel = Channel(sock)
        with suppress(EOFError, OSError, SockdError):  # it is given up
            self._script(channel, sock)
        channel.close()

    def join(self) -> None:
        """Wait until all has been said, and let go of what the process's end would."""
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()
        for child in self.children:
            child.channel.close()


def nonsense(sock: socket.socket) -> None:
    data = msgspec.msgpack.encode({"type": "Nonsense"})
    sock.sendall(HEAD.pack(len(data), 0) + data)


def hear(channel: Channel, *kinds, kept: list[int] | None = None):
    """Receive, and close or keep the descriptors that come along."""
    said, fds = channel.receive(*kinds)
    if kept is not None:
        kept += fds
        return said
    for fd in fds:
        os.close(fd)
    return said


def ready(channel: Channel) -> None:
    hello = hear(channel, Hello)
    way = "core Line(max_bytes=65536, ending=b'\\n')"
    taken = [AcceptedListener(number=number, service=("upper", "echo")[number], way=way) for number in (0, 1)]
    channel.send(Ready(pid=PID, adopted=taken, has_control=True, has_pidfile=True))
    assert hello.pid == os.getpid()


def adopted(channel: Channel, kept: list[int] | None = None) -> None:
    ready(channel)
    rows = hear(channel, Connections, kept=kept).rows
    channel.send(Adopted(kept=[True] * len(rows)))


# ---- the old side


def at_once(_channel, _sock):
    """Dies before it hears a word."""


def behind_hello(channel, _sock):
    """Dies behind Hello."""
    hear(channel, Hello)


def fails(channel, _sock):
    """Cannot serve."""
    hear(channel, Hello)
    channel.send(UpgradeFailed(error="it cannot", exit_code=78))


def nonsense_for_ready(channel, sock):
    """Says something else than Ready."""
    hear(channel, Hello)
    nonsense(sock)


def behind_ready(channel, _sock):
    """Dies behind Ready, before it hears of a connection."""
    ready(channel)


def behind_connections(channel, _sock):
    """Dies with connections that it has not adopted."""
    ready(channel)
    hear(channel, Connections)


def fails_at_connections(channel, _sock):
    """Cannot take them."""
    ready(channel)
    hear(channel, Connections)
    channel.send(UpgradeFailed(error="it cannot", exit_code=71))


def nonsense_for_adopted(channel, sock):
    """Says something else than Adopted."""
    ready(channel)
    hear(channel, Connections)
    nonsense(sock)


def too_few_adopted(channel, _sock):
    """Counts wrong, which is a defect of one of both."""
    ready(channel)
    hear(channel, Connections)
    channel.send(Adopted(kept=[]))


def hears_no_commit(channel, sock):
    """Dies with all adopted, before it hears that it is to serve: the old one cannot say so."""
    ready(channel)
    rows = hear(channel, Connections).rows
    sock.shutdown(socket.SHUT_RD)
    channel.send(Adopted(kept=[True] * len(rows)))


def fails_behind_some(channel, _sock):
    """Has adopted the first batch, and cannot take the second one."""
    ready(channel)
    rows = hear(channel, Connections).rows
    channel.send(Adopted(kept=[True] * len(rows)))
    hear(channel, Connections)
    channel.send(UpgradeFailed(error="it cannot", exit_code=71))


def dies_behind_some(channel, _sock):
    """Dies with the second batch."""
    ready(channel)
    rows = hear(channel, Connections).rows
    channel.send(Adopted(kept=[True] * len(rows)))
    hear(channel, Connections)


BEFORE_COMMIT = [
    (at_once, "the new process was not ready: it exited with code 1; its standard error tells more"),
    (behind_hello, "the new process was not ready: it exited with code 1; its standard error tells more"),
    (fails, "it cannot"),
    (nonsense_for_ready, "unexpected message from the other process"),
    (behind_ready, ""),  # the next message is not sent, or has no answer: which, is a matter of time
    (behind_connections, "the new process was not ready: it exited with code 1; its standard error tells more"),
    (fails_at_connections, "it cannot"),
    (nonsense_for_adopted, "unexpected message from the other process"),
    (too_few_adopted, "ValueError"),
    (hears_no_commit, "Broken pipe"),
    (fails_behind_some, "it cannot"),
    (dies_behind_some, "the new process was not ready: it exited with code 1; its standard error tells more"),
]


def old_daemon(one: InProcess, directory, command):
    """Return a daemon with a client, who has sent half a line."""
    one.next = TEXT.replace("DIRECTORY", str(directory))
    daemon = one.daemon(one.next, command=command)
    client = one.stack.enter_context(socket.socket(socket.AF_UNIX))
    client.settimeout(5)
    client.connect(f"{directory}/lines")
    client.sendall(b"half a ")
    one.turn(daemon, lambda: daemon.serving.tools.connections.memory > 0)
    return daemon, client


def answers(one: InProcess, daemon, client: socket.socket, rest: bytes = b"line\n") -> bytes:
    client.sendall(rest)
    was = daemon.serving.totals()["upper"].frames
    one.turn(daemon, lambda: daemon.serving.totals()["upper"].frames > was)
    return client.recv(99)


@pytest.mark.parametrize(("script", "why"), [pytest.param(*one, id=one[0].__name__) for one in BEFORE_COMMIT])
def test_the_old_process_is_as_before(in_process, tmp_path, monkeypatch, script, why):
    command = FakeCommand(script)
    daemon, client = old_daemon(in_process, tmp_path, command)
    if script in (fails_behind_some, dies_behind_some):
        monkeypatch.setattr(sending, "ROWS", 1)
        second = in_process.stack.enter_context(socket.socket(socket.AF_UNIX))
        second.connect(f"{tmp_path}/lines")
        in_process.turn(daemon, lambda: len(daemon.serving.tools.connections) == 2)
    was, listeners = descriptors(), list(daemon.serving.listeners)
    sender, results = daemon._succession._sender, []
    sender.begin(results.append, 30.0)
    assert sender.state is SenderState.STARTING
    with pytest.raises(TemporaryFault, match="in progress"):
        daemon._succession.check()
    in_process.turn(daemon, lambda: bool(results) or sender.state is SenderState.ENDING)
    command.children[0].how = "it exited with code 1"
    daemon._succession.reap()  # as SIGCHLD has it done
    command.join()
    assert [why in one.error for one in results] == [True]
    assert results[0].error
    assert sender.state is SenderState.IDLE
    assert daemon.serving.listeners == listeners
    daemon._succession.check()
    assert descriptors() == was
    assert answers(in_process, daemon, client) == b"HALF A LINE\n"
    assert daemon.state() == "serving"
    sender.begin(results.append, 30.0)  # and again, as if nothing had been
    assert sender.state is SenderState.STARTING
    sender.give_up("the test is over")
    assert sender.state is SenderState.REFUSED
    command.join()


def test_a_program_that_cannot_be_started_changes_nothing(in_process, tmp_path):
    daemon, client = old_daemon(in_process, tmp_path, FakeCommand(None, SystemFault("no such program")))
    results = []
    daemon._succession._sender.begin(results.append, 30.0)
    assert [one.error for one in results] == ["no such program"]
    assert daemon._succession._sender.state is SenderState.IDLE
    assert answers(in_process, daemon, client) == b"HALF A LINE\n"


def test_one_that_says_nothing_is_killed_in_time(in_process, tmp_path):
    """Its end is awaited, and told by nobody: a second KILL comes after PATIENCE_SECONDS, which is harmless."""
    done = threading.Event()
    command = FakeCommand(lambda channel, _: hear(channel, Hello) and done.wait(10))
    daemon, client = old_daemon(in_process, tmp_path, command)
    sender, results = daemon._succession._sender, []
    sender.begin(results.append, 30.0)
    in_process.pass_time(daemon, 29.9)
    assert results == []
    in_process.pass_time(daemon, 0.2)
    assert [one.error for one in results] == ["the new process was not ready within 30 s"]
    (child,) = command.children
    assert child.is_killed
    child.is_killed = False
    in_process.pass_time(daemon, PATIENCE_SECONDS + 0.1)
    assert child.is_killed
    child.how = "it was killed by signal 9"
    daemon._succession.reap()
    assert sender._failed == {}
    done.set()
    command.join()
    assert answers(in_process, daemon, client) == b"HALF A LINE\n"


def test_one_whose_end_nobody_tells_is_not_waited_for(in_process, tmp_path):
    command = FakeCommand(behind_hello)
    daemon, _ = old_daemon(in_process, tmp_path, command)
    sender, results = daemon._succession._sender, []
    sender.begin(results.append, 30.0)
    in_process.turn(daemon, lambda: sender.state is SenderState.ENDING)
    in_process.pass_time(daemon, PATIENCE_SECONDS + 0.1)
    assert ["it said nothing" in one.error for one in results] == [True]
    assert sender.state is SenderState.IDLE
    command.join()


def commits(channel, _sock, kept=None):
    """Hears that it is to serve, and dies before it hears the counts."""
    adopted(channel, kept)
    hear(channel, Commit)


def serves(channel, _sock, kept=None):
    """Does all, and dies later."""
    adopted(channel, kept)
    hear(channel, Commit)
    assert hear(channel, Counters).moved == 1


OLD_SIDE = {
    Hello: (at_once, behind_hello),
    Ready: (behind_hello, behind_ready),
    UpgradeFailed: (behind_hello, fails),
    Connections: (behind_ready, behind_connections),
    Adopted: (behind_connections, hears_no_commit),
    Commit: (hears_no_commit, commits),
    Counters: (commits, serves),
}
"""For each message who dies before it, and behind it."""


@pytest.mark.parametrize("script", [commits, serves])
def test_behind_the_commit_the_old_process_has_nothing(in_process, tmp_path, script):
    """The end of the new one is then its own.

    Seen to fail where the one that is played closed the connection, too: this process has it until its next turn, which
    nearly always came later than the look at it.
    """
    held, kept = threading.Event(), []

    def play(channel, sock):
        script(channel, sock, kept)
        held.wait(10)

    command = FakeCommand(play)
    daemon, client = old_daemon(in_process, tmp_path, command)
    sender, results = daemon._succession._sender, []
    sender.begin(results.append, 30.0)
    in_process.turn(daemon, lambda: bool(results))
    assert [(one.error, one.pid, one.moved, one.stay) for one in results] == [("", PID, 1, 0)]
    assert sender.state is SenderState.COMMITTED
    assert daemon.serving.listeners == []
    assert len(daemon.serving.tools.connections) == 0
    with pytest.raises(TemporaryFault, match=f"process {PID} serves in place of this one"):
        daemon._succession.check()
    assert (tmp_path / "lines").exists()
    assert daemon.state() == "serving"
    held.set()
    in_process.turn(daemon, lambda: daemon.shutdown.state is not ServingState.SERVING)
    command.join()
    for _ in range(3):
        daemon.serving.tools.loop.run_once(0)
    client.settimeout(0.05)
    with pytest.raises(TimeoutError):  # nobody has closed it: the new process has it still
        client.recv(1)
    for fd in kept:
        os.close(fd)
    assert client.recv(1) == b""  # and nobody else


# ---- the new side


class OldProcess:
    """What an old daemon has, told by the test's script in its place."""

    def __init__(self, one: InProcess, directory) -> None:
        self.daemon, self.client = old_daemon(one, directory, None)
        self.served = list(self.daemon.serving.listeners)
        self._directory = directory

    def hello(self, channel: Channel) -> None:
        own = self.daemon._lineage.handoff([])
        hello = Hello(
            names=[transfer.listener_name(one) for one in self.served],
            owners=[Owner("", True, self._path(one.listening)) for one in self.served],
            control=f"{self._directory}/control",
            control_path=self._path(own.control),
            pidfile=f"{self._directory}/pid",
            notify="",
            watchdog=0,
            store=0,
            starter=os.geteuid(),
            started=own.started,
            pid=os.getpid(),
        )
        fds = [one.listening.socket.fileno() for one in self.served]
        channel.send(hello, [*fds, own.control.socket.fileno(), own.pidfile.fileno()])

    @staticmethod
    def _path(listening) -> tuple[str, int, int] | None:
        path = listening.path
        return None if path is None else (path.path, path.device, path.inode)

    def connections(self, channel: Channel, descriptors: int = 1) -> None:
        table = self.daemon.serving.tools.connections
        transfer.flush_all(table)
        ((id, row),) = transfer.rows(table, self.served[0], 0)
        channel.send(Connections(rows=[row]), [table.info(id).fd][:descriptors])


def dies_before_ready(_old, _channel, _sock):
    """Hello was said before."""


def dies_behind_ready(_old, channel, _sock):
    hear(channel, Ready)


def nonsense_behind_ready(_old, channel, sock):
    hear(channel, Ready)
    nonsense(sock)


def dies_behind_connections(old, channel, _sock):
    hear(channel, Ready)
    old.connections(channel)


def dies_behind_adopted(old, channel, _sock):
    hear(channel, Ready)
    old.connections(channel)
    assert hear(channel, Adopted).kept == [True]


def nonsense_behind_adopted(old, channel, sock):
    dies_behind_adopted(old, channel, sock)
    nonsense(sock)


def says_too_little(old, channel, _sock):
    """Connections, and a descriptor less than that."""
    hear(channel, Ready)
    old.connections(channel, descriptors=0)
    assert hear(channel, UpgradeFailed).exit_code == EX_OSERR


def dies_behind_commit(old, channel, _sock):
    dies_behind_adopted(old, channel, _sock)
    channel.send(Commit())


def nonsense_behind_commit(old, channel, sock):
    dies_behind_commit(old, channel, sock)
    nonsense(sock)


def says_all(old, channel, sock):
    dies_behind_commit(old, channel, sock)
    totals = {"upper": [7, 10, 10, 5, *[0] * 20]}
    channel.send(Counters(totals=totals, accepted=[[7], [1, 2, 3, 4, 5]], moved=1, stay=0, defects=2))


FAILED = [
    dies_before_ready,
    dies_behind_ready,
    nonsense_behind_ready,
    dies_behind_connections,
    dies_behind_adopted,
    nonsense_behind_adopted,
]
SERVING = [dies_behind_commit, nonsense_behind_commit, says_all]


def nobody(_old, _channel, _sock):
    """See test_before_hello_there_is_nobody_to_follow."""


NEW_SIDE = {
    Hello: (nobody, dies_before_ready),
    Ready: (dies_before_ready, dies_behind_ready),
    Connections: (dies_behind_ready, dies_behind_connections),
    UpgradeFailed: (dies_behind_connections, says_too_little),
    Adopted: (dies_behind_connections, dies_behind_adopted),
    Commit: (dies_behind_adopted, dies_behind_commit),
    Counters: (dies_behind_commit, says_all),
}
"""For each message who dies before it, and behind it."""


def test_each_message_has_a_death_before_it_and_behind_it():
    """fails where messages.py has a message that no row here has"""
    messages = {one for one in vars(messages_module).values() if isinstance(one, type) and issubclass(one, Message)}
    sent = messages - {Message, AcceptedListener, ConnectionState}  # values within messages
    assert set(OLD_SIDE) == set(NEW_SIDE) == sent
    of_old = {script for pair in OLD_SIDE.values() for script in pair}
    assert of_old <= {script for script, _ in BEFORE_COMMIT} | {commits, serves}
    of_new = {script for pair in NEW_SIDE.values() for script in pair}
    assert of_new == {*of_new & {*FAILED, *SERVING}, nobody, says_too_little}


@pytest.fixture
def receive(in_process, tmp_path):
    """Return what has a new process take over from one that a script plays; that returns all, and what was raised."""
    new, kept = InProcess(tmp_path, ExitStack()), []

    def run(script):
        old = OldProcess(in_process, tmp_path)
        ours, theirs = socket.socketpair()
        channel = Channel(ours)
        old.hello(channel)
        predecessor = UpgradeReceiver.from_environment({UPGRADE_VARIABLE: str(theirs.detach())})
        kept.append(predecessor)
        daemon = new.daemon(in_process.next, predecessor=predecessor, given=predecessor.given)

        def play() -> None:
            try:
                script(old, channel, ours)
            finally:
                channel.close()

        thread = threading.Thread(target=play)
        thread.start()
        error = None
        try:
            with predecessor.reporting_failure():
                daemon._succession.complete(new.stack)
        except (SockdError, ValueError) as raised:
            error = raised
        thread.join(10)
        assert not thread.is_alive()
        return old, predecessor, daemon, new, error

    yield run
    new.stack.close()
    new.signals.close()
    for one in kept:
        one.channel.close()


@pytest.mark.parametrize("script", FAILED)
def test_the_new_process_leaves_all_to_the_old_one(receive, in_process, tmp_path, script):
    """Its own end closes nothing that is the old one's: no path, no pid file, no connection."""
    old, predecessor, _, new, error = receive(script)
    assert isinstance(error, TemporaryFault)
    assert predecessor.state is ReceiverState.FAILED
    new.stack.close()
    assert sorted(os.listdir(tmp_path)) == ["control", "lines", "pid"]
    assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"
    assert answers(in_process, old.daemon, old.client) == b"HALF A LINE\n"


def test_a_failure_of_the_new_process_itself_is_told(receive, in_process, tmp_path):
    """A message that does not fit: a defect of one of both."""
    old, predecessor, _, new, error = receive(says_too_little)
    assert isinstance(error, ValueError)
    assert predecessor.state is ReceiverState.FAILED
    new.stack.close()
    assert sorted(os.listdir(tmp_path)) == ["control", "lines", "pid"]
    assert answers(in_process, old.daemon, old.client) == b"HALF A LINE\n"


@pytest.mark.parametrize("script", SERVING)
def test_behind_the_commit_the_new_process_serves(receive, in_process, tmp_path, caplog, script):
    """fails, for those that die there, with counts that are waited for as before: then nobody serves"""
    old, predecessor, daemon, new, error = receive(script)
    assert error is None
    assert predecessor.state is ReceiverState.SERVING
    assert predecessor.moved == 1
    is_known = script is says_all
    assert ("counts of the process before are not known" in caplog.messages) is not is_known
    assert daemon.serving.totals()["upper"].received == (10 if is_known else 0) + len(b"half a ")
    transfer.forget(old.daemon.serving.tools.connections, old.daemon.serving.tools.connections.groups.ids(0)[0])
    assert answers(new, daemon, old.client) == b"HALF A LINE\n"
    new.stack.close()
    assert not (tmp_path / "lines").exists()  # its own now


def test_before_hello_there_is_nobody_to_follow():
    for last in (None, nonsense):
        ours, theirs = socket.socketpair()
        if last is not None:
            last(ours)
        ours.close()
        with pytest.raises(TemporaryFault, match=r"has exited|unexpected message"):
            UpgradeReceiver.from_environment({UPGRADE_VARIABLE: str(theirs.detach())})
