"""Brings together what `hawk demo` needs while it runs: a world, the run, somebody who looks, and an ear for signals."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Literal

import anyio

from hawk.cli.demo_run import DemoRun
from hawk.cli.demo_view import View
from hawk.cli.demo_world import World, real_world, rehearsed_world

Backend = Literal["trio", "asyncio"]


def play(run: DemoRun, view: View | None, *, fast: bool, backend: Backend, seed: int) -> signal.Signals | None:
    """Play the whole run, and return the signal that ended it early, if one did.

    Raises `OSError` when the view cannot show anything to anybody any more, or there is no port.
    """
    try:
        if fast:
            from hawk.testing.virtual_time import run as run_in_virtual_time

            return run_in_virtual_time(_play, run, view, rehearsed_world(seed=seed), None, backend=backend, seed=seed)
        heed = signal.SIGINT, signal.SIGTERM
        return anyio.run(_play, run, view, real_world(seed=seed), heed, backend=backend)
    except BaseException as error:
        leaves = list(_leaves(error))
        if all(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
            # It came before anybody listened for signals, or in virtual time, which has no signals.
            return signal.SIGINT
        if all(isinstance(leaf, OSError) for leaf in leaves):
            # Out of the nursery's group, as every other command raises it.
            raise leaves[0] from None
        raise


async def _play(
    run: DemoRun,
    view: View | None,
    place: AbstractAsyncContextManager[World],
    heed: tuple[signal.Signals, ...] | None,
) -> signal.Signals | None:
    received: list[signal.Signals] = []
    async with anyio.create_task_group() as tasks:
        if heed:
            await tasks.start(_end_on_signal, heed, received.append, tasks.cancel_scope)
        if view is not None:
            tasks.start_soon(view.watch)
        async with place as world:
            await run.run(world)
        tasks.cancel_scope.cancel()
    return received[0] if received else None


async def _end_on_signal(
    heed: tuple[signal.Signals, ...],
    note: Callable[[signal.Signals], None],
    scope: anyio.CancelScope,
    *,
    task_status: anyio.abc.TaskStatus[None],
) -> None:
    with anyio.open_signal_receiver(*heed) as signals:
        task_status.started()
        async for one in signals:
            note(one)
            scope.cancel()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
