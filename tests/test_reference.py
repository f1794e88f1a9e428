# SPDX-License-Identifier: MIT
"""docs/reference.md has every key, option and verb, and its examples are read by sockd; docs/api.md has every name.

Seen failing with a key left out, and with a method taken out of api.md. That reference.md is current:
test_man_pages.py::test_what_is_made_is_current.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import sockd as sockd_package
from sockd import CloseReason, Connection, buffer, testing
from sockd.cli import sockctl, sockd_parser
from sockd.config.load import load, loads
from sockd.errors import ConfigurationError
from sockd.log.events import EVENT_CATEGORIES
from sockd.settings import toml_key

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGE = DOCS / "reference.md"
API = DOCS / "api.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the tests stand alone, without docs/")
REST = """
[[listen]]
address = "tcp://127.0.0.1:7007"
service = "greet"
"""


@pytest.fixture(scope="module")
def generator():
    sys.path.insert(0, str(ROOT / "packaging"))
    try:
        from generator import reference
    finally:
        sys.path.pop(0)
    return reference


def sections():
    return dict(re.findall(r"^#+ (.*?)\n(.*?)(?=^#+ |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))


def test_every_key(generator):
    for name, table in generator.TABLES.items():
        body = sections()[generator.HEADINGS[name]]
        for field in fields(table):
            assert f"| `{toml_key(field.name)}` |" in body, f"{name}.{field.name}"


def test_every_option_and_verb():
    text = PAGE.read_text()
    for parser in (sockd_parser.make_parser(), sockctl.make_parser()):
        for action in parser._actions:
            for flag in action.option_strings:
                assert f"`{flag}" in text, flag
            if action.dest == "verb":
                for verb, its in action.choices.items():
                    section = text.partition(f"\n## sockctl {verb}\n")[2].partition("\n## ")[0]
                    assert section, verb
                    for flag in (flag for one in its._actions for flag in one.option_strings if one.dest != "help"):
                        assert f"`{flag}" in section, f"{verb} {flag}"


NOT_OF_HANDLERS = {
    *("apply_water", "flushed", "has_more", "outbox", "reply_ending", "write_checked"),  # the table's side of output
    *("deliver", "end", "leave", "lost", "start"),  # and of events
    *("close_for", "handler", "pause", "resume", "service", "restore", "snapshot"),  # services, and an upgrade
}
"""Of a Connection: public within sockd, and nothing that a handler calls."""


def test_every_name_of_the_api():
    text = API.read_text()
    for module in (sockd_package, testing, buffer):
        for name in module.__all__:
            assert re.search(rf"\b{module.__name__}\.{name}\b", text) or (
                module is buffer and re.search(rf"\bsockd\.{name}\b", text)
            ), f"{module.__name__}.{name}"


def test_every_method_of_a_connection():
    listed = re.search(r"autoclass:: sockd.Connection\(\)\n +:members: (.*)", API.read_text())[1].split(", ")
    own = {name for one in Connection.__mro__[:2] for name in vars(one) if not name.startswith("_")}
    assert own - NOT_OF_HANDLERS == set(listed) | {"id"}
    for name in listed:
        assert name == "state" or inspect.getdoc(getattr(Connection, name)), name


def test_every_method_of_a_buffer_is_documented():
    for kind in (buffer.ReceiveBuffer, buffer.SendBuffer, testing.Peer, testing.DatagramClient, sockd_package.Service):
        for name in dir(kind):
            one = getattr(kind, name)
            if not name.startswith("_") and not inspect.ismemberdescriptor(one):
                assert inspect.getdoc(one), f"{kind.__name__}.{name}"


def test_every_category_of_events():
    """Of `sockctl events`."""
    assert {name for name in EVENT_CATEGORIES if f"`{name}`" not in (DOCS / "operations.md").read_text()} == set()


def test_every_close_reason():
    text = "".join(page.read_text() for page in DOCS.glob("*.md"))
    assert {str(one) for one in CloseReason if one and not re.search(rf"(`|reason=){one}`", text)} == set()


SAID_BY_OTHERS = ("can only concatenate", "event loop stalled", "connection refused", "No such file", "No module named")
"""By the shell, the kernel, Python, or a line of the log, whose texts have a test of their own."""


def test_messages_of_troubleshooting_are_those_of_the_program():
    """Seen failing: `daemon.user: missing`, which no program says."""
    source = "".join(path.read_text() for path in (ROOT / "sockd").rglob("*.py"))
    table = (DOCS / "troubleshooting.md").read_text().partition("## Clients")[0]
    for row in re.findall(r"^\| (?!message|---)(.*?) \|", table, re.MULTILINE):
        for message in re.findall(r"`([^`]+)`", row):
            pieces = re.split(
                r"\.\.\.|'\w+'|\w+\.py:\d+|\w+\.sock|FILE:LINE|/dev/log|\.?/?sockd\.toml|\(|connect |: ", message
            )
            for piece in (piece.strip(" :;") for piece in pieces):
                known = piece.startswith(SAID_BY_OTHERS) or "not found" in piece or "Permission denied" in piece
                assert known or len(piece) < 8 or piece in source, message


OF_LISTENER = {"keepalive", "rate", "total_rate", "hosts_access", "proxy_protocol", "tls"}
OF_SERVICE = {"framing": 'handler = "app:f"', "limits": 'exec = ["/bin/cat"]', "relay": "", "check": "", "socks": ""}


def test_the_examples_are_read(generator):
    assert generator.EXAMPLES.keys() == generator.TABLES.keys()
    for name, example in generator.EXAMPLES.items():
        if name == "listen":
            text = example
        elif name in OF_LISTENER:
            text = f'{REST}{example}\n[service.greet]\nbuiltin = "upper"'
        elif name == "check":
            text = f'{REST}[service.greet]\nrelay = {{ to = ["tcp://10.0.0.5:25"], {example} }}'
        elif name in OF_SERVICE:
            text = f"{REST}[service.greet]\n{OF_SERVICE[name]}\n{example}"
        elif name == "service":
            text = f"{example}\n{REST}"
        else:
            text = f'{example}\n{REST}[service.greet]\nbuiltin = "upper"'
        assert loads(text, name=name, directory="/etc/sockd").listen, name


def test_what_is_required(generator):
    tables = {"listen": '[[listen]]\naddress = "tcp://127.0.0.1:7007"', "relay": f"{REST}[service.greet]\nrelay = {{}}"}
    for table, key in generator.REQUIRED:
        text = tables.get(table, f"{REST}{table} = {{}}")
        with pytest.raises(ConfigurationError, match=rf"\b{key}\b"):
            loads(text, name="sockd.toml", directory="/etc/sockd")
        assert re.search(rf"^\| `{key}` \| .* \| required \|", sections()[generator.HEADINGS[table]], re.MULTILINE)


def test_the_examples_of_several_files_and_of_values_from_outside(generator, tmp_path):
    main, included, outside = re.findall(r"```toml\n(.*?)```", generator.outside.TEXT, re.DOTALL)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/greet.toml").write_text(included)
    (tmp_path / "app.toml").write_text("")
    (tmp_path / "sockd.toml").write_text(main.replace("/srv/app", str(tmp_path)))
    assert [one.service for one in load(tmp_path / "sockd.toml").listen] == ["greet"]
    assert loads(outside, name="outside", directory="/etc/sockd").daemon.workers == 2
