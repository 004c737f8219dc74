"""JSON documents as text, for the command line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from local.json_text import elements, one_line
from tests.cloudevent.samples import blanks, json_values


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"n": 100.00}', ['{"n": 100.00}']),
        (' [1E400 ,\n{"a": [1, 2]},"x,]"] ', ["1E400", '{"a": [1, 2]}', '"x,]"']),
        ("[]", []),
        ("[ \n ]", []),
    ],
)
def test_each_element_keeps_its_own_text(text: str, found: list[str]) -> None:
    """Numbers, escapes and blanks stay as they are."""
    assert elements(text) == found


@given(json_values, blanks, blanks)
def test_an_array_is_split_into_its_elements(value: object, before: str, after: str) -> None:
    """White space around the elements does not matter."""
    text = f"{before}[{before}{json.dumps(value)}{after},{before}{json.dumps(value)}{after}]{after}"
    assert elements(text) == [json.dumps(value)] * 2


@pytest.mark.parametrize("text", ["", "{", "[1,]", "{} {}", "[1] x", "nonsense"])
def test_a_text_that_is_not_one_json_document_is_an_error(text: str) -> None:
    """A valid beginning is not enough."""
    with pytest.raises(ValueError, match=r"\S"):
        elements(text)


def test_a_document_becomes_one_line_without_changing() -> None:
    """JSON allows line breaks only between tokens."""
    text = '{"a":\r\n [1,\n2.0]}'
    assert one_line(text).count("\n") == 0
    assert json.loads(one_line(text)) == json.loads(text)
