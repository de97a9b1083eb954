"""What the kernel is asked for, seen and spoilt by strace: the sync before the word of it, ENOSPC and EIO from any call.

Of a child that writes messages to an outbox and says of each whether it is kept. strace lets a call fail without doing it.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHILD = """
import sys
from pathlib import Path
from hawk.clock import SystemWallClock
from hawk.errors import StoreFailed
from hawk.messages import Commit, ReadPage, Record
from hawk.stores.machine import Machine
from hawk.stores.outbox_file import OutboxFile
from hawk.values import Message
import os
outbox, durability, messages = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
file = OutboxFile(outbox, durability=durability, machine=Machine(SystemWallClock()))
try:
    recovered = file.open()
except StoreFailed as failed:
    os.write(1, b"refused to open: %s\\n" % str(failed).encode())
    sys.exit(3)
os.write(1, b"opened %d\\n" % recovered.queued)
for number in range(recovered.last_number + 1, recovered.last_number + messages + 1):
    try:
        file.commit(Commit(insert=(Record(number, Message("t", b"x" * 500)),)))
    except StoreFailed as failed:
        os.write(1, b"refused %d: %s\\n" % (number, str(failed).encode()))
    else:
        os.write(1, b"kept %d\\n" % number)
kept = file.page(ReadPage(0, 100000, 1 << 40)).records
file.close()
os.write(1, b"holds %s\\n" % ",".join(str(each.number) for each in kept).encode())
"""
PATIENCE_S = 60
MESSAGES = 6

Run = Callable[..., str]


@pytest.fixture
def strace(tmp_path: Path) -> Run:
    """`strace(path, *options)`: what the child says, with its calls traced into `tmp_path / "trace"`."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (Debian: apt-get install strace)")

    def run(outbox: Path, *options: str, durability: str = "power", messages: int = MESSAGES) -> str:
        trace = ["strace", "-f", "-y", "-o", str(tmp_path / "trace"), *options]
        child = [sys.executable, "-c", CHILD, str(outbox), durability, str(messages)]
        ended = subprocess.run([*trace, *child], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended.stdout

    return run


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "trace").read_text().splitlines()


SYNCED = re.compile(r"\bf(?:data)?sync\(\d+<(.*?)>\)")
SAID = re.compile(r'\bwrite\(1<.*?>, "(kept|opened) (\d+)')


def events(tmp_path: Path) -> list[str]:
    """In order: which file was synced, and what was said."""
    found = []
    for call in calls(tmp_path):
        if synced := SYNCED.search(call):
            found.append(f"synced {Path(synced[1]).name}")
        elif said := SAID.search(call):
            found.append(f"{said[1]} {said[2]}")
    return found


def test_the_log_is_synced_before_a_message_counts_as_kept(strace: Run, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox.db"
    strace(outbox, "-e", "trace=fsync,fdatasync,write")
    told = events(tmp_path)
    for number in range(1, MESSAGES + 1):
        before = told[: told.index(f"kept {number}")]
        assert before[-1] == "synced outbox.db-wal", f"message {number}: {told}"


def test_the_new_file_and_its_name_are_synced_before_it_counts_as_open(strace: Run, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox.db"
    strace(outbox, "-e", "trace=fsync,fdatasync,write")
    told = events(tmp_path)
    before = told[: told.index("opened 0")]
    assert f"synced {tmp_path.name}" in before
    assert "synced outbox.db" in before


def test_a_process_s_durability_leaves_the_disk_to_the_system(strace: Run, tmp_path: Path) -> None:
    strace(tmp_path / "outbox.db", "-e", "trace=fsync,fdatasync,write", durability="process")
    told = events(tmp_path)
    while_open = told[told.index("opened 0") : told.index(f"kept {MESSAGES}")]
    assert [each for each in while_open if each.startswith("synced")] == []


def kept_and_held(said: str) -> tuple[set[int], set[int], int]:
    """What was said to be kept, what was there at the end, and how many were refused."""
    kept = {int(number) for number in re.findall(r"^kept (\d+)$", said, re.MULTILINE)}
    [held] = re.findall(r"^holds (.*)$", said, re.MULTILINE)
    refused = len(re.findall(r"^refused \d+: ", said, re.MULTILINE))
    return kept, set(map(int, held.split(","))) if held else set(), refused


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
@pytest.mark.timeout(900)
def test_whichever_call_fails_what_counts_as_kept_is_there(
    strace: Run, tmp_path: Path, call: str, error: str, deep: bool
) -> None:
    """Exhaustive with --deep: the n-th call fails, for every n, until a run ends without a fault."""
    bitten = 0
    for turn, which in enumerate(range(1, 200) if deep else (3, 13)):
        outbox = tmp_path / f"{turn}.db"
        counting = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={which}", "-P", str(outbox)]
        counting += ["-P", f"{outbox}-wal", "-P", f"{outbox}-shm"]
        said = strace(outbox, *counting)
        faults = sum("(INJECTED)" in each for each in calls(tmp_path))
        bitten += faults
        if said.startswith("refused to open"):
            assert faults
            said = strace(outbox, "-e", "trace=none")
        kept, held, _ = kept_and_held(said)
        assert held == kept, f"call {which}: {said}"
        again, _, _ = kept_and_held(strace(outbox, "-e", "trace=none", messages=1))
        assert len(again) == 1, "it did not heal"
        if not faults and deep:
            break
    assert bitten, "no call ever failed"


def test_while_every_sync_fails_nothing_counts_as_kept(strace: Run, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox.db"
    strace(outbox, "-e", "trace=none", messages=2)
    said = strace(
        outbox, "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO", "-P", f"{outbox}-wal"
    )
    kept, held, refused = kept_and_held(said)
    assert (kept, refused) == (set(), MESSAGES), said
    assert held <= {1, 2, *range(3, 3 + MESSAGES)}
    after = strace(outbox, "-e", "trace=none", messages=1)
    assert "opened 2\n" in after, "what was refused came back"
    assert len(kept_and_held(after)[0]) == 1
