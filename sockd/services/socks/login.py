# SPDX-License-Identifier: MIT
"""A client's password: known from before, or checked in a thread, and answered slowly where it is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from sockd.net.loop.blocking_calls import BlockingCalls
    from sockd.services.socks.egress import Cancellable
    from sockd.services.socks.users import Users
    from sockd.wire.socks_server import Login

WRONG_SECONDS = 1.0
"""Postfix smtpd_error_sleep_time: who guesses has one try a second, from however many connections."""


class LoginCheck:
    """Checks the password of one client.

    Args:
        users: who may log in.
        hashers: threads, in which a password is hashed.
        source: whose share of the threads it takes.
    """

    def __init__(self, users: Users, hashers: BlockingCalls, source: Hashable) -> None:
        self._users = users
        self._hashers = hashers
        self._source = source

    def is_known(self, login: Login) -> bool:
        """Tell whether the same was right a while ago."""
        return self._users.remembers(login.user, login.password)

    def ask(self, login: Login, done: Callable[[bool | BaseException], None], seconds: float) -> Cancellable:
        """Check it, and call back with the verdict, or with why there is none.

        Args:
            seconds: after which there is none.
        """
        users, user, password = self._users, login.user, login.password

        def checked(verdict: bool | BaseException) -> None:
            if verdict is True:
                users.remember(user, password)
            elif verdict is False:
                self._hashers.rest(self._source, WRONG_SECONDS)
            done(verdict)

        return self._hashers.ask(lambda: users.check(user, password), checked, seconds, self._source)


__all__ = ["WRONG_SECONDS", "LoginCheck"]
