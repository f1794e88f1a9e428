# SPDX-License-Identifier: MIT
"""A service of xinetd -> a draft: the result of each attribute.

Source: xinetd.conf(5).
"""

from __future__ import annotations

import os
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from sockd.importer.model import Draft
from sockd.importer.networks import clients, hours, rules, with_mapped
from sockd.importer.program import AT_ONCE, ask_access, external, internal, pass_socket
from sockd.importer.xinetd_values import size
from sockd.settings.networks import ClientName
from sockd.units import format_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sockd.importer.model import Host, Place
    from sockd.importer.xinetd_merge import MergedAttribute
    from sockd.settings.networks import Client

UMASK = 0o022
"""Attributes that hold for every program of sockd."""
UNLIMITED = "UNLIMITED"
KNOWN_FLAGS = ("NODELAY", "KEEPALIVE", "NORETRY", "REUSE", "NAMEINARGS", "NOLIBWRAP", "IPv4", "IPv6")
"""Attributes that are kept, or that say what sockd does anyway."""
SIZES = {"rlimit_as": "memory", "rlimit_data": "data", "rlimit_stack": "stack"}
"""Keys of `limits`."""
_TEXTS = {"greeting_files": ("banner", "banner_success"), "banner_files": ("banner", "banner_fail")}
"""Files that xinetd sends, in its order."""
LONGEST_DENY_MINUTES = 366 * 24 * 60
_PROTOCOLS = {"stream": "tcp", "dgram": "udp"}
_LOGGED = {"log_on_success": ("PID", "HOST", "EXIT", "DURATION"), "log_on_failure": ("HOST", "ATTEMPT")}


def translate(
    name: str, place: Place, found: Mapping[str, MergedAttribute], host: Host, listed: Mapping[str, MergedAttribute]
) -> Draft:
    """Make a draft of a service.

    Args:
        name: after the word service.
        place: of its entry.
        found: its effective attributes.
        host: properties of the host.
        listed: the attributes of defaults, for enabled and disabled.
    """
    return _Translation(name, place, found, host, listed).draft


