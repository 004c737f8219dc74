"""The file: its tables and the connections to it."""
# ruff: noqa: S608  statements are put together from constants; every value is bound

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path

from events_core.adapters.sqlite.hashes import Digest, Hashes
from events_core.common import errors, private_files
from events_core.feeds.patterns import AnyPattern

_log = getLogger(__name__)

LARGEST = 2**63 - 1
"""The largest integer of SQLite. No row has this position."""

SAMPLED = 16
"""Of this many rows one is in the index by registration."""

KEY = "SELECT value FROM store WHERE name = 'key'"
"""The random key of the file's hashes."""
_GENERATION = "SELECT value FROM store WHERE name = 'generation'"
RENEW_GENERATION = "UPDATE store SET value = random() WHERE name = 'generation'"
"""Cursors of an earlier generation are unknown: other rows may have stood before theirs."""

_KEY_BYTES = 16
STATEMENTS_KEPT = 32
"""How many compiled statements a connection keeps. Filters make statements of many lengths."""
_RETRY_SECONDS = 0.001

# No text is stored twice: resources, orgs and types are interned in `names`, subjects are indexed by keyed hashes, and
# the `_text` columns say where a text is in the event's JSON. The position is the rowid, which every index entry
# contains anyway.
_TABLES = f"""
CREATE TABLE store (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE events (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  resource INTEGER NOT NULL,
  type INTEGER NOT NULL,
  org INTEGER,
  subject INTEGER,
  alternative INTEGER,
  registered INTEGER NOT NULL,
  identity INTEGER NOT NULL,
  erased INTEGER NOT NULL DEFAULT 0,
  id_text BLOB NOT NULL,
  source_text BLOB NOT NULL,
  subject_text BLOB,
  alternative_text BLOB,
  instance_text BLOB,
  json BLOB NOT NULL
);
CREATE INDEX by_resource ON events (resource);
CREATE INDEX by_org ON events (org) WHERE org IS NOT NULL;
CREATE INDEX by_subject ON events (subject) WHERE org IS NOT NULL;
CREATE INDEX by_subject_and_resource ON events (subject, resource) WHERE subject IS NOT NULL;
CREATE INDEX by_alternative_and_resource ON events (alternative, resource) WHERE alternative IS NOT NULL;
CREATE INDEX by_identity ON events (identity);
CREATE INDEX by_registered ON events (registered) WHERE position % {SAMPLED} = 0;
INSERT INTO store VALUES ('newest_removed', 0), ('generation', random())
"""
# A document is a value as JSON. The columns beside it are the ones that statements search by.
_DELIVERY_TABLES = """
CREATE TABLE subscriptions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT UNIQUE,
  consumer TEXT NOT NULL,
  version INTEGER NOT NULL,
  deleted INTEGER NOT NULL,
  document TEXT NOT NULL
);
CREATE INDEX subscriptions_by_consumer ON subscriptions (consumer) WHERE NOT deleted;
CREATE UNIQUE INDEX subscriptions_by_version ON subscriptions (version);
CREATE TABLE deliveries (
  subscription INTEGER NOT NULL,
  position INTEGER NOT NULL,
  replay INTEGER NOT NULL,
  state TEXT NOT NULL,
  next_attempt INTEGER,
  settled INTEGER,
  registered INTEGER NOT NULL,
  version INTEGER NOT NULL,
  document TEXT NOT NULL,
  PRIMARY KEY (subscription, position, replay)
) WITHOUT ROWID;
CREATE INDEX deliveries_to_come ON deliveries (subscription, replay, state, next_attempt)
  WHERE next_attempt IS NOT NULL;
CREATE INDEX deliveries_by_event ON deliveries (position);
CREATE INDEX deliveries_by_state ON deliveries (subscription, state, position);
CREATE INDEX deliveries_settled ON deliveries (settled) WHERE settled IS NOT NULL AND state <> 'dead';
CREATE INDEX deliveries_by_registration ON deliveries (registered);
CREATE TABLE lanes (
  subscription INTEGER NOT NULL,
  replay INTEGER NOT NULL,
  at INTEGER,
  until INTEGER NOT NULL DEFAULT 0,
  version INTEGER NOT NULL DEFAULT 0,
  failures INTEGER NOT NULL DEFAULT 0,
  open_until INTEGER NOT NULL DEFAULT 0,
  owner TEXT NOT NULL DEFAULT '', -- the process that leased the lane
  PRIMARY KEY (subscription, replay)
) WITHOUT ROWID;
CREATE INDEX lanes_due ON lanes (at) WHERE at IS NOT NULL;
CREATE TABLE replays (
  subscription INTEGER NOT NULL,
  replay INTEGER NOT NULL,
  after INTEGER NOT NULL,
  until INTEGER NOT NULL,
  done INTEGER NOT NULL,
  PRIMARY KEY (subscription, replay)
) WITHOUT ROWID
"""
_FOLLOWED_TABLES = """
CREATE TABLE followed (
  stream TEXT PRIMARY KEY,
  positions TEXT NOT NULL, -- an object: the position of each follower
  version INTEGER NOT NULL,
  catch_up_pending INTEGER NOT NULL,
  quarantined TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX followed_by_version ON followed (version);
CREATE INDEX followed_pending ON followed (version) WHERE catch_up_pending;
CREATE INDEX followed_quarantined ON followed (stream) WHERE quarantined <> '[]'
"""
_VERSION = 7
"""The version of the layout. A file of another version is refused."""


