"""The map in `hawk/wiring.py` is true: what is drawn into an actor is what it can hear, and is sent by whom it says."""

import ast
import re
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

import hawk
from hawk import messages, wiring

PACKAGE = Path(hawk.__file__).parent
ARROW = re.compile(
    r"^ {4}(?P<sender>\w[\w ]*?) +-- (?P<messages>[\w, ]+?) -+> (?P<receiver>[A-Z ]*[A-Z]|application)\b"
)

INBOXES: dict[str, frozenset[str]] = {
    receiver: frozenset(each.__name__ for each in get_args(union) or (union,))
    for receiver, union in {
        "CONNECTOR": messages.ToConnector,
        "QUEUE KEEPER": messages.ToQueueKeeper,
        "SUBSCRIPTION KEEPER": messages.ToSubscriptionKeeper,
        "BACKOFF SCHEDULER": messages.ToBackoff,
        "HEALTH PROBE": messages.ToHealthProbe,
        "STATS COLLECTOR": messages.ToStatsCollector,
        "STORE TASK": messages.ToStoreTask,
        "INBOX TASK": messages.InboxCommit,
    }.items()
}

# A shell sends what its core has decided, so a message may be made in either.
MODULES = {
    "application": ("interface.py", "credit.py", "streams.py", "subscription.py"),
    "wiring": ("wiring.py",),
    "CONNECTOR": ("actors/connector.py", "actors/dial_task.py", "actors/first_watch.py", "actors/link_tasks.py"),
    "QUEUE KEEPER": ("actors/queue_keeper.py", "core/backlog.py", "core/commits.py"),
    "SUBSCRIPTION KEEPER": ("actors/subscription_keeper.py", "core/subscriptions.py", "core/inbox.py"),
    "BACKOFF SCHEDULER": ("actors/backoff_scheduler.py", "core/backoff.py"),
    "HEALTH PROBE": ("actors/health_probe.py", "core/liveness.py"),
    "STORE TASK": ("actors/store_task.py", "stores/memory.py", "stores/pages.py"),
    "INBOX TASK": ("actors/inbox_task.py",),
    "every actor": (
        *("actors/mailbox.py", "actors/connector.py", "actors/queue_keeper.py", "actors/subscription_keeper.py"),
    ),
}


class Arrow(NamedTuple):
    """One message from one sender to one receiver."""

    sender: str
    message: str
    receiver: str


def arrows_of(drawing: str) -> set[Arrow]:
    """Every arrow to an actor, and what the sentence below them says of the Connector's own children."""
    arrows = set()
    for line in drawing.splitlines():
        if (found := ARROW.match(line)) and found["receiver"] != "application":
            for message in found["messages"].split(", "):
                arrows.add(Arrow(found["sender"], message, found["receiver"]))
    own = re.search(r"The Connector's own children.*?tell it (.*?)\.", drawing, re.DOTALL)
    assert own is not None
    return arrows | {Arrow("CONNECTOR", message, "CONNECTOR") for message in re.findall(r"`(\w+)`", own[1])}


def made_in(package: Path) -> dict[str, set[str]]:
    """For each message of the vocabulary the modules that make one, by calling its name."""
    vocabulary = frozenset().union(*INBOXES.values())
    made: dict[str, set[str]] = {name: set() for name in vocabulary}
    for path in package.rglob("*.py"):
        module = path.relative_to(package).as_posix()
        if module.startswith(("testing/", "scenario/", "service/", "cli/")):
            continue
        tree = ast.parse(path.read_text())
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "hawk.messages"
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in imported & vocabulary:
                made[node.func.id].add(module)
    return made


def faults_of(drawing: str) -> list[str]:
    """Where the drawing and the code differ."""
    arrows = arrows_of(drawing)
    faults = []
    for receiver, can_hear in INBOXES.items():
        drawn = {arrow.message for arrow in arrows if arrow.receiver == receiver}
        faults += [f"{receiver} hears {name}, which is not drawn" for name in can_hear - drawn]
        faults += [f"{name} is drawn into {receiver}, which does not know it" for name in drawn - can_hear]
    made = made_in(PACKAGE)
    for name, modules in made.items():
        senders = {arrow.sender for arrow in arrows if arrow.message == name}
        allowed = {module for sender in senders for module in MODULES[sender]}
        faults += [f"{module} makes {name}, and is not drawn as its sender" for module in modules - allowed]
        faults += [
            f"{sender} is drawn as a sender of {name}, and never makes one"
            for sender in senders
            if not modules & set(MODULES[sender])
        ]
    return sorted(faults)


DRAWING = wiring.__doc__ or ""


def test_every_line_with_an_arrow_is_understood() -> None:
    lines = [line for line in DRAWING.splitlines() if " -- " in line]
    assert len(lines) > 15
    assert [line for line in lines if not ARROW.match(line)] == []


def test_the_map_is_true() -> None:
    assert faults_of(DRAWING) == []


@pytest.mark.parametrize(
    ("true", "doctored"),
    [
        ("-- Offers, Withdraw, WatchFates --", "-- Offers, WatchFates --"),
        ("-- Ping, Hangup --", "-- Ping, Hangup, Dial --"),
        ("QUEUE KEEPER         -- Stalled --", "CONNECTOR            -- Stalled --"),
        ("SUBSCRIPTION KEEPER  -- Ready ---", "STORE TASK           -- Ready ---"),
        ("`Dialed`, `DialFailed`, `Hangup` and `Lost`", "`Dialed`, `DialFailed` and `Hangup`"),
        ("-- Committed, CommitFailed, Page, PageFailed --", "-- Committed, CommitFailed, Page, PageFailed, Stop --"),
    ],
)
def test_a_false_map_is_found_out(true: str, doctored: str) -> None:
    assert DRAWING.count(true) == 1
    assert faults_of(DRAWING.replace(true, doctored)) != []
