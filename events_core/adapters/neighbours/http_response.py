"""A response of a server that nobody trusts, parsed as it arrives: how much is read is bounded."""

from __future__ import annotations

from collections.abc import Collection

import httptools

MAX_BYTES = 64 * 1024
"""Of all responses of an attempt, with their headers and the interim responses before them."""
MAX_BODY_BYTES = 16 * 1024
_CHUNK = 4 * 1024
_NEWLINE = ord("\n")


class MalformedResponseError(Exception):
    """The bytes are no response of HTTP/1."""


class IncomingResponse:
    """What has arrived of a response. `headers` are those with the `wanted` names, in lower case.

    `status` is set when the whole status line of a final response has arrived, and stays whatever follows it. With
    `reusable`, the connection can carry another request.
    """

    def __init__(self, wanted: Collection[str] = (), max_bytes: int = MAX_BYTES) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.read = 0
        self.complete = False
        self.reusable = False
        self._wanted, self._max_bytes = frozenset(map(str.encode, wanted)), max_bytes
        self._body = 0
        self._in_headers = self._in_interim_headers = False
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True)

    @property
    def left(self) -> int:
        """How many bytes another response to the same attempt may have."""
        return self._max_bytes - self.read

    @property
    def room(self) -> int:
        """How many bytes to read next; 0 when the response is complete, or larger than we read."""
        return 0 if self.complete else min(_CHUNK, self.left, MAX_BODY_BYTES - self._body)

    def feed(self, data: bytes) -> None:
        """Parse what was read, by lines until the status line is there, or by headers that cannot be one.

        Raises:
            MalformedResponseError: The bytes are no response of HTTP/1. A status that arrived before stays.
        """
        self.read += len(data)
        try:
            while self.status is None and data:
                end = self._end_of_headers(data) or data.find(b"\n") + 1 or len(data)
                self._parser.feed_data(data[:end])
                if data[end - 1] == _NEWLINE and self._in_headers:
                    status = self._parser.get_status_code()
                    self._in_interim_headers = status < 200
                    self.status = status if status >= 200 else None
                data = data[end:]
            if data:
                self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.reusable = False
            raise MalformedResponseError from error

    def _end_of_headers(self, data: bytes) -> int:
        """How many bytes are whole header lines of an interim response, before its empty line; 0 if that is unknown."""
        if not self._in_interim_headers or data[0] in b"\r\n":
            return 0
        ends = [at for at in (data.find(b"\n\r\n"), data.find(b"\n\n")) if at >= 0]
        return (min(ends) if ends else data.rfind(b"\n")) + 1

    # -- Called by the parser -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Forget the headers of an interim response. Bytes behind the final response spoil the connection."""
        self.reusable = self._in_interim_headers = False
        if not self.complete:
            self.headers.clear()
            self._in_headers = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header that is wanted, unless it stands behind the body."""
        if self._in_headers and (lowered := name.lower()) in self._wanted:
            self.headers[lowered.decode()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        """Begin the body."""
        self._in_headers = self._in_interim_headers = False

    def on_body(self, data: bytes) -> None:
        """Drop a part of the body, and count it."""
        self._body += len(data)

    def on_message_complete(self) -> None:
        """End a response. The one with the final status is the last."""
        if not self.complete and self.status is not None:
            self.complete, self.reusable = True, self._parser.should_keep_alive()
