# SPDX-License-Identifier: MIT
"""A line in, the line in upper case out, with the standard library's socketserver.

python socketserver_lines.py tcp://127.0.0.1:0     # a thread for each connection
python socketserver_lines.py                       # the connection of descriptor 0, as inetd passes it
"""

import socket
import socketserver
import sys


class Upper(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 4096


if __name__ == "__main__":
    if sys.argv[1:]:
        host, _, port = sys.argv[1].removeprefix("tcp://").rpartition(":")
        with Server((host, int(port)), Upper) as server:
            print("listening", server.server_address[1], flush=True)
            server.serve_forever()
    with socket.socket(fileno=0) as connection:
        Upper(connection, connection.getpeername(), None)
