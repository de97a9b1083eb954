"""Hypothesis strategies for whoever tests with hawk: topics, filters, messages, settings and weather, all valid.

Needs hypothesis. `OutageMachine` is a state machine whose world is an application, a broker and the weather between
them; subclass it with the rules and the invariants of your own application.
"""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from hawk.config import Config, ReconnectionConfig
from hawk.testing.proxy_timeline import FAULTS, INSTANT, MEASURED, ONE_WAY, Spell
from hawk.testing.strategies_machine import OutageMachine
from hawk.values import Message

__all__ = ["OutageMachine", "configs", "filters", "messages", "payloads", "spells", "timelines", "topics"]

WEATHER = tuple(fault for fault in FAULTS if fault not in ("name_lookup", "heal", "cut_after"))
"""The faults that `spells` draws from unless told otherwise."""

_MOST_LEVELS = 5
_LONGEST_LEVEL = 12
_LEAST_AND_MOST = {
    "latency": (0.001, 5.0),
    "jitter": (0.001, 5.0),
    "coalesce": (0.001, 2.0),
    "bandwidth": (200.0, 1e6),
    "slice": (1.0, 100.0),
    "cut_after": (1.0, 5000.0),
}


def topics(*, levels: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[str]:
    """Topic names that MQTT allows (4.7): no wildcards, no NUL; levels may be empty. `levels`: yours instead."""
    return st.lists(levels or _levels(), min_size=1, max_size=_MOST_LEVELS).map("/".join).filter(bool)


def filters(*, topic: str | None = None) -> st.SearchStrategy[str]:
    """Topic filters that MQTT allows (4.7), wildcards where they may stand; with `topic`, those that match it."""
    if topic is None:
        return st.builds(_filter, st.lists(_levels() | st.just("+"), min_size=1, max_size=_MOST_LEVELS), st.booleans())
    levels = topic.split("/")
    hidden = topic.startswith("$")  # 4.7.2: a leading wildcard does not match these
    return st.builds(
        lambda plus, keep, ends: _filter(
            [
                "+" if wild and not (hidden and at == 0) else level
                for at, (level, wild) in enumerate(zip(levels, plus, strict=True))
            ][: keep if ends else None],
            ends,
        ),
        st.lists(st.booleans(), min_size=len(levels), max_size=len(levels)),
        st.integers(1, len(levels)),
        st.booleans(),
    )


def payloads(*, most_bytes: int = 200) -> st.SearchStrategy[Any]:
    """Whatever `publish` takes: bytes, text, and anything JSON."""
    plain = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=most_bytes // 4)
    nested = st.recursive(
        plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    )
    return st.binary(max_size=most_bytes) | st.text(max_size=most_bytes // 4) | nested.filter(_fits_json(most_bytes))


def messages(*, most_bytes: int = 200) -> st.SearchStrategy[Message]:
    """Messages as hawk keeps them, without properties."""
    return st.builds(
        Message,
        topic=topics(),
        payload=st.binary(max_size=most_bytes),
        qos=st.sampled_from([0, 1, 2]),
        retain=st.booleans(),
        properties=st.just(Message("t", b"").properties),
    )


def configs(**settings: Any) -> st.SearchStrategy[Config]:
    """Settings that hawk takes: small limits, short delays, every policy. What you name in `settings` is as you say."""
    drawn = st.fixed_dictionaries(
        {},
        optional={
            "qos": st.sampled_from([0, 1, 2]),
            "health_check_interval": _seconds(1, 120),
            "message_queue_size": st.integers(1, 200),
            "message_queue_bytes": st.integers(100, 100_000),
            "overflow": st.sampled_from(["drop_oldest", "drop_newest", "wait", "reject"]),
            "message_retry_limit": st.integers(0, 5),
            "max_inflight": st.integers(1, 50),
            "receive_maximum": st.integers(1, 50),
            "session_expiry_s": st.sampled_from([0, 30, 3600]),
            "stable_after_s": _seconds(0, 60),
            "ack_timeout_s": _seconds(1, 60),
            "drain_s": _seconds(0, 10),
        },
    )
    return st.builds(_config, drawn, _reconnections(), st.just(settings))


def spells(*, faults: Sequence[str] = WEATHER, longest_s: float = 120.0) -> st.SearchStrategy[Spell]:
    """One fault for a while, to begin at once; every one that lasts ends within `longest_s`."""
    return st.sampled_from(list(faults)).flatmap(lambda fault: _spell(fault, longest_s))


def timelines(
    *, duration_s: float = 600.0, most: int = 10, faults: Sequence[str] = WEATHER, longest_s: float = 120.0
) -> st.SearchStrategy[list[Spell]]:
    """Weather for `duration_s`, in order of time; play it with `hawk.testing.proxy_timeline.Weather`, in memory or TCP.

    By `duration_s + longest_s` every fault is over.
    """
    one = st.builds(
        lambda spell, at_s: spell._replace(at_s=at_s),
        spells(faults=faults, longest_s=longest_s),
        _seconds(0, duration_s),
    )
    return st.lists(one, max_size=most).map(lambda found: sorted(found, key=lambda spell: spell.at_s or 0.0))


def _levels() -> st.SearchStrategy[str]:
    common = st.sampled_from(["sensors", "boat", "temperature", "1", "$SYS", ""])
    odd = st.text(
        st.characters(exclude_characters="+#/\0", exclude_categories=["Cs", "Cc", "Cn"]), max_size=_LONGEST_LEVEL
    )
    return common | odd


def _filter(levels: list[str], ends: bool) -> str:
    return "/".join([*levels, "#"] if ends else levels) or "+"


def _fits_json(most_bytes: int) -> Any:
    from hawk.payload import encode_payload

    return lambda value: len(encode_payload("", value)) <= most_bytes


def _seconds(least: float, most: float) -> st.SearchStrategy[float]:
    """Whole milliseconds, so that an example reads well."""
    return st.integers(round(least * 1000), round(most * 1000)).map(lambda value: value / 1000)


def _reconnections() -> st.SearchStrategy[ReconnectionConfig]:
    return st.builds(
        lambda initial_s, more_s, multiplier, jitter, retries, timeout_s: ReconnectionConfig(
            max_retries=retries,
            initial_retry_delay=initial_s,
            max_retry_delay=initial_s + more_s,
            backoff_multiplier=multiplier,
            jitter_factor=jitter,
            connection_timeout=timeout_s,
        ),
        _seconds(0.01, 5),
        _seconds(0, 60),
        st.sampled_from([1.0, 1.5, 2.0, 10.0]),
        st.sampled_from([0.0, 0.1, 1.0]),
        st.none() | st.integers(0, 10),
        _seconds(0.1, 30),
    )


def _config(drawn: dict[str, Any], reconnection: ReconnectionConfig, settings: dict[str, Any]) -> Config:
    flat = {name: getattr(reconnection, name) for name in ReconnectionConfig.__dataclass_fields__}
    base = {} if "reconnection" in settings else flat
    return Config.from_mapping(base | drawn | settings)


def _spell(fault: str, longest_s: float) -> st.SearchStrategy[Spell]:
    least, most = _LEAST_AND_MOST.get(fault, (0.0, 0.0))
    whole = MEASURED.get(fault) in ("rate", "size")
    value = st.integers(round(least), round(most)).map(float) if whole else _seconds(least, most)
    return st.builds(
        Spell,
        fault=st.just(fault),
        at_s=st.none(),
        value=value,
        way=st.sampled_from(["both", "up", "down"]) if fault in ONE_WAY else st.just("both"),
        for_s=st.none() if fault in INSTANT else _seconds(0.001, longest_s),
    )
