"""The one rule that finds numbers of persons in texts."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.common.persons import holds_person_number, masked, names_person, surely_names_person
from tests.support.numbers import persons

NUMBER, WITHOUT_CHECK_DIGITS = "01899699552", "12345678901"
ESCAPED = "".join(f"%{ord(digit):x}" for digit in NUMBER)
GUID = "6b3c2f7e-9a41-4d0b-8a57-0d1f6f1c2a10"

HOLDING = [
    NUMBER,
    WITHOUT_CHECK_DIGITS,
    f"/user/{NUMBER}",
    f"urn:altinn:person:identifier-no:{NUMBER}/",
    f"urn:x:{NUMBER}:1",
    f"urn:altinn:resource:ttd-{NUMBER}",
    f"urn:altinn:resource:app_ttd_{NUMBER}",
    f"urn:altinn:resource:altinnapp.ttd.{NUMBER}",
    f"a{NUMBER}",
    f"pnr{NUMBER}F",
    f"{NUMBER}-1",
    f"%{NUMBER}%",
    f" {NUMBER}\n",
    "018996 99552",
    "018996\u00a099552",
    ESCAPED,
    "%30" + NUMBER[1:],
    quote(ESCAPED),
    quote(quote(ESCAPED)),
    "".join(f"%{ord(character):x}" for character in ESCAPED),
    "%%33%30" + NUMBER[1:],
    "".join(chr(ord("\uff10") + int(digit)) for digit in NUMBER),
    f"{GUID}/{NUMBER}",
]
OTHERS = [
    "",
    "0" * 10,
    "0" * 12,
    f"1{NUMBER}",
    "/party/50002108",
    "/organisation/974760673",
    "2026-07-28T11:00:53.391700Z",
    f"pnr{WITHOUT_CHECK_DIGITS}",
    f"/systemuser/6b3c2f7e-9a41-4d0b-8a57-{'0' * 12}",
    f"6b3c2f7e-9a41-4d0b-8a57-a{NUMBER}",
    "0af7651916cd43dd8448eb211c80319c",
    f"{'a' * 21}{NUMBER}",
    f"%{WITHOUT_CHECK_DIGITS}%",
]


@pytest.mark.parametrize("text", HOLDING)
def test_a_number_is_found_wherever_it_stands(text: str) -> None:
    """Alone, within a URN, URL or name, beside letters, with a space, in other digits, and percent-encoded."""
    assert holds_person_number(text)
    assert names_person(text)
    assert not holds_person_number(masked(text))


@pytest.mark.parametrize("text", OTHERS)
def test_other_digits_are_no_number_of_a_person(text: str) -> None:
    """Other lengths, digits of a GUID or trace id, and eleven digits beside a letter without check digits."""
    assert not holds_person_number(text)
    assert masked(text) == text


@pytest.mark.parametrize("number", ["01899699552", "21876112989", *persons(20)])
def test_synthetic_numbers_are_found_beside_letters(number: str) -> None:
    """The month of a synthetic person is 40 or 80 higher."""
    assert holds_person_number(f"doc{number}.pdf")


@pytest.mark.parametrize("text", [f"/case/{WITHOUT_CHECK_DIGITS}", f"a-{WITHOUT_CHECK_DIGITS}%2F%", *OTHERS])
def test_eleven_digits_without_check_digits_may_be_a_case(text: str) -> None:
    """They surely name nobody; those with check digits do, in any spelling."""
    assert not surely_names_person(text)
    assert surely_names_person(f"{text}/{NUMBER}")
    assert surely_names_person(f"{text}/{ESCAPED}")


@pytest.mark.parametrize("text", ["/person/x", "/PERSON/1", "urn:altinn:person:identifier-no:1", "%2Fperson/x"])
def test_the_path_or_urn_of_a_person_names_one_whatever_its_number(text: str) -> None:
    """A number with a typing error is nearly somebody's number."""
    assert names_person(text)
    assert not holds_person_number(text)


def test_only_the_number_is_masked() -> None:
    """The rest of a text stays readable, unless the number is encoded."""
    assert masked(f"https://x.example/{GUID}/{NUMBER}?a=%20") == f"https://x.example/{GUID}/***?a=%20"
    assert masked(f"https://x.example/{ESCAPED}") == "***"


@given(st.text() | st.from_regex(r"[0-9 %a-f:/-]{,80}"))
def test_no_text_holds_a_number_once_it_is_masked(text: str) -> None:
    """Masking is complete, and what holds no number stays as it is."""
    assert not holds_person_number(masked(text))
    assert holds_person_number(text) or masked(text) == text