class _Translation:
    """One service; `draft` is complete when the constructor returns."""

    def __init__(
        self,
        name: str,
        place: Place,
        found: Mapping[str, MergedAttribute],
        host: Host,
        listed: Mapping[str, MergedAttribute],
    ) -> None:
        self._found = found
        self._host = host
        self._listed = listed
        ident = self._text("id") or name
        self._types = self._values("type")
        self._flags = self._values("flags")
        self._stream = self._text("socket_type") == "stream" or self._text("protocol") == "tcp"
        self.draft = Draft(place=place, name=ident, origin=f"service {name}{f', id {ident}' if ident != name else ''}")
        self.draft.disabled = self._is_disabled(ident, listed)
        self._listen(name)
        self._refuse_types()
        self._account()
        self._serve(name)
        self._admit()
        self._limit()
        self._environment()
        self._log()
        self._texts()
        waits = self._text("wait") == "yes"
        if "stderr" in self.draft.program and (waits or not self._stream):
            pass_socket(self.draft, self._place("wait"), None if waits else self._number("instances") or AT_ONCE)

    # ---- values

    def _values(self, name: str) -> tuple[str, ...]:
        return self._found[name].values if name in self._found else ()

    def _text(self, name: str) -> str:
        return self._found[name].text if name in self._found else ""

    def _place(self, name: str) -> Place:
        return self._found[name].place if name in self._found else self.draft.place

    def _lose(self, name: str, text: str) -> None:
        self.draft.lose(f"{name} = {self._text(name)}: {text}", self._place(name))

    def _leave_out(self, name: str, text: str) -> None:
        self.draft.leave_out(f"{name} = {self._text(name)}: {text}", self._place(name))

    def _number(self, name: str) -> int | None:
        """Return the number of an attribute; None if it is not set, or UNLIMITED, which is noted."""
        text = self._text(name)
        if text == UNLIMITED:
            self._lose(name, "sets no limit; sockd's default applies")
        return size(text) if text and text != UNLIMITED else None

    # ---- parts

    def _is_disabled(self, ident: str, listed: Mapping[str, MergedAttribute]) -> bool:
        enabled, disabled = (
            None if key not in listed else [value.lower() for value in listed[key].values]
            for key in ("enabled", "disabled")
        )
        return (
            self._text("disable") == "yes"
            or (enabled is not None and ident.lower() not in enabled)
            or (disabled is not None and ident.lower() in disabled)
        )

    def _listen(self, name: str) -> None:
        kind, protocol = self._text("socket_type"), self._text("protocol")
        protocol = protocol or ("tcp" if self._stream else "udp")
        if (kind or "stream") not in ("stream", "dgram"):
            return self._leave_out("socket_type", "sockd serves stream and dgram")
        if protocol not in ("tcp", "udp") or _PROTOCOLS.get(kind, protocol) != protocol:
            return self._leave_out(
                "protocol", f"sockd serves tcp as stream and udp as dgram, not {protocol} with this type"
            )
        if not kind and not self._text("protocol"):
            return self.draft.leave_out("neither socket_type nor protocol; xinetd skips the service")
        if "TCPMUX" in self._types or "TCPMUXPLUS" in self._types:
            self.draft.muxed = f"{'+' * ('TCPMUXPLUS' in self._types)}{name}"
            if not self._stream or self._text("wait") != "no":
                self._leave_out("type", "only a stream service with wait = no can be behind tcpmux")
            return None
        if "UNLISTED" in self._types and "port" not in self._found:
            return self._leave_out("type", "no port")
        if "wait" not in self._found:
            return self.draft.leave_out("wait is not set; xinetd skips the service")
        port, host = self._listed_port(name, protocol), self._host_to_bind()
        host = f"[{host}]" if ":" in host else host
        is_only_6 = "v6only" in self._found and self._found["v6only"] is not self._listed.get("v6only")
        if not host and ("IPv4" in self._flags or "IPv6" in self._flags or is_only_6):
            host = "0.0.0.0" if "IPv4" in self._flags else "[::]"  # noqa: S104 - every address of a family, as asked for
        if is_only_6 and host == "[::]":  # tried with xinetd 2.3.15.3: whatever its value, and not that of defaults
            self.draft.listen["ipv6_only"] = True
            if self._text("v6only") == "no":
                self._lose("v6only", "xinetd serves IPv6 clients alone even so; write ipv6_only = false for both")
        self.draft.addresses = [f"{protocol}://{host}:{port}"]
        return None

    def _listed_port(self, name: str, protocol: str) -> str:
        """Return the port, which is to be that of the service in /etc/services, unless it is UNLISTED."""
        given = int(self._text("port")) if "port" in self._found else 0
        listed = 0 if {"UNLISTED", "RPC"} & {*self._types} else self._host.port(name, protocol)
        if listed is None:
            self.draft.leave_out(f"{name} is not a {protocol} service of /etc/services; xinetd skips it")
        elif listed and given not in (0, listed):
            self._leave_out("port", f"{name} has port {listed} in /etc/services; xinetd skips it")
        return str(given) if "port" in self._found else name

    def _host_to_bind(self) -> str:
        """Return the address; of a name that has both kinds xinetd has the IPv6 one, unless flags say IPv4."""
        host = self._text("bind")
        if not host or ":" in host:
            return host
        found = [host] if host.replace(".", "").isdigit() else self._host.addresses(host)
        if not found:
            self._leave_out("bind", "does not resolve; xinetd disables the service")
        elif "IPv6" in self._flags and not any(":" in one for one in found):
            self._leave_out("bind", "is no IPv6 address, as flags = IPv6 requires; xinetd does not serve it")
        if len(found) > 1:
            wanted = [one for one in found if (":" in one) != ("IPv4" in self._flags)]
            host = next(iter(wanted), host)
            self._lose("bind", f"has several addresses, of which xinetd listens at one alone: {host}")
        return host

    def _refuse_types(self) -> None:
        if "RPC" in self._types:
            self._leave_out("type", "sockd does not register services with rpcbind(8)")
        for flag in self._flags:
            if flag == "SENSOR":
                self._sense()
            elif flag == "IDONLY" and "USERID" in self._values("log_on_success"):
                self.draft.listen["ident"] = "require"
            elif flag == "IDONLY":
                text = "IDONLY does nothing in xinetd without USERID in log_on_success"
                self._lose("flags", f'{text}; write ident = "require"')
            elif flag == "LABELED":
                self._leave_out("flags", "LABELED runs programs with the SELinux label of their client; sockd does not")
            elif flag not in KNOWN_FLAGS:
                self._lose("flags", f"{flag} has no equivalent")
        if "NAMEINARGS" in self._flags and ("server_args" not in self._found or "INTERNAL" in self._types):
            self._leave_out("flags", "NAMEINARGS needs server_args of a program; xinetd skips the service")
        if "TRAFFIC" in self._values("log_on_success") and "redirect" not in self._found:
            self._leave_out("log_on_success", "xinetd skips a service with TRAFFIC that is not redirected")

    def _sense(self) -> None:
        """Set for how long clients are denied; xinetd counts in minutes."""
        text = self._text("deny_time") or "NEVER"
        minutes = LONGEST_DENY_MINUTES if text == "FOREVER" else 0 if text == "NEVER" else max(int(text), 0)
        if not self._stream:
            self._leave_out("flags", "a sensor for datagrams would deny whoever is named as their sender")
        else:
            if minutes >= LONGEST_DENY_MINUTES:
                self._lose("deny_time", "sockd denies for 366 days at most, and no longer than it runs")
            self.draft.listen["deny_time"] = f"{min(minutes, LONGEST_DENY_MINUTES)}m" if minutes else "1s"
            self.draft.builtin = "discard"

    def _account(self) -> None:
        for key in ("user", "group"):
            if key in self._found:
                self.draft.program[key] = self._text(key)
        if self._text("user").isdecimal() and "group" not in self._found:
            self.draft.program["group"] = self._text("user")  # so xinetd has it, whatever passwd(5) says
        if self._text("groups") != "yes" and self._host.has_groups(self._text("user")):
            self.draft.program["groups"] = []

    def _serve(self, name: str) -> None:
        if "NOLIBWRAP" not in self._flags:
            self._wrap(name)
        if "redirect" in self._found:
            self._redirect()
        elif "SENSOR" in self._flags:
            self.draft.program.clear()
        elif "INTERNAL" in self._types:
            self.draft.program.clear()
            internal(self.draft, name, stream=self._stream)
        elif missing := [key for key in ("server", "user") if key not in self._found]:
            self.draft.leave_out(f"no {' and no '.join(missing)}; xinetd skips the service")
        else:
            path, words = self._text("server"), self._values("server_args")
            argv = words if "NAMEINARGS" in self._flags else (os.path.basename(path), *words)
            external(self.draft, path, argv, self._host, place=self._place("server"))
            self._attributes()

    def _wrap(self, name: str) -> None:
        """Ask hosts_access(5), where it has rules or `libwrap` a name in them."""
        daemon = (
            name if "redirect" in self._found or "INTERNAL" in self._types else os.path.basename(self._text("server"))
        )
        if "NAMEINARGS" in self._flags:
            daemon = os.path.basename(self._text("server_args").partition(" ")[0])
        if "libwrap" in self._found or self._host.access_rule:
            ask_access(self.draft, self._text("libwrap") or daemon, self._host, self._place("libwrap"))

    def _redirect(self) -> None:
        if not self._stream:
            return self._leave_out("redirect", "only connections can be redirected")
        if "user" not in self._found:
            return self.draft.leave_out("no user; xinetd skips the service")
        if self._text("wait") == "yes" or "NAMEINARGS" in self._flags:
            return self._leave_out("redirect", "goes neither with wait = yes nor with NAMEINARGS; xinetd skips it")
        host, port = self._values("redirect")
        target = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
        self.draft.program = {"relay": {"to": [target]}}
        return None

    def _attributes(self) -> None:
        """Set umask and nice of the program."""
        umask, nice = self._text("umask"), self._text("nice")
        if umask and int(umask, 8) != UMASK:
            self.draft.program["umask"] = f"{int(umask, 8):03o}"
        if nice:
            self.draft.program["nice"] = max(-20, min(int(nice), 19))

    def _admit(self) -> None:
        if "access_times" in self._found:  # whose last minute is included
            self.draft.listen["hours"] = [str(hours(text)) for text in self._values("access_times")]
        only, never = self._networks("only_from", closes=False), self._networks("no_access", closes=True)
        if "only_from" in self._found and not only:
            self._leave_out("only_from", "no client would be accepted")
        allow, deny = rules(only, never)
        self.draft.listen |= {"allow": allow} if allow else {}
        self.draft.listen |= {"deny": deny} if deny else {}

    def _texts(self) -> None:
        """Set what is sent to clients before they are served, or in place of that."""
        all_names = dict.fromkeys(name for names in _TEXTS.values() for name in names)  # banner is in both
        there = [name for name in all_names if name in self._found and self._has_text(name)]
        for key, names in _TEXTS.items():
            files = [self._text(name) for name in names if name in there]
            if files and not self._stream:
                self._lose(names[-1], "datagrams are sent no text of its own")
            elif files:
                self.draft.listen[key] = files
        if self.draft.listen.get("banner_files"):
            self.draft.listen["at_limit"] = "refuse"

    def _has_text(self, name: str) -> bool:
        """Tell whether the file of a banner is there; xinetd sends nothing in place of one that is not."""
        if self._host.has_file(self._text(name)):
            return True
        self._lose(name, "there is no such file; xinetd sends nothing")
        return False

    def _networks(self, key: str, *, closes: bool) -> list[Client]:
        """Read the clients of an attribute; those that cannot be converted are refused, and noted."""
        found: list[Client] = []
        is_ipv4 = any("//[" not in one and "//:" not in one for one in self.draft.addresses)
        for value in self._values(key):
            try:
                read = clients(value)
                if is_ipv4 and not closes and ":" in value and any(isinstance(one, IPv4Network) for one in read):
                    raise ValueError(f"{value} is a client of an IPv6 socket, and this one is of IPv4")
                found += read
            except ValueError as error:
                if closes:
                    self.draft.leave_out(
                        f"{key}: {error}; without it these clients would be accepted", self._place(key)
                    )
                else:
                    self.draft.lose(f"{key}: {error}; these clients are not accepted", self._place(key))
        if closes and (names := [one for one in found if isinstance(one, ClientName)]):
            text = "sockd refuses a client by a name that leads back to its address, xinetd by any; write networks"
            self.draft.lose(f"{key}: {' '.join(names)}: {text}", self._place(key))
        return found if is_ipv4 else with_mapped(found)

    def _limit(self) -> None:
        draft = self.draft
        for key in ("instances", "per_source"):
            if self._text(key) and not self._text(key).strip("+0"):
                self._leave_out(key, "no client would be served")
        if (limit := self._number("instances")) is not None:
            is_program = "exec" in draft.program
            table = draft.listen if draft.builtin else draft.program
            table["max_instances" if is_program else "max_connections"] = limit
            draft.listen["at_limit"] = "refuse"
        if (limit := self._number("per_source")) is not None:
            draft.listen |= {"max_connections_per_source": limit, "source_prefix_ipv6": 128}
        if "cps" in self._found:
            self._total_rate()
        if "max_load" in self._found:
            draft.listen["max_load"] = min(float(self._text("max_load")), 1e6)
        limits: dict[str, str | int | list[str]] = {}
        if (seconds := self._number("rlimit_cpu")) is not None:
            limits["cpu"] = f"{seconds}s"
        for name, key in SIZES.items():
            if (size := self._number(name)) is not None:
                limits[key] = format_size(size)
        if "rlimit_rss" in self._found:
            self._lose("rlimit_rss", "Linux has no such limit since 2.4.30 (getrlimit(2)); write limits = { memory }")
        if (files := self._number("rlimit_files")) is not None:
            limits["files"] = files
        if limits and "exec" in draft.program:
            draft.program["limits"] = limits

    def _total_rate(self) -> None:
        rate, pause = map(int, self._values("cps"))
        if rate > 0:  # to xinetd a number below 0 is a very large one
            self.draft.listen["total_rate"] = {"connections": rate, "pause": f"{max(pause, 0)}s"}

    def _environment(self) -> None:
        if "exec" not in self.draft.program or not ("env" in self._found or "passenv" in self._found):
            return
        own = {entry.partition("=")[0]: entry for entry in self._values("env")}  # of two the last one counts
        kept = self._values("passenv") if "passenv" in self._found else ("PATH",)
        self.draft.program["environment"] = [*(name for name in kept if name not in own), *own.values()]

    def _log(self) -> None:
        for key, logged in _LOGGED.items():
            for word in self._values(key):
                if word == "USERID" and self._stream and self._text("wait") != "yes":
                    self.draft.listen.setdefault("ident", "log")
                elif word not in logged and not (word == "TRAFFIC" and "redirect" in self._found):
                    self._lose(key, f"{word} is not logged")
        if "log_type" in self._found:
            self._lose("log_type", "a service has no log of its own; [daemon] log is for all of them")
