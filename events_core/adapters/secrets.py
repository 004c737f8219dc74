"""Encryption of stored secrets with AES-256-GCM; the first configured key encrypts, all keys decrypt."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from typing_extensions import override

from events_core.common import errors
from events_core.delivery.ports import SecretBox

_NONCE_BYTES = 12
_ID_DIGITS = 8


class KeyRing(SecretBox):
    """Seals secrets as `{key id}.{nonce and ciphertext in base64}`, so that keys can be rotated.

    A key's id is the beginning of its SHA-256. `keys` are 32 bytes each.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {hashlib.sha256(key).hexdigest()[:_ID_DIGITS]: AESGCM(key) for key in keys}
        self._current = next(iter(self._keys))

    @override
    def seal(self, secret: str, context: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._keys[self._current].encrypt(nonce, secret.encode(), context.encode())
        return f"{self._current}.{base64.b64encode(sealed).decode()}"

    @override
    def open(self, sealed: str, context: str) -> str:
        key_id, _, text = sealed.partition(".")
        try:
            data = base64.b64decode(text, validate=True)
            return self._keys[key_id].decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], context.encode()).decode()
        except (KeyError, ValueError, InvalidTag):
            raise errors.unavailable("A secret cannot be opened with the configured keys.", retry_after=60) from None
