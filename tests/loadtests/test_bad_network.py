"""The relay that is a bad network: what is sent arrives late, in order, or not at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from loadtests.bad_network import NetworkFaults, bad_network_to

GOOD = NetworkFaults(delay_ms=0, jitter_ms=0, stall_every_s=0, drop_every_s=0)
PATIENCE_S = 30.0


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets; its port."""

    def answer(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65_536):
                connection.sendall(data)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := connection.recv(65_536)):
        data += more
    return data


def test_everything_arrives_in_order_and_late(echo: int) -> None:
    faults = NetworkFaults(delay_ms=50, jitter_ms=30, stall_every_s=0, drop_every_s=0)
    sent = bytes(range(256)) * 4000
    with bad_network_to(echo, faults) as network, connect(network.port) as connection:
        begin_s = time.monotonic()
        connection.sendall(b"!")
        assert connection.recv(1) == b"!"
        assert time.monotonic() - begin_s >= 0.1  # there and back
        threading.Thread(target=connection.sendall, args=(sent,), daemon=True).start()
        assert receive(connection, len(sent)) == sent
        assert network.accepted == 1


def test_an_end_is_passed_on(echo: int) -> None:
    with bad_network_to(echo, GOOD) as network, connect(network.port) as connection:
        connection.sendall(b"last")
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection, 5) == b"last"


def test_connections_are_cut_and_new_ones_work(echo: int) -> None:
    faults = NetworkFaults(delay_ms=0, jitter_ms=0, stall_every_s=0, drop_every_s=0.2)
    with bad_network_to(echo, faults) as network:
        with connect(network.port) as connection, suppress(ConnectionResetError):
            assert connection.recv(1) == b""
        assert network.dropped >= 1
        echoed = b""
        while echoed != b"again":  # each may be cut, too
            with connect(network.port) as connection, suppress(OSError):
                connection.sendall(b"again")
                echoed = receive(connection, 5)


def test_nothing_passes_during_a_stall(echo: int) -> None:
    faults = NetworkFaults(delay_ms=0, jitter_ms=0, stall_every_s=0.1, stall_s=60, drop_every_s=0)
    with bad_network_to(echo, faults) as network, connect(network.port) as connection:
        while not network.stalled:
            time.sleep(0.01)
        connection.sendall(b"!")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_a_stall_ends(echo: int) -> None:
    faults = NetworkFaults(delay_ms=0, jitter_ms=0, stall_every_s=0.1, stall_s=0.2, drop_every_s=0)
    with bad_network_to(echo, faults) as network, connect(network.port) as connection:
        while not network.stalled:
            time.sleep(0.01)
        connection.sendall(b"!")
        assert connection.recv(1) == b"!"


def test_a_service_that_is_away_refuses(echo: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = int(listener.getsockname()[1])
    with bad_network_to(nobody, GOOD) as network, connect(network.port) as connection:
        assert connection.recv(1) == b""
