"""Events as values: raw and validated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from events_core.cloudevent import json_text

ATTRIBUTE_NAME = re.compile(r"[a-z0-9]+")
"""The names of context attributes (CloudEvents 1.0.2, Naming Conventions), and of `data`, which is not one."""
_DATA_MEMBERS = ("data", "data_base64")


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """A validated event. `json` is its published text, byte for byte, with the attributes that publishing sets."""

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

    `members` are its parsed members, `data` included. `text` is its JSON text in UTF-8. Neither holds a null.
    """

    members: Mapping[str, object]
    text: bytes

    @classmethod
    def of(cls, members: Mapping[str, object], text: str) -> RawEvent:
        """The event of a JSON object. A member that is null counts as absent, and leaves its text too."""
        nulls = {name for name, value in members.items() if value is None}
        if nulls:
            members = {name: value for name, value in members.items() if name not in nulls}
            text = json_text.remove_members(text, nulls)
        return cls(MappingProxyType(members), text.encode())

    @property
    def attributes(self) -> Mapping[str, str | int | bool]:
        """The context attributes by name, without values of other types than string, integer and boolean."""
        return {
            name: value
            for name, value in self.members.items()
            if isinstance(value, (str, int)) and name not in _DATA_MEMBERS
        }

    def set(self, **attributes: str) -> RawEvent:
        """The event with these attributes. The rest of its text stays as it is.

        An attribute that is a member already is replaced in place. Others are added at the end.
        """
        text = self.text.decode()
        present = {name: json_text.as_json(value) for name, value in attributes.items() if name in self.members}
        if present:
            text = json_text.replace_members(text, present)
        absent = {name: json_text.as_json(value) for name, value in attributes.items() if name not in self.members}
        text = json_text.add_members(text, absent)
        return RawEvent(MappingProxyType({**self.members, **attributes}), text.encode())
