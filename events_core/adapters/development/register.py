"""The Register of development: parties in a JSON file (docs/policy.md). Never used when deployed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator
from pydantic.alias_generators import to_camel

from events_core.access.identity import Caller
from events_core.access.names import Subject, subjects_of_organisation
from events_core.adapters.development.files import read_document


class Party(BaseModel):
    """A person or an organisation."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    party_id: Annotated[int, Field(gt=0)]
    party_uuid: UUID
    person_identifier: Annotated[str, Field(pattern=r"^[0-9]{11}$")] | None = None
    organization_identifier: Annotated[str, Field(pattern=r"^[0-9]{9}$")] | None = None
    main_unit: Annotated[str, Field(pattern=r"^[0-9]{9}$")] | None = None
    """The organisation number of the main unit whose sub-unit this is."""

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.person_identifier is None) == (self.organization_identifier is None):
            raise ValueError("needs either personIdentifier or organizationIdentifier")
        return self


class Parties(RootModel[list[Party]]):
    """A register file."""

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        for name in Party.model_fields.keys() - {"main_unit"}:
            listed = Counter(getattr(party, name) for party in self.root)
            if any(value is not None and count > 1 for value, count in listed.items()):
                raise ValueError(f"{to_camel(name)} stands twice")
        return self


class LocalRegister:
    """Looks numbers up in a register file, read once.

    Raises:
        LocalFileError: the file cannot be read, or an entry of it is wrong.
    """

    def __init__(self, path: Path) -> None:
        parties = read_document(path, Parties).root
        self._units = {p.organization_identifier: p.party_id for p in parties if p.organization_identifier}
        self._persons = {p.person_identifier: p for p in parties if p.person_identifier}
        self._main_units = {
            Subject.parse(subject).register_urn: p.main_unit
            for p in parties
            if p.organization_identifier and p.main_unit
            for subject in subjects_of_organisation(p.party_id, p.organization_identifier)
        }

    async def party_of_unit(self, organisation_number: str, caller: Caller) -> int | None:  # noqa: ARG002 - any caller may ask
        """The party id of an organisation, None when unknown."""
        return self._units.get(organisation_number)

    async def party_of_person(self, person_number: str, caller: Caller) -> int | None:  # noqa: ARG002 - any caller may ask
        """The party id of a person, None when unknown."""
        person = self._persons.get(person_number)
        return None if person is None else person.party_id

    async def party_uuids(self, person_numbers: Sequence[str]) -> Mapping[str, str]:
        """The party uuid of each person number that the file knows."""
        known = (self._persons.get(number) for number in person_numbers)
        return {p.person_identifier: str(p.party_uuid) for p in known if p is not None and p.person_identifier}

    async def main_units(self, subject: str) -> Sequence[str]:
        """The main unit of the organisation that a subject names, under every name that subjects have."""
        number = self._main_units.get(Subject.parse(subject).register_urn)
        party = self._units.get(number) if number else None
        return () if number is None or party is None else subjects_of_organisation(party, number)

    async def ping(self) -> None:
        """Return: the parties are in memory."""
