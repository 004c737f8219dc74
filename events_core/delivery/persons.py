"""Person numbers in the filters of subscriptions: encrypted for their consumer, and compared as HMACs."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from events_core.common import persons
from events_core.delivery.matching import Comparison, Matchable
from events_core.delivery.ports import SecretBox
from events_core.delivery.subscription import EventFilter

_UNPRINTABLE = str.maketrans({digit: chr(0xE000 + int(digit, 16)) for digit in "0123456789abcdef"})
"""Writes hexadecimal digits as private characters, which no filter may hold: a wildcard stands for none or all."""
_HMAC = re.compile("[\ue000-\ue00f]{64}")
_FLAGS = re.ASCII | re.IGNORECASE
_NAMED_AS_PERSON = re.compile(r"(?<=/person/)[^/\s]+|(?<=:person:identifier-no:)[^/\s]+", _FLAGS)
_AFTER_NAME = re.compile(r"(?:/person/|:person:identifier-no:)([^/]*)", _FLAGS)


def holds_part_of_number(text: str) -> bool:
    """Whether a wildcard stands beside digits of a person number, which would be stored and could be completed."""
    return any("%" in value and any(map(str.isdecimal, value)) for value in _AFTER_NAME.findall(text))


def masked(text: str) -> str:
    """A text without person numbers, their HMACs, and whatever stands after a name that announces a number."""
    return _NAMED_AS_PERSON.sub(persons.MASK, persons.masked(_HMAC.sub(persons.MASK, text)))


def shown_to_others(filters: EventFilter) -> EventFilter:
    """The filters for anyone but their consumer. The party of a person is left out too."""
    subject = None if filters.sealed and filters.subject_is_derived else filters.subject
    return _with_subjects(replace(filters, subject=subject), masked)


@dataclass(frozen=True, slots=True)
class PersonNumbers:
    """Replaces each person number in subjects by its HMAC under `key`. `secrets` encrypts what a consumer wrote."""

    key: bytes
    secrets: SecretBox

    def sealed(self, filters: EventFilter, consumer: str) -> EventFilter:
        """The filters to store. If a subject holds a number, only `sealed` still tells it."""
        hidden = _with_subjects(filters, self._hidden)
        if hidden == filters:
            return filters
        written = [None if filters.subject_is_derived else filters.subject, filters.alternative_subject]
        return replace(hidden, sealed=self.secrets.seal(json.dumps(written), _context(consumer)))

    def opened(self, filters: EventFilter, consumer: str) -> EventFilter:
        """The filters as their consumer wrote them.

        Raises:
            EventsError: UNAVAILABLE when no configured key decrypts them.
        """
        if filters.sealed is None:
            return filters
        subject, alternative_subject = json.loads(self.secrets.open(filters.sealed, _context(consumer)))
        return replace(filters, subject=subject, alternative_subject=alternative_subject)

    def comparison(self, event: Matchable, main_units: Iterable[str] = ()) -> Comparison:
        """The event as stored filters compare it. `main_units` name its subject's main unit."""
        return Comparison(event, main_units, self._hidden)

    def _hidden(self, text: str) -> str:
        return persons.with_numbers_replaced(text, self._hmac)

    def _hmac(self, number: str) -> str:
        return hmac.digest(self.key, number.encode(), "sha256").hex().translate(_UNPRINTABLE)


def _with_subjects(filters: EventFilter, change: Callable[[str], str]) -> EventFilter:
    """The filters with both subjects changed, where there are any."""
    subject, alternative = (
        None if text is None else change(text) for text in (filters.subject, filters.alternative_subject)
    )
    return replace(filters, subject=subject, alternative_subject=alternative)


def _context(consumer: str) -> str:
    return f"filters of {consumer}"
