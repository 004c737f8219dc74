"""The comparison of events with the filters of subscriptions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from events_core.feeds.patterns import Pattern

OF_SUBJECT = ("subject", "subject or main unit")
"""What a subject filter compares."""


class Matchable(Protocol):
    """The attributes of an event that filters compare. CloudEvent and StoredEvent have them."""

    @property
    def resource(self) -> str:
        """The event's `resource`."""

    @property
    def type(self) -> str:
        """The event's `type`."""

    @property
    def source(self) -> str:
        """The event's `source`."""

    @property
    def subject(self) -> str | None:
        """The event's `subject`."""

    @property
    def alternative_subject(self) -> str | None:
        """The event's `alternativesubject`."""


class Comparison:
    """An event as filters compare it. Each pattern is compared once, however many filters have it.

    `main_units` are the names of the main unit of the event's subject. `subjects` are the subject and these names.
    `hidden` replaces the numbers of persons in a text as stored filters do. A subject is compared as it is too, since
    the wildcard of a filter may stand for some digits of such a number.
    """

    def __init__(
        self, event: Matchable, main_units: Iterable[str] = (), hidden: Callable[[str], str] | None = None
    ) -> None:
        self.resource = event.resource
        subject = _forms(event.subject, hidden)
        self.subjects = [*subject, *map(comparable, main_units)]
        self._texts = {
            "type": [event.type.lower()],
            "source": [f"{comparable(event.source)}/"],
            "subject": subject,
            "subject or main unit": self.subjects,
            "alternative subject": _forms(event.alternative_subject, hidden),
        }
        self._known: dict[tuple[str, str], bool] = {}

    def matches(self, attribute: str, pattern: Pattern) -> bool:
        """Whether an attribute of the event matches a pattern."""
        key = attribute, pattern.text
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = any(map(pattern.matches, self._texts[attribute]))
        return known


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """The filters of a subscription. `patterns` has the name, the attribute and the pattern of each, in their order."""

    resource: str
    patterns: tuple[tuple[str, str, Pattern], ...]

    def difference(self, event: Comparison) -> str | None:
        """The member of the subscription's document whose filter stops an event, None if the event matches."""
        if event.resource != self.resource:
            return "resourceFilter"
        for name, attribute, pattern in self.patterns:
            if not event.matches(attribute, pattern):
                return name
        return None

    def lets_through(self, event: Comparison) -> bool:
        """Whether an event matches."""
        return self.difference(event) is None

    def lets_through_but_subject(self, event: Comparison) -> bool:
        """Whether an event matches every filter but the one of the subject."""
        others = (entry for entry in self.patterns if entry[1] not in OF_SUBJECT)
        return event.resource == self.resource and all(event.matches(*entry[1:]) for entry in others)


def _forms(text: str | None, hidden: Callable[[str], str] | None) -> list[str]:
    """The forms in which filters compare a subject, if there is one."""
    if text is None:
        return []
    forms = [text] if hidden is None else [text, hidden(text)]
    return list(dict.fromkeys(map(comparable, forms)))


def comparable(text: str) -> str:
    """A filter or an attribute as it is compared: in lower case, without trailing slashes."""
    lowered = text.lower()
    return lowered.rstrip("/") or lowered


def comparable_source(text: str) -> str:
    """A source filter as it is compared. A trailing `/%` is dropped, because a source matches all below it anyway."""
    lowered = comparable(text)
    while lowered.endswith("/%"):
        lowered = comparable(lowered.removesuffix("/%"))
    return lowered
