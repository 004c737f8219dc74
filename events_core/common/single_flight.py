"""A bounded cache of answers that asks each question only once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from cachetools import TTLCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Ask = Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]


class SingleFlightCache(Generic[K, V]):
    """Keeps the `size` most recently used answers, each for `ttl_seconds`. It keeps no failures.

    While a question is being asked it is not asked again: callers that come meanwhile share the answer or the failure.
    If the caller that asked gets no answer to a question, the others ask it once more, together.
    The cancellation of one caller does not affect the others. `key` gives a short key for a large question.
    """

    def __init__(
        self, *, clock: Callable[[], float], ttl_seconds: float, size: int, key: Callable[[K], Hashable] | None = None
    ) -> None:
        self._kept: TTLCache[Hashable, V] = TTLCache(size, ttl_seconds, timer=clock)
        self._key: Callable[[K], Hashable] = key or (lambda question: question)
        self._asked: dict[K, asyncio.Task[Mapping[K, V]]] = {}

    async def get(self, questions: Iterable[K], ask: Ask[K, V]) -> dict[K, V]:
        """The answer to each question that has one.

        Calls `ask` with the questions that are neither kept nor being asked, and with those that another caller's `ask`
        left out. `ask` may leave questions out: they are left out here too, and are asked again next time.

        Raises:
            Exception: The exception that `ask` raised.
        """
        found: dict[K, V] = {}
        open_questions: list[K] = []
        for question in questions:
            try:
                found[question] = self._kept[self._key(question)]
            except KeyError:
                open_questions.append(question)
        if open_questions:
            shared = [question for question in open_questions if question in self._asked]
            found |= await self._ask_once(open_questions, ask)
            if left_out := [question for question in shared if question not in found]:
                found |= await self._ask_once(left_out, ask)
        return found

    async def _ask_once(self, questions: Sequence[K], ask: Ask[K, V]) -> dict[K, V]:
        new = [question for question in dict.fromkeys(questions) if question not in self._asked]
        if new:
            task = asyncio.ensure_future(_call(ask, new))
            self._asked.update(dict.fromkeys(new, task))
            task.add_done_callback(lambda done: self._keep(new, done))
        tasks = {question: self._asked[question] for question in questions}
        await asyncio.wait(set(tasks.values()))  # unlike gather, its cancellation leaves the tasks alone
        return {question: task.result()[question] for question, task in tasks.items() if question in task.result()}

    def _keep(self, questions: Sequence[K], done: asyncio.Task[Mapping[K, V]]) -> None:
        for question in questions:
            del self._asked[question]
        if not done.cancelled() and done.exception() is None:
            self._kept.update({self._key(question): answer for question, answer in done.result().items()})


async def _call(ask: Ask[K, V], questions: Sequence[K]) -> Mapping[K, V]:
    return await ask(questions)
