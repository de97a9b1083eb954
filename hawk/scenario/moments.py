"""When one client sends: the instants of one line of traffic. Pure; endless unless `stop_s` ends them."""

from collections.abc import Iterator
from random import Random

from hawk.scenario.model import Traffic
from hawk.scenario.units import Rate


def moments(traffic: Traffic, *, client: int, seed: int, line: int, stop_s: float) -> Iterator[float]:
    """Seconds since the start, rising. `line` is the place of the traffic in its file; it and `client` draw apart.

    Evenly spread traffic of several clients is staggered, so that they do not all send at one instant.
    """
    if traffic.rate is None:
        return
    random = Random(f"traffic {seed} {line} {client}")
    offset = (client - 1) / traffic.clients
    for at_s in _endless(traffic.rate, traffic.start_s, offset, random):
        if at_s >= stop_s:
            return
        yield at_s


def _endless(rate: Rate, start_s: float, offset: float, random: Random) -> Iterator[float]:
    gap_s = rate.every_s / rate.messages
    number = 0
    match rate.shape:
        case "even":
            while True:
                yield start_s + (number + offset) * gap_s
                number += 1
        case "poisson":
            at_s = start_s
            while True:
                at_s += random.expovariate(1 / gap_s)
                yield at_s
        case "burst":
            while True:
                yield start_s + (number // int(rate.messages) + offset) * rate.every_s
                number += 1
