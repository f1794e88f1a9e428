# SPDX-License-Identifier: MIT
"""Settings -> a plan of listeners: services resolved, addresses parsed, nothing bound."""

from __future__ import annotations

import socket
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, cast

from sockd.buffer.encoder import PayloadEncoder
from sockd.buffer.errors import PayloadError
from sockd.config.substitute import hidden
from sockd.daemon.programs import identified
from sockd.errors import ConfigurationError, HandlerError, under_key
from sockd.files.texts import read_texts
from sockd.lazy import lazily, load
from sockd.net.listen.delivery import ClientTexts
from sockd.process.inherited_sockets import has_any_port, stored_name
from sockd.services import handlers_path, resolve
from sockd.services.handlers.packets import check_packets
from sockd.settings.address import Address
from sockd.settings.networks import networks_among
from sockd.values import dataclass, replace
from sockd.wire.framing import Line, Packet, Raw, Record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sockd.config import check_listen
    from sockd.net.listen import path_access, source_filter
    from sockd.net.listen.bind import ServerSocket
    from sockd.net.tls import context, handshake, starttls
    from sockd.net.tls.context import TlsContext
    from sockd.services.spec import ServiceSpec
    from sockd.settings import DaemonSettings, Settings
    from sockd.settings.address import Scheme
    from sockd.settings.listen import ListenSettings
    from sockd.text import KeyPath
    from sockd.wire.framing import Framing
else:
    check_listen = lazily("sockd.config.check_listen", resident=True)
    context = lazily("sockd.net.tls.context")
    handshake = lazily("sockd.net.tls.handshake")
    starttls = lazily("sockd.net.tls.starttls")
    path_access = lazily("sockd.net.listen.path_access", resident=True)
    source_filter = lazily("sockd.net.listen.source_filter", resident=True)

__all__ = ["ListenerPlan", "check_opened", "listen_addresses", "number_equal", "plan"]


@dataclass(frozen=True)
class ListenerPlan:
    """One [[listen]], resolved: its addresses and its service.

    Attributes:
        index: its number in the configuration.
        numbers: of each address among those of the service that are equal because they have port 0.
    """

    settings: ListenSettings
    addresses: tuple[Address, ...]
    service: ServiceSpec
    tls: TlsContext | None = None
    texts: ClientTexts = ClientTexts()
    index: int = 0
    numbers: tuple[int, ...] = ()

    @property
    def begins_with_tls(self) -> bool:
        """Tell whether a client has to begin with a handshake."""
        return self.settings.tls is not None and not self.settings.tls.starttls

    def find_key(self, address: Address) -> KeyPath:
        """Return the key of one of its addresses."""
        return address_key(self.index, self.settings, self._find(address))

    def find_number(self, address: Address) -> int:
        """Return the number of one of its addresses among equal ones."""
        return self.numbers[self._find(address)]

    def find_name(self, address: Address) -> str:
        """Return the name of the socket of one of its addresses, for another process."""
        return stored_name(address, self.settings.service, self.find_number(address))

    def _find(self, address: Address) -> int:
        return next(at for at, one in enumerate(self.addresses) if one is address)


def plan(settings: Settings) -> list[ListenerPlan]:
    """Resolve every service and address; nothing is bound.

    Args:
        settings: checked.

    Raises:
        ConfigurationError: a handler cannot be imported or is none, an address
            cannot be listened on, a service cannot answer datagrams, or a certificate cannot be used.
    """
    with hidden():
        return _plan(settings)


def _plan(settings: Settings) -> list[ListenerPlan]:
    handlers_path.configure(settings.daemon.path)
    specs: dict[str, ServiceSpec] = {}
    plans = []
    for index, listen in enumerate(settings.listen):
        if listen.service not in specs:
            specs[listen.service] = identified(resolve.resolve(listen.service, settings.service), settings.daemon)
        with under_key("listen", index):
            one = _plan_listener(index, listen, specs[listen.service], settings.daemon)
        plans.append(one)
    numbers = iter(number_equal([(address, one.settings.service) for one in plans for address in one.addresses]))
    return [replace(one, numbers=tuple(islice(numbers, len(one.addresses)))) for one in plans]


def number_equal(wanted: Iterable[tuple[Address, str]]) -> list[int]:
    """Number the addresses that are equal for one service, because they have port 0; all others have 0."""
    seen: Counter[tuple[Address, str]] = Counter()
    numbers = []
    for one in wanted:
        numbers.append(seen[one])
        seen[one] += has_any_port(one[0])
    return numbers


