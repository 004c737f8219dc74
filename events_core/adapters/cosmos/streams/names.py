"""Names of streams, partitions and documents in Cosmos DB."""

from __future__ import annotations

import hashlib
import hmac
import re

from events_core.access.names import Subject
from events_core.feeds.stream import Stream

SEGMENT_SIZE = 32_768
"""Documents in a logical partition: 256 KiB each at most, doubled by escaping, make 16 GiB of the allowed 20 GB."""

LARGEST_POSITION = 2**53 - 1
"""The largest integer that JSON numbers hold exactly."""

_UNSAFE = re.compile(rb"[^A-Za-z0-9:._-]")
_LONGEST_ID = 900


class Names:
    """Names of streams in the database. A subject that is no party is named by a hash under a secret key.

    So no name holds a person's number, and processes with the same key use the same name for a stream.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.key_check = hmac.digest(key, b"which key this is", "sha256").hex()[:16]
        """Differs for different keys and reveals nothing else about the key."""

    def of(self, stream: Stream) -> str:
        """The name of a stream in the database, short enough for an id."""
        if stream.kind == "subject" and Subject.parse(stream.key).party is None:
            return f"subject:hmac:{hmac.digest(self._key, stream.key.encode(errors='replace'), 'sha256').hex()}"
        if len(document_id(stream.name)) > _LONGEST_ID:
            return f"{stream.kind}:sha256:{hashlib.sha256(stream.key.encode(errors='replace')).hexdigest()}"
        return stream.name


def document_id(name: str) -> str:
    """A stream's name as a document id. A character that Cosmos DB refuses becomes `~` and two hex digits per byte."""
    return _UNSAFE.sub(lambda found: b"~" + found[0].hex().encode(), name.encode(errors="replace")).decode()


def partition(name: str, segment: int) -> str:
    """The logical partition of a segment of a stream."""
    return f"{name}|{segment:08d}"


def position_id(position: int) -> str:
    """The id of the document at a position. Ids sort as positions do."""
    return f"{position:020d}"


def segment_of(position: int, size: int) -> int:
    """The segment of a position; the first segment for position 0."""
    return max(position - 1, 0) // size


def first_of(segment: int, size: int) -> int:
    """The first position of a segment."""
    return segment * size + 1
