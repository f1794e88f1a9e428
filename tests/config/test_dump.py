# SPDX-License-Identifier: MIT
"""What is dumped reads back as equal settings."""

import random
import tomllib
from ipaddress import ip_network

import pytest

from sockd.config.command_line import from_command_line
from sockd.config.dump import dump
from sockd.config.load import loads
from sockd.config.substitute import as_written
from sockd.errors import ConfigurationError
from sockd.settings import DaemonSettings, Duration, LogSettings, Settings, Size
from sockd.settings.address import Address
from sockd.settings.listen import KeepaliveSettings, ListenSettings, RateSettings
from sockd.settings.service import ServiceSettings

ONE = Settings(listen=(ListenSettings(address=Address.parse("tcp://127.0.0.1:7000"), service="upper"),))


def addresses(*texts):
    return tuple(map(Address.parse, texts))


def test_every_default_is_shown():
    settings = Settings(listen=ONE.listen, service={"policy": ServiceSettings(handler="a:b")})
    text = dump(settings)
    for line in (
        'multiplexer = "auto"',
        "max_connections = 10000",
        'stop_timeout = "10s"',
        'format = "text"',
        'level = "info"',
        'address = "tcp://127.0.0.1:7000"',
        'service = "upper"',
        "backlog = 4096",
        "nodelay = true",
        'keepalive = { on = true, idle = "2m", interval = "30s", count = 4 }',
        'user_timeout = "4m"',
        "free_bind = false",
        'at_limit = "defer"',
        '#datagram_budget = "1 MiB"',
        'handler = "a:b"',
        '#framing = "line"',
        '#max_frame = "64 KiB"',
        '#idle_timeout = "15m"',
        '#linger_timeout = "5s"',
        '#high_water = "64 KiB"',
    ):
        assert f"\n{line}\n" in text


def test_a_default_in_a_comment_is_what_the_key_would_be():
    settings = Settings(listen=ONE.listen, service={"policy": ServiceSettings(handler="a:b")})
    text = "\n".join(line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in dump(settings).split("\n"))
    policy = loads(text, name="x").service["policy"]
    assert policy == ServiceSettings(
        handler="a:b",
        max_in_flight=1,
        framing="line",
        max_frame=Size(65_536),
        idle_timeout=Duration(900),
        frame_timeout=Duration(60),
        write_timeout=Duration(60),
        linger_timeout=Duration(5),
        high_water=Size(65_536),
        max_buffer=Size(2**28),
    )


def test_a_program_has_defaults_of_its_own():
    settings = Settings(listen=ONE.listen, service={"policy": ServiceSettings(exec=("/bin/cat",))})
    lines = [line for line in dump(settings).split("\n") if line.startswith("#") and line[1:2] != " "]
    expected = ['environment = ["PATH"]', 'directory = "/"', 'umask = "022"', 'stderr = "log"', "max_instances = 64"]
    assert lines[-5:] == [f"#{line}" for line in expected]


def test_each_key_is_explained_once():
    text = dump(Settings(listen=ONE.listen * 3))
    explained = "# length of the accept queue: established connections waiting for accept\n# 1 to 65535 connections; "
    assert text.count(explained) == 1
    assert text.count("backlog = 4096\n") == 3


def test_a_table_of_a_listener_stands_in_one_line_and_is_explained():
    rate = RateSettings(connections=3, per=Duration(0.5), burst=7)
    text = dump(Settings(listen=(ListenSettings(address=Address.parse("tcp://:1"), service="upper", rate=rate),)))
    assert '\nrate = { connections = 3, per = "500ms", burst = 7 }\n' in text
    assert "\n#   burst: connections that one source may open at once, after a pause; 1 to 1000000\nrate = " in text


def test_texts_that_need_care_read_back():
    path, odd = 'unix:/tmp/"a"\\bé\U0001f600', '"a"\\b\t\n\x1b\x7f\x85\u2028é\U0001f600'
    settings = Settings(
        listen=(ListenSettings(addresses=addresses(path, "tcp://:1"), service="a"),),
        service={"a": ServiceSettings(builtin="upper", goodbye=odd)},
    )
    text = dump(settings)
    assert all(line.isprintable() for line in text.split("\n"))
    assert loads(text, name="x") == settings


