"""What the broker is asked for: one subscription for each filter, however many here share it (MQTT 5, 3.8).

`Ready` is due when the answers of a link's first SUBSCRIBEs are in, or overdue.
"""

import math
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import assert_never

from hawk.config import ReconnectionConfig
from hawk.core.answers import FAILURE, Judge, judge_refusal
from hawk.core.holders import Decisions, Holder, answer_holders
from hawk.core.inbox import Inbox
from hawk.core.retrials import Retrials
from hawk.core.routes import Routes
from hawk.core.topics import has_wildcard, is_shared
from hawk.core.wanted import UNSPECIFIED, Wanted
from hawk.messages import Lane
from hawk.packets import Connack, SubscribeFilter, SubscribeOutcome, SubscribeRequest, UnsubscribeRequest
from hawk.values import Verdict

MOST_FILTERS = 100
"""How many filters one SUBSCRIBE or UNSUBSCRIBE names at most. With a subscription identifier a SUBSCRIBE names one."""
FIRST_IDENTIFIER, LAST_IDENTIFIER = 65_024, 65_535
"""The packet identifiers of SUBSCRIBE and UNSUBSCRIBE; those below belong to the Queue keeper."""

_PACKET_TOO_LARGE = 0x95
_SHARED_NOT_SUPPORTED = 0x9E
_WILDCARDS_NOT_SUPPORTED = 0xA2
# Fixed header with the longest remaining length, packet identifier, property length, subscription identifier.
_HEADER_BYTES = 13