@dataclass(frozen=True, slots=True)
class Session:
    """A connection to the file, its key, generation and hashes, and the patterns of the current statement."""

    connection: sqlite3.Connection
    key: bytes
    generation: int
    hashes: Hashes
    patterns: dict[str, AnyPattern] = field(default_factory=dict)


def retry_while_busy(action: Callable[[], object], seconds: float) -> None:
    """Do `action`, and repeat it for `seconds` while another connection holds the file.

    SQLite's own busy handler waits longer after each try, so one of two busy processes would starve.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            action()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


@contextmanager
def failures_as_unavailable() -> Iterator[None]:
    """Turn a failure of SQLite or of the disk within the block into UNAVAILABLE. Their messages contain no data."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        _log.warning("event store failed: error=%s detail=%s", name, error)
        raise errors.unavailable("The event store does not answer.") from error


def connect(path: Path, *, create: bool, busy_timeout: float, digest: Digest) -> Session:
    """Open the file; with `create`, make it if it does not exist. Only its owner may read it.

    Waits `busy_timeout` seconds for another process that is making the file. The connection itself does not wait.

    Raises:
        sqlite3.Error: The file cannot be opened.
        EventsError: UNAVAILABLE if the file has another version.
    """
    if create:
        _make_private(path)
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
    connection = sqlite3.connect(
        uri,
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_KEPT,
    )
    try:
        retry_while_busy(lambda: _prepare(connection, create=create), busy_timeout)
        (key,) = connection.execute(KEY).fetchone()
        (generation,) = connection.execute(_GENERATION).fetchone()
    except BaseException:
        connection.close()
        raise
    return Session(connection, bytes(key), generation, Hashes(key, digest))


def _make_private(path: Path) -> None:
    """Make the file and its directory. SQLite gives the files beside it the rights of the file."""
    private_files.make_directory(path.parent)
    private_files.make_file(path)
    for suffix in ("", "-wal", "-shm"):  # an earlier version may have made them readable
        private_files.close_file(path.with_name(path.name + suffix))


def _prepare(connection: sqlite3.Connection, *, create: bool) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -8000")
    if create and _version(connection) == 0:
        _make_tables(connection)
    if _version(connection) != _VERSION:
        raise errors.unavailable("The event store's file is of another version of this service.")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _version(connection) == 0:  # otherwise another process was faster
            for statement in f"{_TABLES};{_DELIVERY_TABLES};{_FOLLOWED_TABLES}".split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO store VALUES ('key', ?)", (secrets.token_bytes(_KEY_BYTES),))
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
