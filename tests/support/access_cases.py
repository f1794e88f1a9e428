# SPDX-License-Identifier: MIT
"""Cases of hosts.allow and hosts.deny: the two texts, a daemon, a client's name and address, and what libwrap decides.

The names are in HOSTS, a file in place of /etc/hosts where the real library is asked.
"""

from __future__ import annotations

from typing import NamedTuple

HOSTS = {
    "www.example.com": "192.0.2.7",
    "ftp.example.com": "192.0.2.8",
    "mail.example.org": "198.51.100.9",
    "printer": "10.1.2.3",
    "six.example.com": "2001:db8::7",
}


class AccessCase(NamedTuple):
    """One; a client is a name of HOSTS, or an address that has none."""

    allow: str
    deny: str
    client: str
    expected: bool
    daemon: str = "in.testd"

    @property
    def name(self):
        return self.client if self.client in HOSTS else "unknown"

    @property
    def host(self):
        return HOSTS.get(self.client, self.client)


WWW, FTP, MAIL, PRINTER, SIX = HOSTS
NOBODY = "203.0.113.5"
DENY = "ALL: ALL"

CASES = [
    AccessCase("", "", NOBODY, True),
    AccessCase("", DENY, NOBODY, False),
    AccessCase("ALL: ALL", DENY, NOBODY, True),
    AccessCase("in.testd: ALL", DENY, NOBODY, True),
    AccessCase("in.otherd: ALL", DENY, NOBODY, False),
    AccessCase("in.testd, in.otherd: ALL", DENY, NOBODY, True),
    AccessCase("in.otherd in.testd: ALL", DENY, NOBODY, True),
    AccessCase("IN.TESTD: ALL", DENY, NOBODY, True),
    AccessCase("in.test*: ALL", DENY, NOBODY, True),
    AccessCase("ALL EXCEPT in.testd: ALL", DENY, NOBODY, False),
    AccessCase("ALL EXCEPT in.otherd: ALL", DENY, NOBODY, True),
    AccessCase("ALL: 192.0.2.7", DENY, WWW, True),
    AccessCase("ALL: 192.0.2.7", DENY, FTP, False),
    AccessCase("ALL: 192.0.2.", DENY, WWW, True),
    AccessCase("ALL: 192.0.", DENY, WWW, True),
    AccessCase("ALL: 192.0.3.", DENY, WWW, False),
    AccessCase("ALL: 192.0.2.0/24", DENY, WWW, True),
    AccessCase("ALL: 192.0.2.0/255.255.255.0", DENY, WWW, True),
    AccessCase("ALL: 192.0.2.0/255.255.255.248", DENY, FTP, False),
    AccessCase("ALL: 192.0.2.0/29", DENY, WWW, True),
    AccessCase("ALL: 192.0.2.7/24", DENY, WWW, False),
    AccessCase("ALL: 192.0.2.7/32", DENY, WWW, True),
    AccessCase("ALL: .example.com", DENY, WWW, True),
    AccessCase("ALL: .example.com", DENY, MAIL, False),
    AccessCase("ALL: .EXAMPLE.com", DENY, WWW, True),
    AccessCase("ALL: example.com", DENY, WWW, False),
    AccessCase("ALL: .example.com", DENY, NOBODY, False),
    AccessCase("ALL: www.example.com", DENY, WWW, True),
    AccessCase("ALL: www.example.com", DENY, FTP, False),
    AccessCase("ALL: *.example.com", DENY, WWW, True),
    AccessCase("ALL: ???.example.com", DENY, FTP, True),
    AccessCase("ALL: ????.example.com", DENY, FTP, False),
    AccessCase("ALL: .example.com EXCEPT ftp.example.com", DENY, WWW, True),
    AccessCase("ALL: .example.com EXCEPT ftp.example.com", DENY, FTP, False),
    AccessCase("ALL: ALL EXCEPT .example.com EXCEPT www.example.com", DENY, WWW, True),
    AccessCase("ALL: ALL EXCEPT .example.com EXCEPT www.example.com", DENY, FTP, False),
    AccessCase("ALL: ALL EXCEPT .example.com EXCEPT www.example.com", DENY, MAIL, True),
    AccessCase("ALL: LOCAL", DENY, PRINTER, True),
    AccessCase("ALL: LOCAL", DENY, WWW, False),
    AccessCase("ALL: LOCAL", DENY, NOBODY, False),
    AccessCase("ALL: LOCAL, .example.com EXCEPT 192.0.2.8", DENY, FTP, False),
    AccessCase("ALL: KNOWN", DENY, WWW, True),
    AccessCase("ALL: KNOWN", DENY, NOBODY, False),
    AccessCase("ALL: UNKNOWN", DENY, NOBODY, True),
    AccessCase("ALL: UNKNOWN", DENY, WWW, False),
    AccessCase("ALL: [2001:db8::]/32", DENY, SIX, True),
    AccessCase("ALL: [2001:db8::7]", DENY, SIX, True),
    AccessCase("ALL: [2001:db9::]/32", DENY, SIX, False),
    AccessCase("ALL: [2001:db8::]/32", DENY, NOBODY, False),
    AccessCase("in.testd: [2001:db8::]/32 : deny", "", SIX, False),
    AccessCase("ALL: ALL@192.0.2.7", DENY, WWW, True),
    AccessCase("ALL: root@192.0.2.7", DENY, WWW, False),
    AccessCase("ALL: .example.com : deny\nALL: ALL", "", WWW, False),
    AccessCase("ALL: .example.com : deny\nALL: ALL", "", MAIL, True),
    AccessCase("ALL: .example.com : allow\nALL: ALL : deny", "", WWW, True),
    AccessCase("ALL: .example.com : allow\nALL: ALL : deny", "", MAIL, False),
    AccessCase("", "ALL: ALL : allow", NOBODY, True),
    AccessCase("ALL: ALL : severity mail.info", DENY, NOBODY, True),
    AccessCase("ALL: ALL : severity mail.info : allow", DENY, NOBODY, True),
    AccessCase("ALL: ALL : DENY", "", NOBODY, False),
    AccessCase("# a comment: ALL\nALL: ALL", DENY, NOBODY, True),
    AccessCase("#ALL: ALL", DENY, NOBODY, False),
    AccessCase("ALL: \\\n .example.com \\\n 10.1.2.3", DENY, PRINTER, True),
    AccessCase("ALL ALL\nALL: 192.0.2.7", DENY, WWW, True),
    AccessCase("ALL ALL", DENY, WWW, False),
    AccessCase("ALL: 10. 192.0.2.7", DENY, WWW, True),
    AccessCase("ALL:ALL", DENY, WWW, True),
    AccessCase("  ALL : ALL", DENY, WWW, True),
    AccessCase("ALL: @admins", DENY, WWW, False),
    AccessCase("in.testd:.example.com:allow", DENY, WWW, True),
    AccessCase("ALL: 192.0.2.7 , 192.0.2.8", DENY, FTP, True),
    AccessCase("ALL:\t192.0.2.8\t", DENY, FTP, True),
    AccessCase("ALL: 0.0.0.0/0", DENY, NOBODY, False),
    AccessCase("ALL: 0.0.0.0/0.0.0.0", DENY, NOBODY, True),
    AccessCase("ALL: 192.0.2.0/33", DENY, WWW, False),
    AccessCase("ALL: 192.0.2.7/255.255.255.255", DENY, WWW, False),
    AccessCase("ALL: [2001:db8::7]/128", DENY, SIX, True),
    AccessCase("ALL: 2001:db8::7", DENY, SIX, False),
    AccessCase("ALL: [::]/0", DENY, SIX, True),
    AccessCase("ALL: *", DENY, WWW, True),
    AccessCase("ALL: 192.0.2.*", DENY, WWW, True),
    AccessCase("ALL: 192.0.2.?", DENY, NOBODY, False),
    AccessCase("all: all", DENY, NOBODY, True),
    AccessCase("ALL: local", DENY, PRINTER, True),
    AccessCase("ALL: ALL except 192.0.2.7", DENY, WWW, False),
    AccessCase("ALL: WWW.example.COM", DENY, WWW, True),
    AccessCase("ALL: www.example.com.", DENY, WWW, False),
    AccessCase("ALL: 192.0.2.7 : ALLOW : severity mail.info", DENY, WWW, False),
    AccessCase("ALL: 192.0.2.7 :", DENY, WWW, False),
    AccessCase(": ALL", DENY, WWW, False),
    AccessCase("ALL:", DENY, WWW, False),
    AccessCase("ALL: ALL \\", DENY, WWW, False),
    AccessCase("ALL: .", DENY, WWW, False),
    AccessCase("ALL: /nonexistent/file", DENY, WWW, False),
]
