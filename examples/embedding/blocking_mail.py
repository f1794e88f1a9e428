# SPDX-License-Identifier: MIT
"""sockd.buffer under blocking sockets: the receiving end of SMTP, as far as its framing goes.

    python blocking_mail.py [PORT]                  # prints "listening PORT"
    nc -C 127.0.0.1 PORT                            # HELO a, DATA, lines, a dot alone, QUIT

Commands are lines, a message is a dot-stuffed block: the framing changes between two
frames, and what the peer has sent ahead is cut as it must be.  One thread a connection.
"""

import socket
import sys
import threading

from sockd.buffer import DotBlock, FrameError, Line, ReceiveBuffer, SendBuffer

COMMANDS = Line(512, b"\r\n")  # RFC 5321 4.5.3.1.4
MESSAGE = DotBlock(1_000_000)


def serve(connection: socket.socket) -> None:
    """Serve one connection to its end."""
    received, answers = ReceiveBuffer(COMMANDS), SendBuffer(COMMANDS)
    answers.append(b"220 here")
    with connection:
        while flush(connection, answers) and received.receive_from(connection):
            try:
                for frame in received:
                    answers.append(answer(received, frame))
                    if frame.upper() == b"QUIT" and received.framing is COMMANDS:
                        flush(connection, answers)
                        return
                received.check()
            except FrameError as error:
                answers.append(b"500 " + str(error).encode())
                flush(connection, answers)
                return


def answer(received: ReceiveBuffer, frame: bytes) -> bytes:
    """Answer a command, or the message."""
    if received.framing is MESSAGE:
        received.framing = COMMANDS
        return b"250 %d bytes in %d lines" % (len(frame), frame.count(b"\n"))
    if frame.upper() == b"DATA":
        received.framing = MESSAGE
        return b"354 end with a dot"
    return b"221 bye" if frame.upper() == b"QUIT" else b"250 ok"


def flush(connection: socket.socket, answers: SendBuffer) -> bool:
    """Send everything; false when the peer is gone."""
    try:
        while answers:
            answers.send_to(connection)
    except ConnectionError:
        return False
    return True


def main(port: int) -> None:
    """Serve on 127.0.0.1."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        print("listening", listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
