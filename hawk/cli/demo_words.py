"""What `hawk demo` says in plain words: the summary, what is wrong, what to try next, and one line for a moment."""

from collections.abc import Iterator, Sequence

from hawk.cli.demo_run import Happening, Moment
from hawk.cli.demo_verdict import Judgement, Key

_MOST_SHOWN = 5

_NEXT = (
    ("hawk broker", "a broker of your own, in one terminal"),
    ("hawk sub -t 'demo/#'", "listen, in a second one"),
    ("hawk pub -t demo/hello -m 'hello'", "publish, in a third one; then stop the broker and start it again"),
)


def status(moment: Moment) -> str:
    """One line for one moment."""
    broker = "up" if moment.broker_is_up else "starting" if moment.broker_returns_in_s is None else "DOWN"
    parts = [f"broker {broker}", f"sensors {moment.publisher.value}"]
    if moment.next_try_in_s is not None:
        parts.append(next_try(moment))
    parts += [f"queue {moment.queue_size}", f"{moment.sent} sent", f"{moment.delivered} delivered"]
    return at(moment.at_s, ", ".join(parts))


def happening(one: Happening) -> str:
    """One line for something that happened."""
    return at(one.at_s, f"* {one.what}")


def at(at_s: float, what: str) -> str:
    """A line with the time in front."""
    return f"{at_s:5.1f} s  {what}"


def next_try(moment: Moment) -> str:
    """When the next dial comes, and how many have failed."""
    failed = f"{moment.failures} failed, " if moment.failures else ""
    return f"{failed}next try in about {moment.next_try_in_s:.1f} s"


def summary(judgement: Judgement, *, finished: bool) -> Iterator[str]:
    """What the run came to: the numbers, and a verdict."""
    outcome = judgement.outcome
    parts = [
        f"{outcome.sent} sent",
        f"{outcome.delivered} delivered",
        f"{outcome.lost} lost",
        _counted(outcome.duplicated, "duplicate"),
    ]
    if judgement.underway:
        parts.append(f"{judgement.underway} still on their way")
    if outcome.outage_s is not None:
        parts.append(f"outage {outcome.outage_s:.1f} s")
        recovered_s = outcome.recovered_s
        parts.append("not recovered yet" if recovered_s is None else f"recovered in {recovered_s:.1f} s")
    yield ", ".join(parts)
    yield from _flaws(judgement, finished=finished)


def next_commands(*, prefix: str) -> Iterator[str]:
    """What to try next. `prefix` is what must be typed before `hawk`."""
    yield "Next:"
    width = max(len(command) for command, _ in _NEXT) + len(prefix)
    for command, what in _NEXT:
        yield f"  {prefix + command:{width}}   {what}"


def _flaws(judgement: Judgement, *, finished: bool) -> Iterator[str]:
    if judgement.lost:
        yield f"FAILED: {_readings(judgement.lost)} accepted and never arrived"
    if judgement.reordered:
        yield f"FAILED: {_readings(judgement.reordered)} arrived out of order"
    if judgement.repeated:
        yield f"FAILED: {_readings(judgement.repeated)} arrived more than once, which QoS 2 forbids"
    if not finished:
        yield "Stopped before the end."
    elif judgement.passed:
        yield "Nothing was lost, and every sensor's readings arrived in order."
    elif not (judgement.lost or judgement.reordered or judgement.repeated):
        yield f"FAILED: at the end the connection was {judgement.outcome.final_state}"


def _readings(keys: Sequence[Key]) -> str:
    shown = ", ".join(f"{topic} {number}" for topic, number in keys[:_MOST_SHOWN])
    rest = len(keys) - _MOST_SHOWN
    return shown + (f" and {_counted(rest, 'more')}" if rest > 0 else "")


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 or word == 'more' else 's'}"
