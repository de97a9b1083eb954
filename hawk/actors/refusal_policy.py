"""The application's `refusal_policy`, fenced in: whatever it does, there is a verdict, and no actor ends."""

import inspect
import logging

from hawk.connecting import RefusalPolicy
from hawk.eventlog import log_event
from hawk.values import Judgement, Verdict


class FencedPolicy:
    """Asks the policy, and takes hawk's own verdict where there is none, or where it raises or answers nonsense.

    Each actor that judges has one of these. A policy in trouble is told once in an episode, which `begin_episode` ends.
    """

    def __init__(self, policy: RefusalPolicy | None, logger: str) -> None:
        self._policy = policy
        self._logger = logging.getLogger(logger)
        self._told = False

    def begin_episode(self) -> None:
        """Trouble from now on is told again."""
        self._told = False

    def __call__(self, judgement: Judgement) -> Verdict:
        """What this refusal leads to."""
        if self._policy is None:
            return judgement.verdict
        try:
            verdict: object = self._policy(judgement)
        except Exception as error:  # noqa: BLE001  an application's error is told, and hawk's own table stands in
            # Without the error's own text, which may quote a secret.
            return self._fall_back(judgement, type(error).__name__)
        if verdict is None:
            return judgement.verdict
        if isinstance(verdict, Verdict):
            return verdict
        if inspect.iscoroutine(verdict):
            verdict.close()
        return self._fall_back(judgement, f"returned {type(verdict).__name__}, and no Verdict")

    def _fall_back(self, judgement: Judgement, why: str) -> Verdict:
        if not self._told:
            self._told = True
            packet, code = judgement.packet, f"0x{judgement.reason_code:02x}"
            log_event(self._logger, logging.ERROR, "refusal_policy failed", packet=packet, reason_code=code, why=why)
        return judgement.verdict
