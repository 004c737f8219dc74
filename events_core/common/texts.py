"""Texts: which a store can take, and how many fit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from itertools import accumulate, takewhile

_SURROGATES = re.compile("[\ud800-\udfff]")


def digest(text: str) -> bytes:
    """A hash of 32 bytes, as the key under which a cache keeps what belongs to a text of any length.

    Nobody finds two texts with one hash, as they could with 16 bytes and much work: decisions are cached so.
    """
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=32).digest()


def storable(text: str) -> str:
    """The text as a parameter of a query: UTF-8 has no lone surrogates, so each becomes a noncharacter.

    No CloudEvents string holds a noncharacter, so such a text equals no stored text.
    """
    return _SURROGATES.sub("\uffff", text)


def fitting(sizes: Iterable[int], most: int, *, least: int = 1) -> int:
    """How many of the sizes, from the first on, add up to at most `most`; never fewer than `least`."""
    return max(least, sum(1 for _ in takewhile(lambda total: total <= most, accumulate(sizes))))
