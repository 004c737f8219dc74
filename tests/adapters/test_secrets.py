"""Secrets for storage: encrypted, bound to what they are for, and opened by every configured key."""

from __future__ import annotations

import os

import pytest

from events_core.adapters.secrets import KeyRing
from events_core.common.errors import EventsError, Problem

OLD, NEW = os.urandom(32), os.urandom(32)


def test_what_is_sealed_is_opened_again() -> None:
    """And shows nothing of itself, differently each time."""
    ring = KeyRing([NEW])
    one, other = ring.seal("whsec_æ", "a"), ring.seal("whsec_æ", "a")
    assert one != other
    assert "whsec" not in one
    assert ring.open(one, "a") == ring.open(other, "a") == "whsec_æ"


def test_keys_are_rotated_by_putting_the_new_one_first() -> None:
    """What the old key sealed still opens; what is sealed from then on needs the new one."""
    sealed = KeyRing([OLD]).seal("x", "a")
    both = KeyRing([NEW, OLD])
    assert both.open(sealed, "a") == "x"
    assert KeyRing([NEW]).open(both.seal("y", "a"), "a") == "y"


@pytest.mark.parametrize(("keys", "context", "cut"), [([NEW], "a", 0), ([OLD], "b", 0), ([OLD], "a", 2)])
def test_what_cannot_be_opened_is_503(keys: list[bytes], context: str, cut: int) -> None:
    """Another key, another context, or a text that was changed."""
    sealed = KeyRing([OLD]).seal("x", "a")
    with pytest.raises(EventsError) as caught:
        KeyRing(keys).open(sealed[: len(sealed) - cut], context)
    assert caught.value.problem is Problem.UNAVAILABLE
