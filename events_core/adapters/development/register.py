"""The development Register: parties in a JSON file (docs/policy.md). A deployment never uses it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from typing_extensions import override

from events_core.access.identity import Caller
from events_core.access.names import Subject, subjects_of_organisation
from events_core.access.ports import PartyRegister
from events_core.adapters.development.files import read_document
from events_core.common.halves import Requests

PartyId = Annotated[int, Field(gt=0)]
UserId = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,9}$")]


class Party(BaseModel):
    """A person or an organisation."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    party_id: PartyId
    party_uuid: UUID
    person_identifier: Annotated[str, Field(pattern=r"^[0-9]{11}$")] | None = None
    organization_identifier: Annotated[str, Field(pattern=r"^[0-9]{9}$")] | None = None
    main_unit: Annotated[str, Field(pattern=r"^[0-9]{9}$")] | None = None
    """The organisation number of a sub-unit's main unit."""

    @model_validator(mode="after")
    def _is_person_or_organisation(self) -> Self:
        if (self.person_identifier is None) == (self.organization_identifier is None):
            raise ValueError("needs either personIdentifier or organizationIdentifier")
        return self


class RegisterFile(BaseModel):
    """A register file: parties, and the parties that each user represents. It may be a bare list of parties."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parties: list[Party]
    represents: dict[UserId, list[PartyId]] = {}

    @classmethod
    def read(cls, path: Path) -> RegisterFile:
        """Read a register file.

        Raises:
            LocalFileError: The file cannot be read, or an entry is wrong.
        """
        return read_document(path, cls)

    @model_validator(mode="before")
    @classmethod
    def _of_a_list(cls, document: Any) -> Any:
        return {"parties": document} if isinstance(document, list) else document

    @model_validator(mode="after")
    def _identifiers_are_unique(self) -> Self:
        for name in Party.model_fields.keys() - {"main_unit"}:
            listed = Counter(getattr(party, name) for party in self.parties)
            if any(value is not None and count > 1 for value, count in listed.items()):
                raise ValueError(f"{to_camel(name)} occurs more than once")
        return self


class LocalRegister(PartyRegister):
    """Looks numbers up in a register file, which is read once.

    Raises:
        LocalFileError: The file cannot be read, or an entry is wrong.
    """

    def __init__(self, path: Path) -> None:
        parties = RegisterFile.read(path).parties
        self._persons = {party.person_identifier: party for party in parties if party.person_identifier}
        self._units: dict[str, int] = {}
        self._main_units: dict[str | None, str] = {}
        for party in parties:
            if number := party.organization_identifier:
                self._units[number] = party.party_id
                if party.main_unit:
                    for subject in subjects_of_organisation(party.party_id, number):
                        self._main_units[Subject.parse(subject).register_urn] = party.main_unit

    @override
    async def party_of_unit(self, organisation_number: str, caller: Caller) -> int | None:
        return self._units.get(organisation_number)

    @override
    async def party_of_person(self, person_number: str, caller: Caller) -> int | None:
        person = self._persons.get(person_number)
        return None if person is None else person.party_id

    @override
    async def party_uuids(self, person_numbers: Sequence[str], requests: Requests) -> Mapping[str, str | None]:
        known = {number: self._persons.get(number) for number in person_numbers}
        return {number: None if person is None else str(person.party_uuid) for number, person in known.items()}

    @override
    async def main_units(self, subject: str) -> Sequence[str]:
        number = self._main_units.get(Subject.parse(subject).register_urn)
        party = self._units.get(number) if number else None
        return () if number is None or party is None else subjects_of_organisation(party, number)

    @override
    async def ping(self) -> None:
        pass  # the parties are in memory