def _plan_listener(index: int, listen: ListenSettings, spec: ServiceSpec, daemon: DaemonSettings) -> ListenerPlan:
    addresses = listen_addresses(index, listen)
    if listen.hosts_access is not None and daemon.chroot is not None:
        text = "its files are not found within daemon.chroot; write their rules as allow and deny"
        raise ConfigurationError(text, key=("hosts_access",))
    if listen.owner is not None or listen.group is not None:
        path_access.PathAccess.from_settings(listen)  # names that do not exist
    check_goodbye(spec, spec.framing)
    for number, address in enumerate(addresses):
        with under_key(*address_key(index, listen, number)):
            _check_service(address, spec)
    tls = _tls(listen, ("listen", index, "tls"), spec)
    return ListenerPlan(listen, addresses, spec, tls, _texts(listen), index)


def _check_service(address: Address, spec: ServiceSpec) -> None:
    if address.scheme in ("udp", "unixgram"):
        check_datagrams(address, spec)
    elif address.scheme == "unixpacket":
        check_packets(address, spec)
        check_goodbye(spec, Packet.like(spec.framing))
    elif address.scheme in ("tcp", "unix", "vsock") and not spec.kind.serves_streams:
        raise HandlerError(f"{address}: service {spec.name} serves only datagrams, at udp or unixgram")


def _texts(listen: ListenSettings) -> ClientTexts:
    with under_key("greeting_files"):
        greeting = read_texts(listen.greeting_files)
    with under_key("banner_files"):
        return ClientTexts(greeting, read_texts(listen.banner_files))


def _tls(listen: ListenSettings, key: KeyPath, spec: ServiceSpec) -> TlsContext | None:
    if listen.tls is None:
        return None
    if listen.tls.starttls and not spec.kind.speaks:
        who = "a protocol class, a coroutine or a function with the connection as its second argument"
        text = f"service {spec.name} cannot call start_tls(), only {who} can; without starttls, TLS begins at once"
        raise ConfigurationError(f"true: {text}", key=("tls", "starttls"))
    load(handshake, starttls)  # before its first client comes
    return context.TlsContext(listen.tls, key)


def listen_addresses(index: int, listen: ListenSettings) -> tuple[Address, ...]:
    """Return the addresses of a [[listen]], each a value of its own.

    Raises:
        AddressError: one cannot be listened on.
    """
    for number, address in enumerate(listen.every):
        with under_key(*address_key(index, listen, number)):
            address.check_bindable()
    return tuple(map(replace, listen.every))


def address_key(index: int, listen: ListenSettings, number: int) -> KeyPath:
    """Return the key of an address of a listener."""
    return ("listen", index, "addresses", number) if listen.addresses else ("listen", index, "address")


def check_opened(opened: ServerSocket, address: Address, plan: ListenerPlan) -> None:
    """Refuse a service that cannot serve a socket; restrict one that a program accepts or receives on by itself.

    Raises:
        HandlerError, SystemFault: names both.
    """
    with under_key(*plan.find_key(address)):
        _check_opened(opened, address, plan)


def _check_opened(opened: ServerSocket, address: Address, plan: ListenerPlan) -> None:
    if opened.endpoint.type == socket.SOCK_DGRAM:
        check_datagrams(address, plan.service)
    if opened.endpoint.type == socket.SOCK_SEQPACKET:
        check_packets(address, plan.service)
        check_goodbye(plan.service, Packet.like(plan.service.framing))
    if address.scheme == "fd":
        _check_passed(opened, address, plan)
    if plan.service.kind.shares_socket:
        allow, deny = networks_among(plan.settings.allow), networks_among(plan.settings.deny)
        source_filter.restrict(opened.socket, allow, deny)


def _check_passed(opened: ServerSocket, written: Address, plan: ListenerPlan) -> None:
    """Hold a passed socket against the rules of a configured one: only now it is known what it is."""
    text = str(opened.endpoint)
    address = Address(cast("Scheme", text.partition(":")[0]))  # the rules ask for no more of it
    settings = replace(plan.settings, address=address, addresses=())
    waits = plan.service.kind.shares_socket
    for problem in check_listen.check_kinds(("listen", plan.index), settings, waits=waits):
        raise ConfigurationError(f"{problem.text} ({written} is {text})", key=problem.path)


def check_goodbye(spec: ServiceSpec, framing: Framing) -> None:
    """Refuse a goodbye that cannot be a frame.

    Raises:
        HandlerError: names its key.
    """
    if not spec.goodbye or isinstance(framing, Line | Raw):
        return
    key = ("service", spec.name, "goodbye")
    if isinstance(framing, Record):
        raise HandlerError("goodbye is no record; remove it", key=key)
    try:
        PayloadEncoder(framing).encode(spec.goodbye)
    except PayloadError as error:
        raise HandlerError(f"goodbye cannot be sent: {error}", key=key) from None


def check_datagrams(address: Address, spec: ServiceSpec) -> None:
    """Refuse a service that cannot answer the datagrams of an address.

    Raises:
        HandlerError: names both.
    """
    if not spec.kind.answers_datagrams:
        raise HandlerError(f"{address}: service {spec.name} cannot answer datagrams; {spec.kind.instead}")
