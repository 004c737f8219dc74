"""An event as a value: validated, and raw."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from events_core.cloudevent import json_text

ATTRIBUTE_NAME = re.compile(r"[a-z0-9]+")
"""What a context attribute may be called, `data` excepted (CloudEvents 1.0.2, Naming Conventions)."""
_DATA_MEMBERS = ("data", "data_base64")


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """A validated event. `json` is its own text, byte for byte as published but for what publishing adds."""

    id: str
    source: str
    type: str
    subject: str | None
    resource: str
    resource_instance: str | None
    alternative_subject: str | None
    json: bytes


@dataclass(frozen=True, slots=True)
class RawEvent:
    """A JSON object that may be an event.

    `members` are its parsed members, `data` and nulls included; `text` is its JSON text in UTF-8, as published until
    members are set; `size` is the length of the published text in bytes.
    """

    members: Mapping[str, object]
    text: bytes
    size: int

    @classmethod
    def of(cls, members: dict[str, object], text: bytes) -> RawEvent:
        """The event as published."""
        return cls(MappingProxyType(members), text, len(text))

    @property
    def attributes(self) -> Mapping[str, str | int | bool]:
        """The context attributes that are set to a string, an integer or a boolean, by name."""
        return {
            name: value
            for name, value in self.members.items()
            if isinstance(value, (str, int)) and name not in _DATA_MEMBERS
        }

    def set(self, **attributes: str) -> RawEvent:
        """The event with attributes replaced in place, nulls too, or added at its end; all else keeps its text."""
        texts = {name: json_text.as_json(value) for name, value in attributes.items()}
        present, absent = _split(texts, self.members)
        text = self.text.decode()
        if present:
            text = json_text.replace_members(text, present)
        text = json_text.add_members(text, absent)
        return RawEvent(MappingProxyType({**self.members, **attributes}), text.encode(), self.size)


def _split(texts: Mapping[str, str], members: Mapping[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    """What is a member already, and what is not yet."""
    present = {name: text for name, text in texts.items() if name in members}
    return present, {name: text for name, text in texts.items() if name not in members}
