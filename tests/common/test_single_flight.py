"""A bounded cache of answers that asks each question only once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence

import pytest

from events_core.common.single_flight import SingleFlightCache
from tests.support.clock import Clock


class Answerer:
    """Answers a question with its upper case, once `gate` is open. It leaves out the questions in `unanswered`."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.unanswered: set[str] = set()
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, questions: Sequence[str]) -> Mapping[str, str]:
        """Answer the questions."""
        self.asked.append(list(questions))
        await self.gate.wait()
        if self.fails:
            raise ValueError(questions)
        return {question: question.upper() for question in questions if question not in self.unanswered}


def cache(
    clock: Clock | None = None, size: int = 10, key: Callable[[str], Hashable] | None = None
) -> SingleFlightCache[str, str]:
    """A cache that keeps an answer for ten seconds."""
    return SingleFlightCache(clock=clock or Clock(), ttl_seconds=10, size=size, key=key)


async def test_an_answer_is_kept_for_its_time() -> None:
    """Afterwards the question is asked again."""
    clock, ask = Clock(), Answerer()
    answers = cache(clock)
    for now in (0, 9, 11):
        clock.now = now
        assert await answers.get(["a"], ask) == {"a": "A"}
    assert ask.asked == [["a"], ["a"]]


async def test_only_questions_without_an_answer_are_asked() -> None:
    """A question that is given twice is asked once, and nothing is asked without a new question."""
    answers, ask = cache(), Answerer()
    await answers.get(["a", "b", "a"], ask)
    assert await answers.get(["b", "c"], ask) == {"b": "B", "c": "C"}
    await answers.get(["a", "b", "c"], ask)
    await answers.get([], ask)
    assert ask.asked == [["a", "b"], ["c"]]


async def test_the_least_recently_used_answer_is_dropped_first() -> None:
    """The cache is bounded."""
    answers, ask = cache(size=2), Answerer()
    for question in ("a", "b", "a", "c", "a", "b"):
        await answers.get([question], ask)
    assert ask.asked == [["a"], ["b"], ["c"], ["b"]]


async def test_answers_are_kept_by_key() -> None:
    """Questions with the same key share an answer."""
    answers, ask = cache(key=len), Answerer()
    await answers.get(["a"], ask)
    assert await answers.get(["b", "bb"], ask) == {"b": "A", "bb": "BB"}


async def test_a_question_on_its_way_is_not_asked_again() -> None:
    """Callers share the answers to the questions that they have in common."""
    answers, ask = cache(), Answerer()
    ask.gate.clear()
    first = asyncio.create_task(answers.get(["a", "b"], ask))
    await asyncio.sleep(0)
    second = asyncio.create_task(answers.get(["b", "c"], ask))
    await asyncio.sleep(0)
    ask.gate.set()
    assert (await first, await second) == ({"a": "A", "b": "B"}, {"b": "B", "c": "C"})
    assert ask.asked == [["a", "b"], ["c"]]


async def test_a_failure_is_shared_and_not_kept() -> None:
    """The next caller asks again."""
    answers, ask = cache(), Answerer()
    ask.fails = True
    failures = await asyncio.gather(*(answers.get(["a"], ask) for _ in range(3)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [ValueError] * 3
    with pytest.raises(ValueError, match="a"):
        await answers.get(["a"], ask)
    ask.fails = False
    assert await answers.get(["a"], ask) == {"a": "A"}
    assert len(ask.asked) == 3


async def test_a_question_left_without_an_answer_is_left_out_and_asked_again() -> None:
    """Only answers are kept."""
    answers, ask = cache(), Answerer()
    ask.unanswered = {"b"}
    assert await answers.get(["a", "b"], ask) == {"a": "A"}
    ask.unanswered = set()
    assert await answers.get(["a", "b"], ask) == {"a": "A", "b": "B"}
    assert ask.asked == [["a", "b"], ["b"]]


async def test_a_question_that_another_caller_left_out_is_asked_once_more() -> None:
    """The other caller may have had fewer means. However many callers share it, there is one more request."""
    answers, poor, rich = cache(), Answerer(), Answerer()
    poor.unanswered = {"b"}
    found = await asyncio.gather(answers.get(["a", "b"], poor), *(answers.get(["a", "b"], rich) for _ in range(3)))
    assert found == [{"a": "A"}, *[{"a": "A", "b": "B"}] * 3]
    assert (poor.asked, rich.asked) == ([["a", "b"]], [["b"]])


async def test_a_question_that_stays_without_an_answer_is_asked_twice_at_most() -> None:
    """Many callers in an outage do not ask one after the other."""
    answers, ask = cache(), Answerer()
    ask.unanswered = {"b"}
    found = await asyncio.gather(*(answers.get(["a", "b"], ask) for _ in range(5)))
    assert found == [{"a": "A"}] * 5
    assert ask.asked == [["a", "b"], ["b"]]


async def test_a_cancelled_caller_does_not_fail_the_others() -> None:
    """The question that the cancelled caller asked is answered for the others, and kept."""
    answers, ask = cache(), Answerer()
    ask.gate.clear()
    first, second = (asyncio.create_task(answers.get(["a"], ask)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    ask.gate.set()
    assert await second == {"a": "A"}
    assert first.cancelled()
    assert ask.asked == [["a"]]
