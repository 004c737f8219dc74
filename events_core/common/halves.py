"""Ask a neighbour again in halves after it refused many questions at once, to find the few that it cannot take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

Ask = Callable[[Sequence[K]], Awaitable[Mapping[K, V] | None]]
"""Sends one request. None if the neighbour refuses everything that it was asked."""


@dataclass(slots=True)
class Requests:
    """How many requests to one neighbour a page, a publish or a round of deliveries may still send."""

    left: int


async def ask_in_halves(
    items: Sequence[K], ask: Ask[K, V], requests: Requests, *, side_by_side: int = 2
) -> tuple[dict[K, V], list[K]]:
    """Ask about items that were refused together, in ever smaller parts, the first items first.

    The items are cut into `side_by_side` parts, and each part that is refused is cut in half, down to one item. A part
    of three is cut into three: that is three requests, where halves may need four.
    `requests` bounds the requests; enough are kept back to decide the first item. Returns the answers, and the items
    that were refused alone. An item in neither was not asked about on its own before the requests ran out.

    Raises:
        Exception: The first exception that `ask` raised.
    """
    answers: dict[K, V] = {}
    refused: list[K] = []
    parts = _cut(items, side_by_side)
    while parts and requests.left > 0:
        halvings_to_one = (len(parts[0]) - 1).bit_length()
        count = min(len(parts), side_by_side, max(1, requests.left - halvings_to_one))
        requests.left -= count
        asked, parts = parts[:count], parts[count:]
        halves: list[Sequence[K]] = []
        for part, answer in zip(asked, await asyncio.gather(*map(ask, asked)), strict=True):
            if answer is not None:
                answers |= answer
            elif len(part) == 1:
                refused += part
            else:
                halves += _cut(part, 3 if len(part) == 3 else 2)
        parts = [*halves, *parts]
    return answers, refused


def _cut(items: Sequence[K], count: int) -> list[Sequence[K]]:
    """Cut items into at most `count` parts whose sizes differ by at most one."""
    count = min(count, len(items))
    return [items[len(items) * part // count : len(items) * (part + 1) // count] for part in range(count)]
