"""Keyed hashes: short integers in place of long texts in the file's indexes."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

Digest = Callable[[bytes, bytes, int], bytes]
"""A keyed hash function of key, data and the number of bytes to return."""

_HALF = 32


def keyed_digest(key: bytes, data: bytes, size: int) -> bytes:
    """BLAKE2b (RFC 7693) of `data` under `key`, `size` bytes long."""
    return blake2b(data, digest_size=size, key=key).digest()


class Hashes:
    """The hashes of one file, under the file's own random key.

    Nobody can find a collision without the key. Still, whatever a hash finds is compared as text.
    """

    def __init__(self, key: bytes, digest: Digest = keyed_digest) -> None:
        self._key = key
        self._digest = digest

    def identity(self, resource: str, source: str, event_id: str) -> int:
        """64 bits, signed: the upper half hashes the id, the lower half hashes (resource, source, id)."""
        whole = f"{resource}\0{source}\0{event_id}".encode()
        return int.from_bytes(
            self._digest(self._key, event_id.encode(), 4) + self._digest(self._key, whole, 4), signed=True
        )

    def identities_of_id(self, event_id: str) -> tuple[int, int]:
        """The least and the greatest identity that an event with this id can have."""
        least = int.from_bytes(self._digest(self._key, event_id.encode(), 4), signed=True) << _HALF
        return least, least + (1 << _HALF) - 1

    def subject(self, subject: str) -> int:
        """48 bits, signed, which SQLite stores in six bytes."""
        return int.from_bytes(self._digest(self._key, subject.encode(), 6), signed=True)
