"""The command line as a shell uses it: a file of lines into `hawk pub -l`, while the broker starts again twice."""

import subprocess
import sys
import threading
import time
from typing import IO, Any

from hawk.testing.history import lost, reordered

LINES = 20_000
AT_ONCE = 200
RESTARTS_AFTER = (4000, 10_000)
DOWN_S = 0.2
PATIENCE_S = 60


class Feeder:
    """Writes the lines as a program would that makes them one after the other; `fed` of them have been taken."""

    def __init__(self, lines: list[bytes], sink: IO[bytes]) -> None:
        self.fed = 0
        self._lines = lines
        self._sink = sink
        self.thread = threading.Thread(target=self._feed)
        self.thread.start()

    def _feed(self) -> None:
        try:
            with self._sink:
                for start in range(0, len(self._lines), AT_ONCE):
                    self._sink.write(b"".join(line + b"\n" for line in self._lines[start : start + AT_ONCE]))
                    self._sink.flush()
                    self.fed += AT_ONCE
                    time.sleep(0.01)
        except BrokenPipeError:
            # It ended before it had read everything: the test sees what it says and how it ended.
            return


def test_every_line_arrives_in_order_while_the_broker_starts_again_twice(mosquitto: Any, witness: Any) -> None:
    lines = [f"line {number}".encode() for number in range(LINES)]
    command = [sys.executable, "-m", "hawk", "pub", "-h", "127.0.0.1", "-p", str(mosquitto.port), "-t", "lines"]
    with (
        witness(mosquitto.port, "lines") as seen,
        subprocess.Popen([*command, "-l", "-q", "1"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as pub,
    ):
        assert pub.stdin is not None
        feeder = Feeder(lines, pub.stdin)
        try:
            fed_at_restart = []
            for messages in RESTARTS_AFTER:
                while seen.distinct < messages and pub.poll() is None:
                    time.sleep(0.005)
                mosquitto.terminate()
                fed_at_restart.append(feeder.fed)
                time.sleep(DOWN_S)
                mosquitto.start()
            feeder.thread.join(PATIENCE_S)
            assert pub.stderr is not None
            said = pub.stderr.read().decode()
            assert pub.wait(PATIENCE_S) == 0, said
        finally:
            pub.kill()
            feeder.thread.join(PATIENCE_S)
        seen.wait_for(LINES)
    assert max(fed_at_restart) < LINES, "the restarts came too late to interrupt anything"
    assert lost(lines, seen.arrived) == []
    assert reordered(lines, seen.arrived) == []
    assert seen.resumed == [True] * len(RESTARTS_AFTER)