@pytest.mark.parametrize("word", ["echo ${X}", "$${X}", "$$${", "${", "${file:/etc/shadow}", "$X"])
def test_what_looks_like_a_value_from_outside_reads_back_as_it_is(word):
    """sockd.config.substitute reads ${X} as a variable of the environment, and $${X} as ${X}."""
    settings = Settings(
        listen=(ListenSettings(addresses=addresses("tcp://:1"), service="a"),),
        service={"a": ServiceSettings(exec=("/bin/sh", "-c", word), user="root")},
    )
    assert loads(dump(settings), name="x") == settings


def test_a_secret_is_hidden_beside_a_brace(monkeypatch):
    monkeypatch.setattr("sockd.config.substitute._secrets", {"se${cret": "${file:/s}"})
    assert as_written("a ${X} se${cret ${Y}") == "a $${X} ${file:/s} $${Y}"
    assert as_written("se${cret") == "${file:/s}"


def test_what_toml_cannot_hold_is_refused():
    settings = from_command_line(["unix:/tmp/\udcff=upper"])
    with pytest.raises(ConfigurationError, match=r'^"unix:/tmp/\\udcff" is not UTF-8, which a TOML file cannot hold$'):
        dump(settings)


def test_random_settings_read_back():
    chance = random.Random(20261123)

    def maybe(value):
        return chance.choice([None, value])

    def service():
        builtin = chance.random() < 0.5
        return ServiceSettings(
            handler=None if builtin else "a.b:c.d",
            builtin="echo" if builtin else None,
            framing=maybe("raw"),
            max_frame=maybe(Size(chance.randint(1, 2**30))),
            idle_timeout=maybe(Duration(round(chance.uniform(0.001, 604_800), chance.randrange(10)) or 1)),
            linger_timeout=maybe(Duration(chance.randint(0, 600))),
            high_water=maybe(Size(1024 ** chance.randrange(4))),
        )

    for _ in range(200):
        services = {name: service() for name in ("a", "b-c", "d.e", "1")[: chance.randrange(5)]}
        names = [*services, "upper", "app:greet"]
        settings = Settings(
            daemon=DaemonSettings(
                multiplexer=chance.choice(["auto", "epoll", "poll", "select"]),
                max_connections=chance.randint(1, 10**6),
                stop_timeout=Duration(chance.randint(0, 3_600_000) / 1000),
                user=chance.choice([None, "nobody"]),
                chroot=chance.choice([None, "/var/empty"]),
                pidfile=chance.choice([None, "/run/sockd/sockd.pid"]),
                log=LogSettings(
                    format=chance.choice(["text", "json"]),
                    level=chance.choice(["debug", "error"]),
                    to=chance.choice([None, "syslog", "/var/log/sockd.log"]),
                ),
            ),
            listen=tuple(
                ListenSettings(
                    address=None if port % 2 else Address.parse(f"tcp://:{port}"),
                    addresses=addresses(f"tcp://:{port}", f"udp://:{port}") if port % 2 else (),
                    service=chance.choice(names),
                    backlog=chance.randint(1, 65_535),
                    nodelay=chance.random() < 0.5,
                    reuse_address=maybe(chance.random() < 0.5),
                    keepalive=KeepaliveSettings(idle=Duration(chance.randint(1, 32_767)), count=chance.randint(1, 127)),
                    linger=maybe(Duration(chance.randint(1, 600))),
                    receive_buffer=maybe(Size(chance.randint(256, 2**30))),
                    interface=maybe("eth0"),
                    mark=maybe(chance.randint(0, 2**32 - 1)),
                    rate=maybe(RateSettings(connections=chance.randint(1, 99), per=Duration(chance.randint(1, 600)))),
                    at_limit=chance.choice(["defer", "refuse", "reset"]),
                    allow=chance.choice([(), (ip_network("10.0.0.0/8"), ip_network("::1"))]),
                    datagram_budget=maybe(Size(chance.randint(2**16, 2**40))),
                )
                for port in range(1, chance.randint(2, 5))
            ),
            service=services,
        )
        text = dump(settings)
        assert loads(text, name="x") == settings
        assert dump(loads(text, name="x")) == text


def test_the_dump_is_toml_even_without_listeners():
    assert set(tomllib.loads(dump(Settings()))) == {"daemon"}
