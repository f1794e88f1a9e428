# SPDX-License-Identifier: MIT
"""examples/postfix_policy.py asked by a real Postfix, which accepts one mail and refuses another.

The whole of Postfix runs, with a configuration and a queue of its own; what it accepts goes to its discard(8).
"""

from __future__ import annotations

import os
import re
import shutil
import smtplib
import subprocess

import pytest
from programs import find_socket, free_port, is_answered, needs, port_of

postfix = needs("postmap", "postfix")

MAIN_CF = """
compatibility_level = 3.6
myhostname = mail.example.com
mydestination = example.com
local_recipient_maps =
local_transport = discard:
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks =
smtpd_peername_lookup = no
alias_maps =
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
smtpd_recipient_restrictions = reject_unauth_destination, check_policy_service inet:127.0.0.1:{policy_port}
smtpd_policy_service_retry_delay = 1
"""
MASTER_CF = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
discard unix - - n - - discard
postlog unix-dgram n - n - 1 postlogd
"""
QUEUES = "active bounce corrupt defer deferred flush hold incoming private saved trace"


class Postfix:
    """A running one, seen by a client of its SMTP port."""

    def __init__(self, port, directory):
        self._port = port
        self.log = directory / "log"

    def send(self, source, *recipients):
        """Send a mail from an address of this host; returns (code, text) of those recipients that it refuses."""
        with smtplib.SMTP("127.0.0.1", self._port, timeout=30, source_address=(source, 0)) as smtp:
            try:
                return smtp.sendmail("ann@example.net", recipients, "Subject: hello\n\nhello\n")
            except smtplib.SMTPRecipientsRefused as refused:
                return refused.recipients


@pytest.fixture
def start_postfix(as_root, open_path, until):
    """Start Postfix in front of a policy service."""
    running = []

    def start(policy):
        directory, port = open_path / "postfix", free_port()
        make_queue(directory)
        (directory / "main.cf").write_text(MAIN_CF.format(directory=directory, policy_port=port_of(policy)))
        (directory / "master.cf").write_text(MASTER_CF.format(port=port))
        for name in ("main.cf", "master.cf"):
            os.utime(directory / name, (0, 0))  # Postfix waits two seconds for a younger file to settle
        master = find_socket("smtpd").replace("smtpd", "master")
        running.append(
            subprocess.Popen([master, "-c", directory, "-d"], stdin=subprocess.DEVNULL, start_new_session=True)
        )
        until(lambda: is_answered(port))
        return Postfix(port, directory)

    yield start
    for process in running:
        process.terminate()  # it ends its children
        process.wait(30)


def make_queue(directory):
    """Make what `postfix check` would, by its /etc/postfix/postfix-files."""
    for name in ("data", *(f"queue/{name}" for name in QUEUES.split())):
        (directory / name).mkdir(parents=True)
        shutil.chown(directory / name, "postfix")
    for name in ("maildrop", "public"):
        (directory / "queue" / name).mkdir()
        shutil.chown(directory / "queue" / name, "postfix", "postdrop")
    (directory / "queue" / "pid").mkdir()


@postfix
def test_one_mail_is_accepted_and_another_refused(serve_example, start_postfix, until):
    policy = serve_example("postfix_policy:service", environment={"POSTFIX_POLICY_MOST": "2"})
    smtp = start_postfix(policy.addresses[0])
    assert smtp.send("127.0.0.1", "bob@example.com", "eve@example.com") == {}
    refused = smtp.send("127.0.0.1", "bob@example.com")
    assert list(refused) == ["bob@example.com"]
    code, text = refused["bob@example.com"]
    assert code == 450
    assert text == b"4.7.1 <bob@example.com>: Recipient address rejected: No more than 2 recipients an hour"
    assert smtp.send("127.0.0.2", "bob@example.com") == {}
    assert [event for event in policy.events if event["level"] == "error"] == []
    until(lambda: smtp.log.read_text().count("status=sent") == 3)
    assert "NOQUEUE: reject: RCPT from" in smtp.log.read_text()
    of_clocks = "file system clock|resetting file time stamps"
    assert re.findall(f"warning: (?!{of_clocks}).*", smtp.log.read_text()) == []


@postfix
def test_without_the_service_clients_come_again(serve_example, start_postfix):
    """What example and Postfix say when the function fails, here for want of any."""
    policy = serve_example("postfix_policy:service")
    smtp = start_postfix(policy.addresses[0])
    policy.stop()
    code, text = smtp.send("127.0.0.1", "bob@example.com")["bob@example.com"]
    assert (code, text[:5]) == (451, b"4.3.5")


def block(**attributes):
    return "".join(f"{name}={value}\n" for name, value in attributes.items()).encode() + b"\n"


ASKED = {"request": "smtpd_access_policy", "protocol_state": "RCPT", "client_address": "192.0.2.1"}
DUNNO = b"action=dunno\n\n"
REFUSED = b"action=450 4.7.1 No more than 1 recipients an hour\n\n"


def test_several_requests_in_one_connection(serve_example):
    daemon = serve_example("postfix_policy:service", environment={"POSTFIX_POLICY_MOST": "1"})
    requests = [
        (ASKED, DUNNO),
        (ASKED, REFUSED),
        ({**ASKED, "protocol_state": "DATA"}, DUNNO),
        ({**ASKED, "sasl_username": "ann", "sender": "a=b@example.com"}, DUNNO),
        ({**ASKED, "sasl_username": "ann", "client_address": "192.0.2.2"}, REFUSED),
        ({**ASKED, "sasl_username": "", "client_address": "192.0.2.2"}, DUNNO),
    ]
    stream = b"".join(block(**asked) for asked, _ in requests)
    assert daemon.connect().finish_with(stream) == b"".join(reply for _, reply in requests)


def test_what_is_not_understood_is_not_answered(serve_example):
    daemon = serve_example("postfix_policy:service")
    for wrong in (b"no attribute\n\n", b"\n", block(**{**ASKED, "request": "other"})):
        client = daemon.connect()
        assert client.finish_with(block(**ASKED) + wrong + block(**ASKED)) == DUNNO, wrong
        assert daemon.end_of(client)["reason"] == "handler-error"
