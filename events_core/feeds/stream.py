"""Streams, cursors and filters (docs/architecture.md, "Streams and positions")."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from events_core.access.names import Resource

PROOF_BYTES = 8
_CURSOR = struct.Struct(f">BQ{PROOF_BYTES}s")
_CHARACTERS = (16 + _CURSOR.size) * 4 // 3  # the SIV and the plain text, in base64
_BEFORE, _AFTER = 0x12, 0x11  # version 1 in the high half, the side of the row in the low half


@dataclass(frozen=True, slots=True)
class Stream:
    """One ordered log, by its name: `resource:urn:…`, `subject:/party/…` (app events only) or `org:ttd`."""

    name: str

    @classmethod
    def of_resource(cls, resource: str) -> Stream:
        """The stream in which the events of a resource are first stored."""
        return cls(f"resource:{resource}")

    @classmethod
    def of_subject(cls, subject: str) -> Stream:
        """The stream of the app events about a subject."""
        return cls(f"subject:{subject}")

    @classmethod
    def of_org(cls, org: str) -> Stream:
        """The stream of the app events of all apps of an org."""
        return cls(f"org:{org}")

    @property
    def kind(self) -> str:
        """`resource`, `subject` or `org`."""
        return self.name.partition(":")[0]

    @property
    def key(self) -> str:
        """The name without its kind."""
        return self.name.partition(":")[2]


def projections_of(resource: str, subject: str | None) -> list[Stream]:
    """The streams that an event is projected to: for an app's event, those of its org and its subject."""
    app = Resource.parse(resource).app
    if app is None:
        return []
    return [Stream.of_org(app.org), *([Stream.of_subject(subject)] if subject else [])]


@dataclass(frozen=True, slots=True)
class Cursor:
    """A point in a stream: just after the row at `position`, or just before it.

    `proof` is 8 bytes made from that row's identity and the store's generation. Reading the row verifies them, so a
    cursor of a wiped, restored or different store is recognised.
    """

    position: int
    proof: bytes
    before: bool = False


class CursorCodec:
    """Cursors as opaque text, bound to their stream and to this service.

    The encryption is authenticated and deterministic (AES-SIV, RFC 5297). A cursor reveals no position and no party,
    cannot be forged and does not decode for another stream. Equal cursors give equal text, so that ETags hold.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESSIV(key)

    def encode(self, cursor: Cursor, stream: Stream) -> str:
        """The cursor as text that is safe in a URL."""
        side = _BEFORE if cursor.before else _AFTER
        plain = _CURSOR.pack(side, cursor.position, cursor.proof)
        return base64.urlsafe_b64encode(self._cipher.encrypt(plain, [stream.name.encode()])).rstrip(b"=").decode()

    @staticmethod
    def may_be(text: str) -> bool:
        """Whether the text is as long as a cursor, a check that costs next to nothing."""
        return len(text) == _CHARACTERS

    def decode(self, text: str, stream: Stream) -> Cursor | None:
        """The cursor that `text` encodes; None if it is not a cursor of this stream and service."""
        if not self.may_be(text):
            return None
        try:
            sealed = base64.b64decode(text, b"-_", validate=True)
            side, position, proof = _CURSOR.unpack(self._cipher.decrypt(sealed, [stream.name.encode()]))
        except (ValueError, InvalidTag, struct.error):
            return None
        return Cursor(position, proof, before=side == _BEFORE)


START = Cursor(0, bytes(PROOF_BYTES))
"""Before the first row of any stream."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which events of a stream a feed asks for. Empty filters let everything through.

    An event must match one of `types` and one of `sources`, without regard to case; `%` stands for any run of
    characters. The other filters match exactly.
    """

    types: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    subject: str | None = None
    alternative_subject: str | None = None
    org: str | None = None
    resource: str | None = None

    @property
    def empty(self) -> bool:
        """Whether everything is let through."""
        return self == NO_FILTERS


NO_FILTERS = Filters()
