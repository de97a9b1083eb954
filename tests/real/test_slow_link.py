"""A large message on a slow link: the system's own buffers must not hide from hawk that it gets on."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import pytest

import hawk

pytestmark = pytest.mark.anyio

BYTES_PER_S = 500_000
BUFFER_BYTES = 32 * 1024
PATIENCE_S = 30.0


@contextmanager
def slow_pipe(port: int) -> Iterator[int]:
    """A port that leads to that one, with small buffers and little bandwidth towards it. For one connection after another."""
    with socket.socket() as listener:
        # Before it listens, so that it holds for what is accepted.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener, port))
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def serve(listener: socket.socket, port: int) -> None:
    with suppress(OSError):
        while True:
            near, _ = listener.accept()
            with near, socket.create_connection(("127.0.0.1", port)) as far:
                back = threading.Thread(target=carry, args=(far, near, 0.0))
                back.start()
                carry(near, far, BUFFER_BYTES / BYTES_PER_S)
                back.join()


def carry(source: socket.socket, sink: socket.socket, pause_s: float) -> None:
    """`pause_s` after each full buffer. The end of one side is the end of both."""
    with suppress(OSError):
        while data := source.recv(BUFFER_BYTES):
            sink.sendall(data)
            time.sleep(pause_s * len(data) / BUFFER_BYTES)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


async def test_a_message_that_takes_longer_than_a_ping_may_needs_one_link(mosquitto: Any) -> None:
    with slow_pipe(mosquitto.port) as port, anyio.fail_after(PATIENCE_S):
        url = f"mqtt://127.0.0.1:{port}"
        async with hawk.open_mqtt(url, health_check_interval=1.0, ping_timeout_s=0.5, ack_timeout_s=1.5) as mqtt:
            await mqtt.connect()
            began_at = time.monotonic()
            await (await mqtt.publish("slow", bytes(2_000_000), qos=1)).acknowledged()
            assert time.monotonic() - began_at > 2.0, "the link was slower than any of its patience"
            assert mqtt.stats["total_connections"] == 1
