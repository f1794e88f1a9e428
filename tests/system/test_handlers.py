# SPDX-License-Identifier: MIT
"""What a handler may return, raise and do, seen from the peer and in the log.

Seen to fail: with shut() left out of FunctionHandler._answer_connections the connection of a
handler that raised goes on; with `done` dropped there the lines before an exception
are handed out twice; with `_held` not kept in Connection.deliver the lines behind a
pause are lost; with SO_LINGER left out of sb_mux_abort no RST comes; with discard()
left out of receive() (csrc/mux_receive.c) the 10 MiB meet an RST.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading

import pytest

MIB = 1024 * 1024
KINDS = ("act", "act_with_connection", "act_protocol")
numbers = itertools.count()


@pytest.fixture
def tag():
    return b"t%d-%d" % (os.getpid(), next(numbers))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def record(client, tag):
    """Connect to a Record, as one that tells its diary under the tag."""

    def connect(family="tcp4", **options):
        peer = client("record", family, **options)
        assert peer.ask(tag) == b"tagged " + tag
        return peer

    return connect


@pytest.fixture
def diary(shared, asking, tag):
    """Read the diary of the tag, once it is so long."""

    def read(length):
        words = []
        for _ in range(10_000):
            words = asking(b"diary " + tag).decode().split(" ")
            if len(words) >= length:
                return words
        raise AssertionError(words)

    return read


def test_none_answers_nothing_and_bytes_like_replies_are_sent(client, kind, family):
    peer = client(kind, family)
    assert peer.finish_with(b"a\nnone\nb\narray c\nnone\nview d\nnone\n") == b"a\nb\nc\nd\n"


def test_none_for_a_single_line_and_for_all_lines(client, kind):
    peer = client(kind)
    peer.send(b"none\n")
    peer.send(b"none\nnone\n")
    assert peer.ask(b"here") == b"here"


def test_a_reply_may_have_several_lines(client, kind):
    peer = client(kind)
    peer.send(b"many 1 2 3\n")
    assert peer.lines(3) == [b"1\n", b"2\n", b"3\n"]
    assert peer.finish_with(b"x\nmany 4 5\nnone\ny\n") == b"x\n4\n5\ny\n"


def test_close_ends_in_order_after_the_lines_before_it(shared, client, kind, family):
    for verb, words in ((b"close", b""), (b"words good bye", b"good bye\n")):
        peer = client(kind, family)
        peer.send(b"first\n" + verb + b"\nnot handed out\n")
        assert peer.to_end() == b"first\n" + words
        if peer.name:
            assert shared.end_of(peer)["reason"] == "closed"


@pytest.mark.parametrize("verb", [b"boom", b"wrong text", b"number 5", b"badwords bye"])
def test_a_failure_ends_that_connection_alone(shared, client, kind, family, verb):
    other, peer = client(kind, family), client(kind, family)
    assert other.ask(b"before") == b"before"
    peer.send(b"first\n" + verb + b"\nnot handed out\n")
    assert peer.to_end() == b"first\n"
    if peer.name:
        assert shared.end_of(peer)["reason"] == "handler-error"
        failed = shared.wait_for("handler failed", peer=peer.name, frame_bytes=len(verb))  # its port may come again
        assert "Error" in failed["traceback"]
    assert other.ask(b"after") == b"after"


@pytest.mark.parametrize("verb", [b"boom", b"wrong text", b"close"])
def test_a_single_line_that_fails_ends_its_connection(client, kind, verb):
    peer = client(kind)
    peer.send(verb + b"\n")
    assert peer.to_end() == b""


@pytest.mark.parametrize("verb", [b"boom", b"close", b"wrong", b"none", b"many"])
def test_no_line_is_handed_out_twice(client, asking, kind, tag, verb):
    """An exception or an unusual reply in the middle of a batch of one connection."""
    lines = [b"%s-%d" % (tag, i) for i in range(5)]
    lines.insert(3, verb + b" " + tag)
    peer = client(kind)
    peer.send(b"\n".join(lines) + b"\n")
    peer.half_close()
    peer.to_end()
    counts = [int(asking(b"calls " + line)) for line in lines]
    if verb == b"wrong" and kind == "act":  # known only when the batch has been handed out
        assert counts in ([1] * 6, [1, 1, 1, 1, 0, 0])
    else:
        assert counts == ([1, 1, 1, 1, 0, 0] if verb in (b"boom", b"close", b"wrong") else [1] * 6)


def test_lines_of_many_connections_in_one_batch_are_settled_one_by_one(fifo, serve):
    """The loop stands still, 60 peers send all that is unusual, then it sees them all in a turn or a few."""
    server = serve("tcp://127.0.0.1:0=app:act", "tcp://127.0.0.1:0=app:hold", "tcp://127.0.0.1:0=app:question")
    act, hold, question = server.addresses
    holder = server.connect(hold)
    peers = [server.connect(act) for _ in range(60)]
    for i, peer in enumerate(peers):
        assert peer.ask(b"hello %d" % i) == b"hello %d" % i
    holder.send(fifo.path + b"\n")
    fifo.wait_for_reader()
    verbs = [b"say", b"none", b"many 1", b"boom", b"words", b"wrong"]
    for i, peer in enumerate(peers):
        peer.send(b"a %d\n%s %d\nz %d\n" % (i, verbs[i % 6], i, i))
    fifo.release(b"over")
    assert holder.line() == b"over\n"
    middle = [b"say %d\n", b"", b"1\n%d\n", None, b"%d\n", None]
    for i, peer in enumerate(peers):
        verb = middle[i % 6]
        text = b"" if not verb else verb % i
        peer.half_close()
        assert peer.to_end() == b"a %d\n" % i + text + (b"" if i % 6 in (3, 4, 5) else b"z %d\n" % i)
    asking = server.connect(question)
    for i in range(60):
        counts = [int(asking.ask(b"calls " + w)) for w in (b"a %d" % i, b"%s %d" % (verbs[i % 6], i), b"z %d" % i)]
        if verbs[i % 6] == b"wrong":  # known only when the batch has been handed out, unless one before it has failed
            assert counts in ([1, 1, 0], [1, 1, 1])
        else:
            assert counts == [1, 1, 0 if i % 6 in (3, 4) else 1]


def test_a_class_that_cannot_be_made_ends_its_connection(serve):
    server = serve("tcp://127.0.0.1:0=app:Broken", "tcp://127.0.0.1:0=upper")
    peer = server.connect()
    peer.send(b"hello\n")
    assert peer.to_end() == b""
    assert server.end_of(peer)["reason"] == "handler-error"
    assert server.connect(server.addresses[1]).ask(b"still") == b"STILL"


# ---- protocol classes


def test_callbacks_come_in_order(record, diary, family):
    peer = record(family)
    peer.send(b"1\n2\n")
    peer.send(b"3\n")
    assert peer.finish() == b""
    assert diary(6) == ["made", "1", "2", "3", "eof", "lost:None"]


def test_a_reset_is_told_as_an_exception(shared, record, diary):
    peer = record()
    peer.reset()
    assert diary(2) == ["made", "lost:ConnectionResetError"]
    assert shared.end_of(peer)["reason"] == "reset"


def test_an_unfinished_line_is_never_delivered(shared, record, diary):
    peer = record()
    assert peer.finish_with(b"whole\npiece") == b""
    assert diary(4) == ["made", "whole", "eof", "lost:None"]
    assert shared.end_of(peer)["reason"] == "truncated"


def test_close_sends_what_was_written_before_and_nothing_after(shared, record, diary):
    peer = record()
    peer.send(b"close bye\nnot delivered\n")
    assert peer.to_end() == b"bye\n"
    peer.half_close()
    assert diary(4) == ["made", "close", "bye", "lost:None"]
    assert shared.end_of(peer)["reason"] == "closed"


def test_an_exception_in_a_protocol_ends_it(shared, record, diary):
    peer = record()
    peer.send(b"say x\nboom\nnot delivered\n")
    assert peer.to_end() == b"x\n"
    peer.half_close()
    assert diary(5) == ["made", "say", "x", "boom", "lost:ValueError"]
    assert shared.end_of(peer)["reason"] == "handler-error"


def test_abort_is_a_reset(shared, record, diary):
    peer = record()
    peer.send(b"abort\n")
    with pytest.raises(ConnectionResetError):
        peer.to_end()
    assert diary(3) == ["made", "abort", "lost:None"]
    assert shared.end_of(peer)["reason"] == "aborted"


def test_abort_on_a_unix_socket_ends_it(record, diary):
    peer = record("unix")
    peer.send(b"abort\n")
    assert peer.to_end() == b""
    assert diary(3) == ["made", "abort", "lost:None"]


def test_nothing_is_delivered_while_reading_is_paused(record, diary, asking, tag, family):
    peer = record(family)
    peer.send(b"say 1\npause\nsay 2\nsay 3\n")
    assert peer.line() == b"1\n"
    peer.send(b"say 4\n")
    assert asking(b"reading " + tag) == b"0"
    for _ in range(20):
        assert diary(4) == ["made", "say", "1", "pause"]
    assert asking(b"resume " + tag) == b"resumed"
    assert peer.lines(3) == [b"2\n", b"3\n", b"4\n"]
    assert asking(b"reading " + tag) == b"1"
    assert peer.finish_with(b"blink\nsay 5\n") == b"5\n"


def test_a_pause_within_what_was_held_holds_again(record, diary, asking, tag):
    peer = record()
    peer.send(b"pause\nsay 1\npause\nsay 2\npause\nsay 3\n")
    assert diary(2) == ["made", "pause"]
    for number in (b"1\n", b"2\n", b"3\n"):
        asking(b"resume " + tag)
        assert peer.line() == number
    assert peer.finish() == b""


def test_a_peer_that_is_paused_is_held_up_and_loses_nothing(record, asking, tag, family):
    peer = record(family)
    peer.send(b"pause\n")
    asking(b"diary " + tag)
    peer.sock.setblocking(False)
    lines, sent = [b"%07d\n" % i for i in range(MIB)], 0
    stream = b"".join(lines)
    try:
        while True:
            sent += peer.sock.send(stream[sent : sent + 65_536])
            asking(b"diary " + tag)  # a turn in which it would have been received
    except BlockingIOError:
        pass
    assert 0 < sent < len(stream)
    peer.sock.settimeout(30)
    asking(b"resume " + tag)
    end = sent + (-sent) % 8 + 8
    assert peer.finish_with(stream[sent:end] + b"say end\n") == b"end\n"
    delivered = asking(b"diary " + tag).decode().split(" ")
    assert delivered[2 : 2 + end // 8] == [line.decode().strip() for line in lines[: end // 8]]


def test_end_of_file_behind_a_pause_comes_after_the_lines(record, diary, asking, tag, family):
    peer = record(family)
    peer.send(b"pause\nsay 1\n")
    asking(b"diary " + tag)
    peer.send(b"say 2\n")
    peer.half_close()
    for _ in range(5):
        assert diary(2) == ["made", "pause"]
    asking(b"resume " + tag)
    assert peer.to_end() == b"1\n2\n"
    assert diary(8) == ["made", "pause", "say", "1", "say", "2", "eof", "lost:None"]


def test_water_marks_are_told_once_each_way(record, diary, asking, tag, family):
    peer = record(family)
    peer.send(b"write %d\n" % (16 * MIB))
    assert diary(4)[-1] == "pause_writing"
    assert int(asking(b"buffered " + tag)) > 65_536
    peer.send(b"say not read while the output is high\n")
    assert len(diary(4)) == 4
    assert peer.file.read(16 * MIB) == bytes(16 * MIB)
    assert peer.line() == b"not read while the output is high\n"
    assert diary(5)[3:5] == ["pause_writing", "resume_writing"]
    assert int(asking(b"buffered " + tag)) == 0
    assert peer.finish() == b""


def test_write_eof_leaves_the_other_way_open(record, diary, family):
    peer = record(family)
    peer.send(b"say before\neof\n")
    assert peer.to_end() == b"before\nthe end\n"
    peer.send(b"still\nread\n")
    assert diary(6)[-2:] == ["still", "read"]
    peer.half_close()
    assert diary(8)[-2:] == ["eof", "lost:None"]


def test_writing_after_write_eof_is_an_error(shared, record):
    peer = record()
    peer.send(b"eof\nsay more\n")
    assert peer.to_end() == b"the end\n"
    assert shared.end_of(peer)["reason"] == "handler-error"


def test_what_a_transport_tells(shared, record, family):
    peer = record(family)
    assert peer.ask(b"peer").decode() == (peer.name or "unix:")
    told = peer.ask(b"extra").decode()
    if peer.name:
        assert told == repr((peer.sock.getsockname(), peer.sock.getpeername(), 7))
    else:
        assert told == repr(("", shared.address("record", "unix").removeprefix("unix:"), 7))
    assert peer.ask(b"writelines") == b"abc"


# ---- the ways a connection ends (FAQ II.1, II.5, II.6)


def test_a_close_delivers_its_last_words_while_the_peer_is_still_sending(shared, client, asking, kind, family):
    """4 MiB of last words against 10 MiB that nobody reads: all of them arrive, and no RST."""
    peer = client(kind, family)
    digest = asking(b"digest %d" % (4 * MIB)).decode()
    failures = []

    def send():
        try:
            peer.send(b"bigwords %d\n" % (4 * MIB) + bytes(10 * MIB))
            peer.half_close()
        except OSError as error:
            failures.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    answer = peer.to_end()
    sender.join()
    assert failures == []
    assert hashlib.sha256(answer[:-1]).hexdigest() == digest
    if peer.name:
        end = shared.end_of(peer)
        assert end["reason"] == "closed"
        assert end["received"] == len(b"bigwords %d\n" % (4 * MIB)) + 10 * MIB


def test_a_peer_that_sends_all_and_shuts_down_gets_its_whole_answer(client, family):
    """2 MiB through each way of serving."""
    lines = b"".join(b"%07d\n" % i for i in range(MIB // 4))
    for service in ("upper", "function", "with_connection", "protocol", "echo", "raw_protocol"):
        peer = client(service, family)
        sender = threading.Thread(target=lambda peer=peer: (peer.send(lines), peer.half_close()))
        sender.start()
        assert peer.to_end() == lines
        sender.join()


@pytest.mark.parametrize("service", ["upper", "function", "protocol", "echo"])
def test_each_end_has_its_reason(shared, client, service):
    by_eof, by_reset, by_piece = client(service), client(service), client(service)
    by_eof.finish_with(b"a\n")
    assert shared.end_of(by_eof)["reason"] == "eof"
    by_reset.ask(b"a")
    by_reset.reset()
    assert shared.end_of(by_reset)["reason"] == "reset"
    by_piece.finish_with(b"a\nb")
    assert shared.end_of(by_piece)["reason"] == ("eof" if service == "echo" else "truncated")


@pytest.mark.parametrize("service", ["idle", "idle_function"])
def test_an_idle_connection_is_closed(shared, client, service):
    silent, spoke = client(service), client(service)
    assert spoke.ask(b"a") == b"A"
    for peer in (silent, spoke):
        assert peer.to_end() == b""
        end = shared.end_of(peer)
        assert end["reason"] == "idle-timeout"
        assert 0.29 <= end["seconds"] < 5


def test_discard_takes_everything_and_says_nothing(shared, client, family):
    peer = client("discard", family)
    assert peer.finish_with(bytes(3 * MIB)) == b""
    if peer.name:
        assert shared.end_of(peer)["received"] == 3 * MIB
