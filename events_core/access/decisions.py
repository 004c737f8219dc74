"""Decisions of the decision point, and the search for questions that it cannot decide (docs/operations.md).

If one question of a request fails, the decision point decides none of them, and an outage inside it looks the same.
So a question counts as undecidable only if it fails alone twice, and if the decision point answers another question of
the same subject, a *witness*, before the first time and side by side with the second.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest

from cachetools import LRUCache, TTLCache

from events_core.access.ports import DecisionPoint, UndecidedError
from events_core.access.xacml_request import Decision, Question
from events_core.common.halves import Requests, ask_in_halves
from events_core.common.single_flight import SingleFlightCache
from events_core.common.texts import digest

DECISION_SECONDS = 120
"""How long a process keeps a decision. The contract allows one to five minutes."""
DECISIONS_KEPT = 60_000
UNDECIDABLE_KEPT = 10_000
UNDECIDABLE_SECONDS = 60
"""How long a process remembers that a question is undecidable."""
SIDE_BY_SIDE = 8
BESIDE_WITNESS = SIDE_BY_SIDE - 1
MOST_QUESTIONS = 1_000
"""How many questions one request of a caller, or one round of deliveries, may ask."""
CANDIDATES = 8
"""How many questions are asked at most to find a witness."""
WITNESS_CHARACTERS = 4 * 1024 * 1024
"""How many characters the witnesses have together, each counted with a thousand more for what is around its texts."""

_log = logging.getLogger(__name__)
_random = random.Random()  # noqa: S311 - a reader who tries again asks other questions, and needs no secure randomness

Ahead = Callable[[], Awaitable[Sequence[Question]]]
"""Gives more questions of the same subject, among which a witness may be."""


def decision_cache(
    *, clock: Callable[[], float] = time.monotonic, size: int = DECISIONS_KEPT
) -> SingleFlightCache[Question, Decision]:
    """A cache of the `size` most recently used decisions, each under a digest of its question."""
    return SingleFlightCache(clock=clock, ttl_seconds=DECISION_SECONDS, size=size, key=lambda question: question.digest)


def witness_cache() -> LRUCache[bytes, Question]:
    """A cache of witnesses, each under a digest of its subject."""
    return LRUCache(WITNESS_CHARACTERS, getsizeof=lambda question: 1_000 + question.length)


def undecidable_cache(*, clock: Callable[[], float] = time.monotonic) -> TTLCache[bytes, None]:
    """A cache of digests of undecidable questions."""
    return TTLCache(UNDECIDABLE_KEPT, UNDECIDABLE_SECONDS, timer=clock)


@dataclass(slots=True)
class DecisionBudget(Requests):
    """The requests that may still be sent, and how many `questions` may still be asked in them.

    A question counts once, however often a search asks it again, and not if its decision is cached. The few candidates
    of a search for a witness do not count.
    """

    left: int = 64
    questions: int = MOST_QUESTIONS


@dataclass(frozen=True, slots=True)
class Decisions:
    """Asks the decision point as seldom as the contract allows.

    `witnesses` holds the last question of each subject that the decision point answered, under a digest of the subject.
    """

    decision_point: DecisionPoint
    cache: SingleFlightCache[Question, Decision] = field(default_factory=decision_cache)
    undecidable: TTLCache[bytes, None] = field(default_factory=undecidable_cache)
    witnesses: LRUCache[bytes, Question] = field(default_factory=witness_cache)

    async def get(
        self, questions: Sequence[Question], budget: DecisionBudget, *, ahead: Ahead | None = None
    ) -> dict[Question, Decision]:
        """The decision on each question that could be decided within the budget, the first questions first.

        The obligations of a decision are still to be compared with the caller's level (`allows`).

        Raises:
            EventsError: UNAVAILABLE if the decision point does not answer.
        """
        asked = [question for question in questions if not self.is_undecidable(question)]
        return await self.cache.get(asked, partial(self._ask, budget=budget, ahead=ahead))

    def is_undecidable(self, question: Question) -> bool:
        """Whether the question was found to be undecidable within the last minute."""
        return len(self.undecidable) > 0 and question.digest in self.undecidable

    def forget_undecidable(self, questions: Sequence[Question]) -> None:
        """Have undecidable questions asked anew."""
        for question in questions:
            self.undecidable.pop(question.digest, None)

    async def _ask(
        self, questions: Sequence[Question], *, budget: DecisionBudget, ahead: Ahead | None
    ) -> Mapping[Question, Decision]:
        # Another page may have found some of them to be undecidable.
        questions = [question for question in questions if not self.is_undecidable(question)][: budget.questions]
        if not questions or budget.left < 1:
            return {}
        budget.left -= 1
        budget.questions -= len(questions)
        answers = await self._answers(questions)
        if answers is None:
            has_one_subject = len({question.subject for question in questions}) == 1
            return await self._search(questions, budget, ahead) if has_one_subject else {}
        return answers

    async def _answers(self, questions: Sequence[Question]) -> dict[Question, Decision] | None:
        """Send one request. None if the decision point could not decide one of the questions."""
        try:
            decisions = await self.decision_point.decide(questions)
        except UndecidedError:
            return None
        for subject, question in {question.subject: question for question in questions}.items():
            self.witnesses[digest(repr(subject))] = replace(question, subject=())
        return dict(zip(questions, decisions, strict=True))

    async def _search(
        self, questions: Sequence[Question], requests: Requests, ahead: Ahead | None
    ) -> dict[Question, Decision]:
        """Decide what can be decided of one subject's questions that were refused together."""
        answers = await self._testimony(questions, requests, ahead)
        if not answers:
            return {}
        rest = [question for question in questions if question not in answers]
        kept_back = requests.left // 4  # for `_confirm`
        requests.left -= kept_back
        found, refused = await ask_in_halves(rest, self._answers, requests, side_by_side=SIDE_BY_SIDE)
        requests.left += kept_back
        return answers | found | await self._confirm(refused, next(iter(answers)), requests)

    async def _confirm(
        self, refused: Sequence[Question], witness: Question, requests: Requests
    ) -> dict[Question, Decision]:
        """Ask refused questions again. They are undecidable if only the witness is answered.

        If a question is answered now, the decision point fails now and then, so the others are asked once more.
        """
        found: dict[Question, Decision] = {}
        while again := refused[: requests.left * BESIDE_WITNESS // SIDE_BY_SIDE]:
            answers = await self._beside(witness, again, requests)
            if answers is None:
                break
            if not answers:
                self._remember(again)
                break
            found |= answers
            refused = [question for question in refused if question not in found]
        return found

    async def _beside(
        self, witness: Question, questions: Sequence[Question], requests: Requests
    ) -> dict[Question, Decision] | None:
        """Ask each question alone, side by side with the witness. None if the witness is not answered."""
        found: dict[Question, Decision] = {}
        for start in range(0, len(questions), BESIDE_WITNESS):
            batch = [witness, *questions[start : start + BESIDE_WITNESS]]
            requests.left -= len(batch)
            testimony, *answers = await asyncio.gather(*(self._answers([question]) for question in batch))
            if testimony is None:
                return None
            for answer in answers:
                found |= answer or {}
        return found

    def _remember(self, undecidable: Sequence[Question]) -> None:
        for question in undecidable:
            self.undecidable[question.digest] = None
            _log.warning("question undecidable resource=%s action=%s", question.resource_urn, question.action)

    async def _testimony(
        self, questions: Sequence[Question], requests: Requests, ahead: Ahead | None
    ) -> dict[Question, Decision]:
        """Ask the witness of the questions' subject, or others until one is found. Empty if nothing is answered."""
        subject, candidates_left = questions[0].subject, CANDIDATES
        kept = self.witnesses.get(digest(repr(subject)))
        if kept is not None and requests.left > 0:
            requests.left, candidates_left = requests.left - 1, candidates_left - 1
            if answers := await self._answers([replace(kept, subject=subject)]):
                return answers
        more = await ahead() if ahead else ()
        others = [other for other in (*questions, *more) if len(questions) > 1 or other != questions[0]]
        candidates = _spread(others, min(candidates_left, requests.left))
        requests.left -= len(candidates)
        answers = {}
        for answer in await asyncio.gather(*(self._answers([candidate]) for candidate in candidates)):
            answers |= answer or {}
        return answers


def _spread(questions: Sequence[Question], count: int) -> list[Question]:
    """At most `count` of the questions, of as many resources as possible. Each call gives others."""
    by_resource: dict[str, list[Question]] = {}
    for question in dict.fromkeys(questions):
        by_resource.setdefault(question.resource_urn, []).append(question)
    spread = [_far_apart(group) for group in _random.sample([*by_resource.values()], len(by_resource))]
    return [question for row in zip_longest(*spread) for question in row if question is not None][:count]


def _far_apart(questions: Sequence[Question]) -> list[Question]:
    """At most eight of the questions. The first few of the result lie far apart as well."""
    start, size = _random.randrange(len(questions)), len(questions)
    return list(dict.fromkeys(questions[(start + size * eighth // 8) % size] for eighth in (0, 4, 2, 6, 1, 5, 3, 7)))
