"""Encryption of stored secrets: bound to a context, and opened by every configured key."""

from __future__ import annotations

import os

import pytest

from events_core.adapters.secrets import KeyRing
from events_core.common.errors import EventsError, Problem

OLD, NEW = os.urandom(32), os.urandom(32)


def test_a_sealed_secret_can_be_opened() -> None:
    """Sealing twice gives two texts, and neither shows the secret."""
    ring = KeyRing([NEW])
    one, other = ring.seal("whsec_æ", "a"), ring.seal("whsec_æ", "a")
    assert one != other
    assert "whsec" not in one
    assert ring.open(one, "a") == ring.open(other, "a") == "whsec_æ"


def test_a_new_first_key_rotates_the_keys() -> None:
    """The new key seals, and the old key still opens the secrets it sealed."""
    sealed = KeyRing([OLD]).seal("x", "a")
    both = KeyRing([NEW, OLD])
    assert both.open(sealed, "a") == "x"
    assert KeyRing([NEW]).open(both.seal("y", "a"), "a") == "y"


@pytest.mark.parametrize(("keys", "context", "cut"), [([NEW], "a", 0), ([OLD], "b", 0), ([OLD], "a", 2)])
def test_a_secret_that_cannot_be_opened_is_503(keys: list[bytes], context: str, cut: int) -> None:
    """A wrong key, a wrong context and a changed text mean that the service is unavailable."""
    sealed = KeyRing([OLD]).seal("x", "a")
    with pytest.raises(EventsError) as caught:
        KeyRing(keys).open(sealed[: len(sealed) - cut], context)
    assert caught.value.problem is Problem.UNAVAILABLE
