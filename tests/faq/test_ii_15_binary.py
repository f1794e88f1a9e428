# SPDX-License-Identifier: MIT
# Seen failing against a daemon that takes CR out of raw bytes as it does of lines, and one that cuts raw bytes into
# lines.
"""FAQ II.15: binary data in network byte order, from a C client and a Python client; no byte is changed on its way."""

from __future__ import annotations

import shutil
import struct
import subprocess

import pytest

APP = """
import struct, sockd

RECORD = struct.Struct("!IHqd")

class Records(sockd.Protocol):
    def connection_made(self, transport):
        self.transport, self.rest = transport, b""

    def data_received(self, data):
        data = self.rest + data
        whole = len(data) - len(data) % RECORD.size
        self.rest = data[whole:]
        for a, b, c, d in RECORD.iter_unpack(data[:whole]):
            self.transport.write(RECORD.pack(a + 1, b + 1, c - 1, d * 2))

def record(datagram):
    a, b, c, d = RECORD.unpack(datagram)
    return RECORD.pack(a + 1, b + 1, c - 1, d * 2)

plain = sockd.Service(framing=sockd.Raw())
plain.frame(record)
"""
RECORD = struct.Struct("!IHqd")
SENT = [(1, 2, 3, 0.5), (0x0A0D0A0C, 0x0D09, -(2**62), -1e300), (0, 0, 0, 0.0)]
ANSWERED = [(a + 1, b + 1, c - 1, d * 2) for a, b, c, d in SENT]
CLIENT = r"""
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>

/* The number 0x01020304 and 0x0506 by htonl() and htons(), 7 and 1.5 byte by byte, whatever the host's order. */
int main(int argc, char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[argc - 1]))};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        return 1;
    unsigned char record[22] = {0}, answer[22];
    uint32_t a = htonl(0x01020304), first;
    uint16_t b = htons(0x0506), second;
    memcpy(record, &a, 4);
    memcpy(record + 4, &b, 2);
    record[13] = 7;
    record[14] = 0x3f;
    record[15] = 0xf8;
    if (write(fd, record, 22) != 22)
        return 2;
    for (int at = 0; at < 22;) {
        ssize_t got = read(fd, answer + at, (size_t)(22 - at));
        if (got <= 0)
            return 3;
        at += (int)got;
    }
    memcpy(&first, answer, 4);
    memcpy(&second, answer + 4, 2);
    printf("%x %x %d %x%02x\n", ntohl(first), ntohs(second), answer[13], answer[14], answer[15]);
    return 0;
}
"""


def test_records_of_a_python_client(daemon, read_exactly):
    client = daemon("tcp://127.0.0.1:0=app:Records", app=APP).connect()
    data = b"".join(RECORD.pack(*one) for one in SENT)
    for byte in data:  # cut anywhere
        client.send(bytes([byte]))
    assert list(RECORD.iter_unpack(read_exactly(client, len(data)))) == ANSWERED


def test_a_datagram_is_a_record(daemon):
    client = daemon("udp://127.0.0.1:0=app:plain", app=APP).connect()
    for one, answered in zip(SENT, ANSWERED, strict=True):
        client.send(RECORD.pack(*one))
        assert RECORD.unpack(client.recv(100)) == answered


def test_a_record_of_a_c_client(daemon, tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    (tmp_path / "client.c").write_text(CLIENT)
    subprocess.run([compiler, "-o", tmp_path / "client", tmp_path / "client.c"], check=True)
    one = daemon("tcp://127.0.0.1:0=app:Records", app=APP)
    done = subprocess.run([tmp_path / "client", str(one.port())], capture_output=True, text=True, timeout=20)
    assert done.stdout == "1020305 507 6 4008\n"  # 0x4008...: 3.0


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"])
def test_every_byte_value_passes_unchanged(daemon, read_exactly, address):
    client = daemon(f"{address}=echo").connect()
    every = bytes(range(256)) + b"\r\n\r\n\n\r\0\xff"
    client.sendall(every)
    assert read_exactly(client, len(every)) == every
