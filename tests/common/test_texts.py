"""Texts that a store can take, and how many fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.common.texts import fitting, storable


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_valid_text_is_stored_as_it_is(text: str) -> None:
    """Only lone surrogates, which UTF-8 cannot hold, are replaced."""
    assert storable(text) == text


def test_a_lone_surrogate_becomes_a_noncharacter() -> None:
    """Such a text is a valid parameter that equals no stored text."""
    assert storable("a\ud800b") == "a\uffffb"


@pytest.mark.parametrize(
    ("sizes", "most", "count"), [([3, 3, 3], 9, 3), ([3, 3, 3], 8, 2), ([9, 1], 8, 1), ([0, 0, 9, 0], 8, 2)]
)
def test_sizes_fit_up_to_the_first_that_does_not(sizes: list[int], most: int, count: int) -> None:
    """The first text always counts, however large it is."""
    assert fitting(sizes, most) == count


def test_nothing_has_to_fit_if_nothing_is_the_least() -> None:
    """A page that holds events already need not take another one."""
    assert fitting([9, 1], 8, least=0) == 0
