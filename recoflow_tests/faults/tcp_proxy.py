"""A TCP proxy, run as a script: PORT TARGET. Stopped by SIGSTOP it is a black hole: connections stay and are silent."""

from __future__ import annotations

import socket
import sys
import threading


def carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        target.close()


def main(port: int, target: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listening:
        while True:
            near, _ = listening.accept()
            try:
                far = socket.create_connection(("127.0.0.1", target))
            except OSError:
                near.close()
                continue
            for pair in ((near, far), (far, near)):
                threading.Thread(target=carry, args=pair, daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
