"""The Stats collector: the newest report of every actor as one snapshot, and the event stream for those who read it."""

from typing import assert_never

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from hawk.actors.mailbox import LatestSender, answer, take_all
from hawk.core.tally import newest
from hawk.messages import (
    Channel,
    ConnectionReport,
    Event,
    InboundReport,
    Missed,
    Report,
    Snapshot,
    ToStatsCollector,
    Watch,
)
from hawk.values import Ledger


class StatsCollector:
    """Reports come in, snapshots and events go out. It asks nobody anything, so counting never slows delivery."""

    def __init__(
        self,
        *,
        inbox: MemoryObjectReceiveStream[ToStatsCollector],
        snapshots: LatestSender[Snapshot],
        opening: Snapshot = Snapshot(),
    ) -> None:
        self._inbox = inbox
        self._snapshots = snapshots
        self._snapshot = opening
        self._watchers: dict[Channel[Event], int] = {}
        self._last_words: dict[Channel[Event], Channel[Missed] | None] = {}

    async def run(self) -> None:
        """Serve until cancelled. Cancelling loses nothing that a later report would not repeat."""
        while True:
            self._hear(await self._inbox.receive())

    def finish(self) -> None:
        """When every actor has ended: take what they still had to report, and end the event streams."""
        self._hear(None)
        for watcher, missed in self._watchers.items():
            last_words = self._last_words[watcher]
            if missed and last_words is not None:
                answer(last_words, Missed(missed))
            watcher.close()

    def _hear(self, first: ToStatsCollector | None) -> None:
        for message in take_all(self._inbox, first):
            match message:
                case Report():
                    self._take(message)
                case Watch():
                    self._watchers[message.events] = 0
                    self._last_words[message.events] = message.missed
                case _:
                    assert_never(message)
        self._snapshots.send(self._snapshot)

    def _take(self, report: Report) -> None:
        match report.state:
            case ConnectionReport():
                self._snapshot = newest(self._snapshot, connection=report.state)
            case Ledger():
                self._snapshot = newest(self._snapshot, ledger=report.state)
            case InboundReport():
                self._snapshot = newest(self._snapshot, inbound=report.state)
            case None:
                pass
            case _:
                assert_never(report.state)
        for event in report.events:
            for watcher in list(self._watchers):
                self._tell(watcher, event)

    def _tell(self, watcher: Channel[Event], event: Event) -> None:
        """Hand the event to one reader; one that is too slow misses it and learns how many it missed."""
        missed = self._watchers[watcher]
        try:
            if missed:
                watcher.send_nowait(Missed(missed))
                self._watchers[watcher] = 0
            watcher.send_nowait(event)
        except anyio.WouldBlock:
            self._watchers[watcher] += event.events if isinstance(event, Missed) else 1
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            del self._watchers[watcher], self._last_words[watcher]
