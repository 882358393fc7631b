"""Programs that tests of the wires run inside a host."""

import socket
import time

PORT = 7000

SERVE = f"""
import socket, sys, threading

def answer(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)

with socket.create_server((sys.argv[1], {PORT})) as server:
    print("ready", flush=True)
    while True:
        threading.Thread(target=answer, args=server.accept()[:1], daemon=True).start()
"""
"""TCP: sends back what it gets; argument: its address."""

COUNT = f"""
import socket, sys

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
    # SO_RCVBUFFORCE: a slow receiver must not look like a lossy wire.
    receiver.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
    receiver.bind((sys.argv[1], {PORT}))
    receiver.settimeout(float(sys.argv[2]))
    print("ready", flush=True)
    try:
        while True:
            print(receiver.recv(2000).decode(), flush=True)
    except TimeoutError:
        print("end", flush=True)
"""
"""UDP: prints the datagrams it gets, until none comes for the seconds of its second argument."""


def round_trip(connection: socket.socket, data: bytes) -> float:
    """Seconds until an echo server has sent all data back; AssertionError if it is not the same."""
    started = time.perf_counter()
    connection.sendall(data)
    back = bytearray()
    while len(back) < len(data):
        part = connection.recv(65_536)
        assert part, "the other end has closed"
        back += part
    assert back == data
    return time.perf_counter() - started
