"""How streams, partitions and documents are called in Cosmos DB."""

from __future__ import annotations

import hashlib
import hmac
import re

from events_core.access.names import Subject
from events_core.feeds.stream import Stream

SEGMENT_SIZE = 32_768
"""Documents in a logical partition: at most 256 KiB each, twice that when escaped, is 16 GiB of its 20 GB."""

LARGEST_POSITION = 2**53 - 1
"""The largest integer that JSON numbers hold exactly."""

_UNSAFE = re.compile(rb"[^A-Za-z0-9:._-]")
_LONGEST_ID = 900


class Names:
    """Names of streams as they are stored; those of subjects other than parties are made under a secret key.

    The same stream has the same name in every process with the same key, and no name holds a person's number.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.key_check = hmac.digest(key, b"which key this is", "sha256").hex()[:16]
        """What tells keys apart; nothing else follows from it, and no name of a stream is made so."""

    def of(self, stream: Stream) -> str:
        """The stored name of a stream, short enough for an id."""
        if stream.kind == "subject" and Subject.parse(stream.key).party is None:
            return f"subject:hmac:{hmac.digest(self._key, stream.key.encode(errors='replace'), 'sha256').hex()}"
        if len(document_id(stream.name)) > _LONGEST_ID:
            return f"{stream.kind}:sha256:{hashlib.sha256(stream.key.encode(errors='replace')).hexdigest()}"
        return stream.name


def document_id(name: str) -> str:
    """A stored name as an id: Cosmos DB refuses some characters there, which become `~` and two hex digits."""
    return _UNSAFE.sub(lambda found: b"~" + found[0].hex().encode(), name.encode(errors="replace")).decode()


def partition(name: str, segment: int) -> str:
    """The logical partition of a segment of a stream."""
    return f"{name}|{segment:08d}"


def position_id(position: int) -> str:
    """The id of the document at a position; ids sort as positions do."""
    return f"{position:020d}"


def segment_of(position: int, size: int) -> int:
    """The segment that holds a position, for the first one and for none too."""
    return max(position - 1, 0) // size


def first_of(segment: int, size: int) -> int:
    """The first position of a segment."""
    return segment * size + 1
