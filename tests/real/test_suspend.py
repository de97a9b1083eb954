"""SIGSTOP and SIGCONT: a process that slept far past its deadlines pings first, and keeps a link that is still good."""

import os
import signal
import sys
from pathlib import Path

import anyio
import pytest

from hawk.testing import Broker

pytestmark = pytest.mark.anyio

KEEP_ALIVE_S, PING_TIMEOUT_S = 0.4, 0.3
SUSPENDED_S = 1.5 * (1.5 * KEEP_ALIVE_S + PING_TIMEOUT_S)
PATIENCE_S = 20


async def test_a_suspended_hawk_keeps_its_link_if_the_broker_still_answers(tmp_path: Path, anyio_backend: str) -> None:
    settings = f"  health_check_interval: {KEEP_ALIVE_S}\n  ping_timeout_s: {PING_TIMEOUT_S}\n"
    async with Broker() as broker:
        port = await broker.listen()
        (tmp_path / "hawk.yaml").write_text(f"mqtt:\n  broker: 127.0.0.1\n  port: {port}\n{settings}")

        def heard(packet: str) -> int:
            return sum(record.packet == packet and record.direction == "in" for record in broker.records)

        command = [sys.executable, "-m", "hawk", "sub", "-t", "news", "--config", str(tmp_path / "hawk.yaml")]
        async with await anyio.open_process(command, stderr=None, stdin=None) as child:
            try:
                with anyio.fail_after(PATIENCE_S):
                    while heard("PINGREQ") < 2:
                        await anyio.sleep(0.01)
                    # The broker's own patience ends with the keep alive: it shall not be what is tested.
                    broker.pause()
                    os.kill(child.pid, signal.SIGSTOP)
                    await anyio.sleep(SUSPENDED_S)
                    pings = heard("PINGREQ")
                    broker.resume()
                    os.kill(child.pid, signal.SIGCONT)
                    while heard("PINGREQ") < pings + 4:
                        await anyio.sleep(0.01)
                assert heard("CONNECT") == 1, "it hung up before anybody could answer"
                broker.pause()
                with anyio.fail_after(PATIENCE_S):
                    os.kill(child.pid, signal.SIGSTOP)
                    await anyio.sleep(SUSPENDED_S)
                    os.kill(child.pid, signal.SIGCONT)
                    await anyio.sleep(SUSPENDED_S)
                    broker.resume()
                    while heard("CONNECT") < 2:
                        await anyio.sleep(0.01)
            finally:
                child.kill()
