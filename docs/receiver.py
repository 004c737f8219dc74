"""A receiver of webhooks: verifies an event, stores it once, then acknowledges it. Python 3.11, no packages.

    WEBHOOK_SECRETS="whsec_…" python receiver.py [port] [database]

While you rotate a secret, WEBHOOK_SECRETS holds both, separated by a space.
"""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_SECONDS = 300
LARGEST = 1024 * 1024


def verified(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> bool:
    """Return whether one of the secrets signed this body within TOLERANCE_SECONDS (Standard Webhooks)."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    signed = f"{message_id}.{timestamp}.".encode() + body
    received = [part.partition(",")[2] for part in headers.get("webhook-signature", "").split() if part[:3] == "v1,"]
    expected = [signature(secret, signed) for secret in secrets]
    return any(hmac.compare_digest(given.encode(), wanted.encode()) for given in received for wanted in expected)


def signature(secret: str, signed: bytes) -> str:
    """Return the base64 HMAC of a text under a secret."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class Inbox:
    """A SQLite file of events, each once by its source and id."""

    def __init__(self, path: str) -> None:
        self._path = path
        with closing(self._connection()) as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS inbox (source TEXT, id TEXT, event TEXT, PRIMARY KEY (source, id))"
            )

    def keep(self, event: Mapping[str, str], text: str) -> bool:
        """Store an event on disk. Return False if it is there already."""
        with closing(self._connection()) as connection, connection:
            values = (event["source"], event["id"], text)
            return connection.execute("INSERT OR IGNORE INTO inbox VALUES (?, ?, ?)", values).rowcount > 0

    def _connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=10)


class Receiver(BaseHTTPRequestHandler):
    """Answers the requests of the service."""

    inbox: Inbox
    secrets: Sequence[str] = ()
    timeout = 30  # seconds of silence before a connection is closed

    def do_OPTIONS(self) -> None:
        """Accept the handshake (CloudEvents Web Hooks, section 4)."""
        self._answer(200, {"WebHook-Allowed-Origin": self.headers.get("WebHook-Request-Origin", "*")})

    def do_POST(self) -> None:
        """Verify and store an event."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST:
            return self._answer(413)
        body, headers = self.rfile.read(int(length)), {name.lower(): value for name, value in self.headers.items()}
        try:
            if not verified(headers, body, self.secrets, time.time()):
                return self._answer(401)
            event = json.loads(body)
            if event["type"] != "platform.events.validatesubscription" and self.inbox.keep(event, body.decode()):
                print("received", event["type"], event["id"], flush=True)  # start your own work here, or later
        except (ValueError, KeyError, TypeError):
            return self._answer(400)
        except sqlite3.Error:
            return self._answer(503)  # not stored, so the service must send it again
        return self._answer(200)

    def _answer(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Log nothing."""


def main(port: int = 8000, database: str = "inbox.db") -> None:
    """Serve until stopped."""
    Receiver.secrets = os.environ.get("WEBHOOK_SECRETS", "").split()
    if not Receiver.secrets:
        sys.exit("WEBHOOK_SECRETS is missing: set it to the secret of the subscription.")
    Receiver.inbox = Inbox(database)
    with ThreadingHTTPServer(("127.0.0.1", port), Receiver) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, str), sys.argv[1:], strict=False)))
