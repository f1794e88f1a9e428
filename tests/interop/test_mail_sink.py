# SPDX-License-Identifier: MIT
"""examples/mail_sink.py given mails by curl, and by openssl(1) and Python's smtplib over STARTTLS.

Seen to fail: with a sink that takes mails in plain text, curl without --ssl delivers; with dots not taken out, the
mail is another one.
"""

from __future__ import annotations

import smtplib
import ssl
import subprocess

import pytest
from programs import needs

MAIL = b"Subject: dots\r\n\r\none\r\n.two\r\n..three\r\n.\r\n\r\nend\r\n"


@pytest.fixture
def sink(daemon, certificates, tmp_path, examples):
    own = certificates.server
    toml = (examples / "mail_sink.toml").read_text()
    for old, new in (
        ("mail_sink:service", "app:service"),
        ("127.0.0.1:2525", "127.0.0.1:0"),
        ("/etc/ssl/localhost.pem", own.path),
        ("/etc/ssl/localhost.key", own.key),
    ):
        assert old in toml
        toml = toml.replace(old, str(new))
    app = (examples / "mail_sink.py").read_text()
    return daemon(toml=toml, app=app, environment={"MAIL_SINK": str(tmp_path / "mails")})


def mails(tmp_path):
    return [path.read_bytes() for path in sorted((tmp_path / "mails").iterdir())]


def kept(sender, recipients, mail):
    head = f"Return-Path: <{sender}>\n" + "".join(f"X-Envelope-To: <{one}>\n" for one in recipients)
    return head.encode() + mail.replace(b"\r\n", b"\n")


@needs("curl", "curl")
def test_curl(sink, certificates, tmp_path):
    (tmp_path / "mail.txt").write_bytes(MAIL)
    command = ["curl", "-sS", f"smtp://localhost:{sink.port()}", "--upload-file", tmp_path / "mail.txt"]
    command += ["--mail-from", "ann@example.com", "--mail-rcpt", "bob@example.org", "--mail-rcpt", "eve@example.org"]
    plain = subprocess.run(command, capture_output=True, timeout=30)
    assert b"530" in plain.stderr
    assert mails(tmp_path) == []
    done = subprocess.run([*command, "--ssl-reqd", "--cacert", certificates.ca], capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    assert mails(tmp_path) == [kept("ann@example.com", ["bob@example.org", "eve@example.org"], MAIL)]


@needs("openssl", "openssl")
def test_openssl(sink, certificates):
    command = ["openssl", "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{sink.port()}", "-crlf"]
    command += ["-CAfile", certificates.ca, "-verify_return_error", "-verify_hostname", "localhost"]
    done = subprocess.run(command, input=b"EHLO me\nQUIT\n", capture_output=True, timeout=30)
    shown = done.stdout.decode()
    assert "Verify return code: 0 (ok)" in shown
    assert "STARTTLS" not in shown.partition("Verify return code")[2]


def test_smtplib_sends_many_over_one_connection(sink, certificates, tmp_path):
    context = ssl.create_default_context(cafile=certificates.ca)
    with smtplib.SMTP("localhost", sink.port()) as client:
        client.starttls(context=context)
        for number in range(20):
            body = b"%d\r\n" % number * 5000
            assert client.sendmail(f"{number}@example.com", ["bob@example.org"], b"Subject: x\r\n\r\n" + body) == {}
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.docmd("x" * 600)
    found = mails(tmp_path)
    assert len(found) == 20
    assert found[7] == kept("7@example.com", ["bob@example.org"], b"Subject: x\r\n\r\n" + b"7\r\n" * 5000)
