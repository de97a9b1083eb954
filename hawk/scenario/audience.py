"""Who looks on while a run goes on. None of them changes it: in virtual time not one byte of its journal."""

from collections.abc import Callable
from typing import NamedTuple

import anyio

from hawk.scenario.header import header_of
from hawk.scenario.journal import Journal
from hawk.scenario.model import Scenario
from hawk.scenario.recorder import Recorder
from hawk.scenario.script import Script
from hawk.testing.virtual_pace import Look, until_next_look_s

Progress = Callable[[float], None]
"""Is told how much of the script is done, from 0 to 1."""


class SoFar(NamedTuple):
    """A run until `now_s`: a journal without its end, in which a fault that goes on ends when its script will end it."""

    journal: Journal
    now_s: float


OnLook = Callable[[SoFar], None]
"""Is shown a run a few times a second by the wall clock."""


class Audience(NamedTuple):
    """Those who look on."""

    on_progress: Progress | None = None
    on_look: OnLook | None = None

    def eyes_on(self, scenario: Scenario, recorder: Recorder, script: Script) -> Look | None:
        """What shows them the run at an instant of the event loop's clock; None when nobody wants to be shown anything."""
        show = self.on_look
        if show is None:
            return None
        header = header_of(scenario)

        def look(now: float) -> None:
            happened = sorted((*recorder.events, *script.so_far), key=lambda event: event.at_s)
            show(SoFar(Journal(header, tuple(happened)), now - recorder.began_at))

        return look


NOBODY = Audience()


async def look_again_and_again(look: Look) -> None:
    """Look by the real clock until cancelled."""
    while True:
        began_at = anyio.current_time()
        look(began_at)
        await anyio.sleep(until_next_look_s(anyio.current_time() - began_at))
