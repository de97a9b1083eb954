"""Ctrl-C, on trio: raised in whatever task happens to run, unless that task is protected. hawk's own tasks are.

An actor that a KeyboardInterrupt tore apart could neither drain nor say goodbye. Protected, trio raises it in the
application's main task instead, whose cancellation the watchman answers. On asyncio Ctrl-C cancels the main task anyway.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

Task = TypeVar("Task", bound=Callable[..., object])


def uninterrupted(task: Task) -> Task:
    """The same coroutine function, marked so that no KeyboardInterrupt is raised while it or what it calls runs."""
    trio = sys.modules.get("trio")
    if trio is not None:
        trio.lowlevel.enable_ki_protection(task)
    return task