class Filters:
    """What the broker is asked for on the present link, and what it has granted in its present session.

    `declared` are wanted for as long as this lives, whoever holds them. `earlier` are those that an earlier process
    subscribed in the session; what nobody wants of them by `return_grace_s` after the first link is unsubscribed. `judge`
    says what follows where the broker refuses.
    """

    def __init__(
        self,
        routes: Routes,
        inbox: Inbox,
        *,
        suback_timeout_s: float,
        return_grace_s: float,
        reconnection: ReconnectionConfig,
        judge: Judge,
        declared: Iterable[SubscribeFilter] = (),
        earlier: Iterable[str] = (),
    ) -> None:
        self.ready_due = math.inf
        """When `Ready` is due though SUBACKs are missing; inf when it was said, or nothing is to be said."""
        self.leaving_due = math.inf
        """When the filters of an earlier process have waited long enough for somebody who wants them."""
        self._routes = routes
        self._inbox = inbox
        self._suback_timeout_s = suback_timeout_s
        self._return_grace_s = return_grace_s
        self._judge = judge
        self._retrials = Retrials(reconnection)
        self._wanted = {each.filter: Wanted(each.filter, declared=each) for each in declared}
        self._earlier = dict.fromkeys(earlier)
        self._lane: Lane | None = None
        self._connack = Connack()
        self._to_ask: dict[str, None] = {}
        self._to_leave: dict[str, None] = {}
        self._leaving: dict[str, int] = {}
        self._to_leave_later: dict[str, None] = {}
        self._never_left: dict[str, None] = {}
        self._under_way: dict[int, SubscribeRequest | UnsubscribeRequest] = {}
        self._last_identifier = LAST_IDENTIFIER
        self._awaited: set[str] = set()

    def join(self, holder: Holder, decisions: Decisions) -> None:
        """One more subscription wants this filter."""
        wanted = self._wanted.get(holder.filter)
        if wanted is None:
            wanted = self._wanted[holder.filter] = Wanted(holder.filter)
            # Wanted again before the broker is known to have let go of it.
            wanted.granted = holder.filter in self.leaving
            self._to_leave.pop(holder.filter, None)
            self._leaving.pop(holder.filter, None)
            self._to_leave_later.pop(holder.filter, None)
            self._never_left.pop(holder.filter, None)
            self._retrials.forget(holder.filter)
        wanted.holders[holder.number] = holder
        wanted.given_up = False
        holder.takes_retained = wanted.asked is not None and wanted.asked.retain_as_published
        if wanted.must_be_asked:
            self._to_ask[holder.filter] = None
        elif wanted.code is not None:
            answer_holders((holder,), wanted.code, decisions)

    def leave(self, holder: Holder, decisions: Decisions) -> None:
        """One subscription fewer wants this filter."""
        wanted = self._wanted[holder.filter]
        del wanted.holders[holder.number]
        if wanted.holders or wanted.declared is not None:
            return
        del self._wanted[holder.filter]
        self._to_ask.pop(holder.filter, None)
        self._retrials.forget(holder.filter)
        # Asked and not answered: the broker may have it. Kept over a lost link, for the session keeps it as well.
        if wanted.granted or wanted.identifier:
            self._to_leave[holder.filter] = None
        self._no_longer_awaited(holder.filter, decisions)

    @property
    def leaving(self) -> AbstractSet[str]:
        """Filters that nobody wants any more, and for which the broker may still send."""
        return self._to_leave.keys() | self._leaving.keys() | self._to_leave_later.keys() | self._never_left.keys()

    @property
    def again_due(self) -> float:
        """When `ask_again` has something to ask; inf for never."""
        return self._retrials.due

    def open(self, lane: Lane, connack: Connack, resumed: bool, now: float, decisions: Decisions) -> None:
        """A link is up: ask for every filter that the broker does not know in this session."""
        self._lane, self._connack = lane, connack
        for wanted in self._wanted.values():
            if resumed:
                wanted.forget_unanswered()
            else:
                wanted.forget()
        if not connack.session_present:
            for text in (*self._to_leave, *self._never_left, *self._earlier):
                self._inbox.leave(text)
            self._to_leave.clear()
            self._never_left.clear()
            self._earlier.clear()
        elif self._earlier and self.leaving_due == math.inf:
            self.leaving_due = now + self._return_grace_s
        self._to_ask = {text: None for text, wanted in self._wanted.items() if wanted.must_be_asked}
        self._awaited = set(self._to_ask)
        self.ready_due = now + self._suback_timeout_s
        if not self._awaited:
            self.be_ready(decisions)

    def close(self) -> None:
        """The link is down."""
        self._lane = None
        self.ready_due = math.inf
        self._awaited.clear()
        self._under_way.clear()
        self._to_leave |= dict.fromkeys(self._leaving) | self._to_leave_later
        self._leaving.clear()
        self._to_leave_later.clear()
        self._retrials.clear()

    def stop(self, decisions: Decisions) -> None:
        """Nothing is wanted any more; the broker's session keeps what it knows."""
        self._wanted.clear()
        self._to_ask.clear()
        self._to_leave.clear()
        self._to_leave_later.clear()
        self._never_left.clear()
        self._retrials.clear()
        if self.ready_due < math.inf:
            self.be_ready(decisions)

    def leave_earlier(self) -> None:
        """Filters of an earlier process have waited long enough: unsubscribe what nobody wants."""
        self.leaving_due = math.inf
        self._to_leave |= {text: None for text in self._earlier if text not in self._wanted}
        self._earlier.clear()

    def ask_again(self, now: float) -> None:
        """Time has passed: ask about what was refused on this link, and is to be asked about again."""
        for text in self._retrials.take_due(now):
            wanted = self._wanted.get(text)
            if wanted is not None and wanted.must_be_asked:
                self._to_ask[text] = None
            elif text in self._to_leave_later:
                del self._to_leave_later[text]
                self._to_leave[text] = None

    def be_ready(self, decisions: Decisions) -> None:
        """Say `Ready`, once for each lane."""
        self.ready_due = math.inf
        self._awaited.clear()
        decisions.ready = self._lane

    def answered(self, outcome: SubscribeOutcome, now: float, decisions: Decisions) -> None:
        """A SUBACK or UNSUBACK came. What answers nothing, or with the wrong kind of packet, changes nothing."""
        request = self._under_way.get(outcome.identifier)
        if request is None or isinstance(request, UnsubscribeRequest) is not outcome.leaving:
            return
        del self._under_way[outcome.identifier]
        match request:
            case SubscribeRequest():
                missing = (UNSPECIFIED,) * (len(request.filters) - len(outcome.reason_codes))
                codes = chain(outcome.reason_codes, missing)
                for asked, code in zip(request.filters, codes, strict=False):
                    wanted = self._wanted.get(asked.filter)
                    # By the request, not by the filter alone: it may have been left and wanted again since.
                    if wanted is not None and wanted.identifier == outcome.identifier:
                        self._hear_of_wanted(wanted, code, now, decisions)
            case UnsubscribeRequest():
                missing = (UNSPECIFIED,) * (len(request.filters) - len(outcome.reason_codes))
                for text, code in zip(request.filters, chain(outcome.reason_codes, missing), strict=False):
                    if self._leaving.get(text) != outcome.identifier:
                        continue
                    del self._leaving[text]
                    self._hear_of_left(text, code, now, decisions)
            case _:
                assert_never(request)

    def request(self, decisions: Decisions) -> None:
        """Put the SUBSCRIBE and UNSUBSCRIBE packets that are due into `decisions`, as few as can be."""
        while self._to_leave and (identifier := self._free_identifier()):
            texts = self._that_fit(self._to_leave, MOST_FILTERS)
            if texts:
                self._leaving |= dict.fromkeys(texts, identifier)
                self._send(UnsubscribeRequest(identifier, tuple(texts)), decisions)
        # An identifier belongs to all filters of its SUBSCRIBE, so each has one to itself.
        identified = self._connack.subscription_identifier_available
        while self._to_ask and (identifier := self._free_identifier()):
            texts = self._that_fit(self._to_ask, 1 if identified else MOST_FILTERS, decisions)
            if not texts:
                continue
            name = self._name(texts[0]) if identified else 0
            filters = tuple(self._wanted[text].ask(identifier, name) for text in texts)
            for text in texts:
                self._inbox.join(text)
            self._send(SubscribeRequest(identifier, filters, name), decisions)

    def _name(self, text: str) -> int:
        """A subscription identifier of its own for this SUBSCRIBE."""
        identifier = self._wanted[text].first_name
        while self._routes.is_named(identifier):
            identifier += 1
        self._routes.name(identifier, text)
        return identifier

    def _send(self, request: SubscribeRequest | UnsubscribeRequest, decisions: Decisions) -> None:
        self._last_identifier = request.identifier
        self._under_way[request.identifier] = request
        decisions.packets.append(request)

    def _free_identifier(self) -> int:
        """An identifier that no unanswered request has, or 0."""
        count = LAST_IDENTIFIER - FIRST_IDENTIFIER + 1
        if len(self._under_way) == count:
            return 0
        offset = self._last_identifier - FIRST_IDENTIFIER
        candidates = (FIRST_IDENTIFIER + (offset + step) % count for step in range(1, count + 1))
        return next(one for one in candidates if one not in self._under_way)

    def _that_fit(self, texts: dict[str, None], most: int, decisions: Decisions | None = None) -> list[str]:
        """Take from `texts` what goes into one packet; what the broker cannot take at all is refused here instead."""
        chosen: list[str] = []
        limit_bytes = self._connack.maximum_packet_size or math.inf
        size_bytes = _HEADER_BYTES
        while texts and len(chosen) < most:
            text = next(iter(texts))
            own_bytes = len(text.encode()) + 3
            refusal = self._refusal(text, _HEADER_BYTES + own_bytes)
            if not refusal and size_bytes + own_bytes > limit_bytes:
                break
            del texts[text]
            if not refusal:
                chosen.append(text)
                size_bytes += own_bytes
            elif decisions is not None:
                wanted = self._wanted[text]
                wanted.ask(0, 0)
                self._conclude(wanted, refusal, decisions)
        return chosen

    def _refusal(self, text: str, size_bytes: int) -> int:
        # Asking in spite of what the CONNACK says is a protocol error and would cost the link (section 3.2.2.3).
        if is_shared(text) and not self._connack.shared_available:
            return _SHARED_NOT_SUPPORTED
        if has_wildcard(text) and not self._connack.wildcard_available:
            return _WILDCARDS_NOT_SUPPORTED
        most_bytes = self._connack.maximum_packet_size
        return _PACKET_TOO_LARGE if most_bytes is not None and size_bytes > most_bytes else 0

    def _hear_of_wanted(self, wanted: Wanted, code: int, now: float, decisions: Decisions) -> None:
        if code < FAILURE:
            self._retrials.forget(wanted.filter)
            self._conclude(wanted, code, decisions)
            return
        verdict = judge_refusal("SUBACK", code, self._judge)
        repeated = self._retrials.is_repeated(wanted.filter)
        if not self._retrials.refused(wanted.filter, verdict, now):
            wanted.given_up = verdict is Verdict.NEVER
            self._conclude(wanted, code, decisions)
            return
        # Whoever waits for the broker's word goes on waiting; `Ready` does not.
        wanted.conclude(code)
        if not repeated:
            decisions.refused.append((wanted.filter, code))
        self._no_longer_awaited(wanted.filter, decisions)

    def _hear_of_left(self, text: str, code: int, now: float, decisions: Decisions) -> None:
        if code < FAILURE:
            self._retrials.forget(text)
            self._inbox.leave(text)
            return
        verdict = judge_refusal("UNSUBACK", code, self._judge)
        if not self._retrials.is_repeated(text):
            decisions.still_subscribed.append((text, code))
        if verdict is Verdict.NEVER:
            self._never_left[text] = None
        else:
            self._to_leave_later[text] = None
            self._retrials.refused(text, verdict, now)

    def _conclude(self, wanted: Wanted, code: int, decisions: Decisions) -> None:
        wanted.conclude(code)
        if wanted.refused:
            decisions.refused.append((wanted.filter, code))
        answer_holders(wanted.holders.values(), code, decisions)
        self._no_longer_awaited(wanted.filter, decisions)

    def _no_longer_awaited(self, text: str, decisions: Decisions) -> None:
        self._awaited.discard(text)
        if not self._awaited and self.ready_due < math.inf:
            self.be_ready(decisions)
