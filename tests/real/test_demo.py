"""`hawk demo` in real time and over real sockets, once from start to end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_S = 30.0


def test_the_demo_ends_by_itself_and_has_lost_nothing() -> None:
    began_at = time.monotonic()
    command = [sys.executable, "-m", "hawk", "demo", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=os.environ, cwd=ROOT)
    assert time.monotonic() - began_at < LIMIT_S
    assert (done.returncode, done.stderr) == (0, "")
    outcome = json.loads(done.stdout)
    assert outcome["sent"] == outcome["delivered"] == 150
    assert (outcome["lost"], outcome["reordered"], outcome["final_state"]) == (0, 0, "connected")
    assert 6.9 < outcome["outage_s"] < 9
    assert 0 < outcome["recovered_s"] < 5
    assert outcome["reconnections"] >= 1
