"""Memory: what each cache of a process may hold, as the table in docs/operations.md says."""

from __future__ import annotations

import ast
import gc
import json
import re
import sqlite3
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, cast

import azure.functions as func
import pytest
from cachetools import LRUCache, TTLCache
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from events_core.access import decisions, identity
from events_core.access.xacml_request import Decision, Question
from events_core.adapters.cosmos.streams import duplicates, heads, states
from events_core.adapters.neighbours.register import RegisterClient
from events_core.adapters.sqlite import rows, write
from events_core.adapters.sqlite.hashes import Hashes
from events_core.adapters.sqlite.schema import Session
from events_core.adapters.tokens import jwks, unlisted, verifier
from events_core.common.single_flight import SingleFlightCache
from events_core.common.texts import digest
from events_core.delivery import attempt, shares, timers, worker
from events_core.delivery.delivery import Lane
from events_core.delivery.subscription import EndpointPause, SubscriptionIndex
from events_core.http import feeds, request

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "events_core"
CONSTRUCTORS = {"LRUCache", "TTLCache", "SingleFlightCache", "lru_cache", "cache"}
DICTIONARIES = {("adapters/sqlite/rows.py", "_known"), ("adapters/sqlite/write.py", "_names")}
"""Caches that are plain dictionaries: no library names them."""
MIB = 1024 * 1024
LARGEST_SUM = 185
_random = Random(7)


class Row(NamedTuple):
    """A row of the table: a cache, and how many MiB it may hold."""

    file: str
    name: str
    mib: float


def table() -> list[Row]:
    """The table in docs/operations.md."""
    text = (ROOT / "docs/operations.md").read_text().partition("\n## Memory\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `([a-z_/0-9]+\.py)` \| `(\w+)` \| .* \| ([0-9.]+) \|$", text, re.MULTILINE)
    return [Row(file, name, float(mib)) for file, name, mib in found]


def called(node: ast.expr) -> str:
    """The name of what is called, or used as a decorator: `lru_cache` of `@lru_cache(maxsize=1)`."""
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def caches_in(tree: ast.AST, owner: str = "") -> Iterator[str]:
    """The names of the caches in a module: of functions that are decorated or return one, and of variables."""
    if isinstance(tree, ast.Assign | ast.AnnAssign):
        owner = called(tree.targets[0] if isinstance(tree, ast.Assign) else tree.target)
    if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
        owner = tree.name
        if any(called(decorator) in CONSTRUCTORS for decorator in tree.decorator_list):
            yield owner
        children: Sequence[ast.AST] = tree.body
    elif isinstance(tree, ast.Call) and called(tree) in CONSTRUCTORS:
        yield owner
        return
    else:
        children = [*ast.iter_child_nodes(tree)]
    for child in children:
        if not isinstance(child, ast.arguments):
            yield from caches_in(child, owner)


def test_every_cache_is_in_the_table() -> None:
    """A new cache says how much it may hold, and the table names no other."""
    found = {
        (path.relative_to(CORE).as_posix(), name)
        for path in CORE.rglob("*.py")
        if path.name != "single_flight.py"  # its users are in the table
        for name in caches_in(ast.parse(path.read_text()))
    }
    assert found | DICTIONARIES == {(row.file, row.name) for row in table()}
    assert [path for path in ROOT.glob("local/**/*.py") if [*caches_in(ast.parse(path.read_text()))]] == []


def test_the_caches_together_are_small() -> None:
    """An instance has 2,048 MB, for everything."""
    assert 0 < sum(row.mib for row in table()) <= LARGEST_SUM


# -- The most hostile contents ----------------------------------------------------------------------------------------


def text(length: int, number: object = "") -> str:
    """A text of characters that take four bytes each, another one for each number."""
    return f"{number}\U0001f600".ljust(length, "\U0001f600")


def question(number: int) -> Question:
    """A question with attributes as long as an event may have them, about a caller's long token."""
    attributes = [
        ("urn:altinn:eventsource", f"urn:{number}:".ljust(2_048, "x")),
        ("urn:altinn:eventtype", text(256, number)),
        ("urn:altinn:resource:instance-id", text(2_048, number)),
        (f"urn:{number}".ljust(1_000, "x"), f"{number}".ljust(1_048, "x")),
        (f"urn:s{number}".ljust(256, "x"), text(256, number)),
    ]
    return Question((("urn:scope", "s" * 8_000),), "read", tuple(attributes), text(256, number), "u" * 2_048)


async def kept(cache: SingleFlightCache[Any, Any], answers: Mapping[Any, Any]) -> tuple[object, int]:
    """Fill a cache of answers; return it and its limit."""

    async def ask(asked: Sequence[Any]) -> Mapping[Any, Any]:
        return {each: answers[each] for each in asked}

    await cache.get(list(answers), ask)
    return cache, int(cache._kept.maxsize)


@dataclass(frozen=True)
class Filled:
    """How a cache is filled: `fill` returns the cache and how many entries it takes, `entries` are as many as it adds.

    A cache whose limit is in bytes is filled beyond it: then `entries` is None, and what was added is all it can hold.
    """

    fill: Callable[[], Awaitable[tuple[object, float]]]
    entries: int | None = 500
    copies: int = 1


async def of_decisions() -> tuple[object, int]:
    """Permits of both levels."""
    answers = {question(n): Decision(permit=True, level=10**8 + n, level_org=10**8 - n) for n in range(500)}
    return await kept(decisions.decision_cache(), answers)


async def of_undecidable() -> tuple[object, float]:
    """Digests of questions."""
    cache = decisions.undecidable_cache()
    cache.update({question(number).digest: None for number in range(500)})
    return cache, cache.maxsize


async def of_witnesses() -> tuple[object, float]:
    """Large and small questions of many callers."""
    cache = decisions.witness_cache()
    for number in range(6_000):
        large = question(number)
        small = Question(
            (), "read", tuple((f"{n}{number}", f"{number}{n}") for n in range(6)), str(number), str(number)
        )
        cache[digest(str(number))] = replace(large, subject=())
        cache[digest(f"{number} small")] = small
    return cache, 0


async def of_consumers() -> tuple[object, float]:
    """Consumers as long as a name of an org may be."""
    callers = identity.caller_of_consumer
    callers.cache_clear()
    for number in range(500):
        callers(f"/org/{number}".ljust(69, "x"), 3)
    return callers, callers.cache_parameters()["maxsize"] or 0


async def of_preferences() -> tuple[object, float]:
    """Accept headers, half of them longer than what is remembered."""
    remembered = request._known_preference
    remembered.cache_clear()
    for number in range(100):
        for length in (request.SHORT_ACCEPT, 8_000):
            raw = func.HttpRequest("GET", "http://x/", headers={"Accept": f"{number}".ljust(length, "\xff")}, body=b"")
            request.Request(raw, "http://x").preferred(("a/b",))
    assert remembered.cache_info().currsize == 100
    return remembered, remembered.cache_parameters()["maxsize"] or 0


async def of_requests(monkeypatch: pytest.MonkeyPatch) -> tuple[object, float]:
    """As many requests for each instance as are allowed."""
    monkeypatch.setattr(feeds, "_requests", TTLCache(feeds._requests.maxsize, feeds.MINUTE))
    for number in range(500):
        for _ in range(feeds.REQUESTS_A_MINUTE):
            feeds._count_request(f"{10**9 + number}/{number:036d}")
    return feeds._requests, feeds._requests.maxsize


async def of_register(name: str, answer: Callable[[int], tuple[object, object]]) -> tuple[object, int]:
    """Answers of Register."""
    client = RegisterClient(cast("Any", None))
    return await kept(getattr(client, name), dict(map(answer, range(500))))


def main_units(number: int) -> tuple[str, tuple[str, ...]]:
    """An organisation with as many main units as are kept, and names as long as they may be."""
    return f"urn:altinn:party:id:{10**9 + number}", tuple(text(100, f"{number} {n}") for n in range(12))


def names_table() -> sqlite3.Connection:
    """Interned texts, of the longest that are kept and longer ones."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT UNIQUE)")
    lengths = [rows.LONGEST_NAME_KEPT, 2_048]
    connection.executemany(
        "INSERT INTO names (text) VALUES (?)", [(text(length, n),) for n in range(500) for length in lengths]
    )
    return connection


async def of_names() -> tuple[object, float]:
    """The texts that pages have."""
    names = rows.Names()
    names.texts(names_table(), range(1, 1_001))
    assert len(names._known) == 500
    return names, rows._NAMES_KEPT


async def of_ids() -> tuple[object, float]:
    """The texts of published events."""
    connection = names_table()
    transaction = write.Transaction(Session(connection, b"", 0, cast("Hashes", None)), lambda: 0)
    for (name,) in connection.execute("SELECT text FROM names").fetchall():
        transaction._name(name)
    assert len(transaction._names) == 500
    connection.close()
    return transaction._names, write._NAMES_KEPT


async def of_segments() -> tuple[object, float]:
    """Numbers of segments."""
    cache = duplicates.Duplicates(cast("Any", None), lambda: 0)._closed_at
    for number in range(500):
        cache[digest(text(900, number)), number] = 10**15 + number
    return cache, cache.maxsize


async def of_bounds() -> tuple[object, float]:
    """Bounds of streams' positions."""
    cache = states.StreamStates(cast("Any", None))._reserved
    cache.update({digest(text(900, number)): 10**9 + number for number in range(500)})
    return cache, cache.maxsize


async def of_heads(name: str) -> tuple[object, float]:
    """Heads of streams with long names."""
    known = heads.Heads(cast("Any", None), cast("Any", None), cast("Any", None), 32_768)
    for number in range(500):
        stream = text(900, number)
        if name == "_known":
            known.learn(stream, heads.Head(10**9 + number, 10**15 + number, f"{number:064x}"))
        else:
            known.see(stream, 10**9 + number)
    cache: LRUCache[bytes, Any] = getattr(known, name)
    return cache, cache.maxsize


async def of_timers() -> tuple[object, float]:
    """Lanes that wait."""
    cache = timers._by_lane()
    cache.update({Lane(10**9 + number, 10**6 + number): 10**15 + number for number in range(500)})
    return cache, cache.maxsize


async def of_pauses() -> tuple[object, float]:
    """Endpoints that paused."""
    index = SubscriptionIndex()
    for number in range(500):
        index.pause(EndpointPause(f"{number:064x}", 10**15 + number))
    return index, index._paused_until.maxsize


async def of_slow() -> tuple[object, float]:
    """Subscriptions whose endpoints are slow."""
    cache = shares.ConsumerShares().slow
    cache.update({10**9 + number: None for number in range(500)})
    return cache, cache.maxsize


async def of_lanes() -> tuple[object, float]:
    """Lanes."""
    cache: LRUCache[Lane, int] = LRUCache(attempt.LANES_REMEMBERED)
    cache.update({Lane(10**9 + number, 10**9 + number): 10**15 + number for number in range(500)})
    return cache, cache.maxsize


async def of_swept() -> tuple[object, float]:
    """Lanes with long numbers."""
    cache: LRUCache[Lane, tuple[int, int]] = LRUCache(worker.SWEPT_REMEMBERED)
    cache.update({Lane(10**9 + number, 10**9 + number): (10**15 + number, 10**15 - number) for number in range(500)})
    return cache, cache.maxsize


async def of_tokens() -> tuple[object, float]:
    """Large and small tokens, more than are kept."""
    cache = verifier._Issuers("", {}, verifier._refuse, lambda: 0)._verified
    keys = large_keys(1)
    for number in range(3_000):
        for length in (1, 11_000):
            validity = verifier._Validity(number + 0.5, number + 1.5)
            claims = json.dumps({"urn:x": f"{number}" * length}).encode()[:12_000]
            cache[digest(f"{number} {length}")] = verifier._Verified(claims, validity, f"https://{number}", *keys)
    return cache, 0


def large_keys(count: int) -> list[jwks.Key]:
    """RSA keys of the largest size, with key ids of the longest."""
    modulus = (1 << (jwks._RSA_BITS.stop - 2)) | 1
    return [
        jwks.Key(
            f"{number}".ljust(jwks.MAX_KID_CHARACTERS, "x"),
            jwks.ALGORITHMS,
            _random.randbytes(jwks._RSA_BITS.stop // 8 + 40),
            RSAPublicNumbers(65_537, modulus + 2 * number).public_key(),
        )
        for number in range(count)
    ]


async def of_key_sets() -> tuple[object, float]:
    """Key sets with as many keys as are kept."""
    cache = unlisted.UnlistedIssuers(None, cast("Any", None), lambda: 0)._known
    for number in range(10):
        key_set = jwks.KeySet(cast("Any", None), f"{number}".ljust(20, "x"), lambda: 0)
        key_set._keys = frozenset(large_keys(jwks.MAX_KEYS))
        cache[f"{number}".ljust(20, "x")] = key_set
    return cache, cache.maxsize


FIXED = {
    ("http/feed_query.py", "_known"),
    ("http/operations.py", "_static"),
    ("http/operations.py", "_page_policy"),
    ("operations/health.py", "_alive"),
    ("operations/health.py", "_ready"),
    ("adapters/gauges.py", "_gauge"),
    ("adapters/tokens/unlisted.py", "_logged_at"),
    ("adapters/tokens/unlisted.py", "_absent_at"),
}
"""Caches of names that the code gives, or of a few short ones."""

FILLED: Mapping[tuple[str, str], Filled] = {
    ("access/decisions.py", "decision_cache"): Filled(of_decisions),
    ("access/decisions.py", "undecidable_cache"): Filled(of_undecidable),
    ("access/decisions.py", "witness_cache"): Filled(of_witnesses, None),
    ("access/identity.py", "caller_of_consumer"): Filled(of_consumers),
    ("http/request.py", "_known_preference"): Filled(of_preferences, 100),
    ("adapters/neighbours/register.py", "_parties"): Filled(
        partial(of_register, "_parties", lambda n: (digest(str(n)), 10**9 + n))
    ),
    ("adapters/neighbours/register.py", "_uuids"): Filled(
        partial(of_register, "_uuids", lambda n: (f"{n:011d}", f"{n:036d}"))
    ),
    ("adapters/neighbours/register.py", "_main_units"): Filled(partial(of_register, "_main_units", main_units)),
    ("adapters/sqlite/rows.py", "_known"): Filled(of_names),
    ("adapters/sqlite/write.py", "_names"): Filled(of_ids),
    ("adapters/cosmos/streams/duplicates.py", "_closed_at"): Filled(of_segments),
    ("adapters/cosmos/streams/heads.py", "_known"): Filled(partial(of_heads, "_known")),
    ("adapters/cosmos/streams/heads.py", "_seen"): Filled(partial(of_heads, "_seen")),
    ("adapters/cosmos/streams/states.py", "_reserved"): Filled(of_bounds),
    ("adapters/tokens/verifier.py", "_verified"): Filled(of_tokens, None, copies=2),
    ("adapters/tokens/unlisted.py", "_known"): Filled(of_key_sets, 10),
    ("delivery/attempt.py", "searched"): Filled(of_lanes),
    ("delivery/timers.py", "_by_lane"): Filled(of_timers, copies=2),
    ("delivery/shares.py", "slow"): Filled(of_slow),
    ("delivery/worker.py", "swept"): Filled(of_swept),
    ("delivery/subscription.py", "_paused_until"): Filled(of_pauses),
}


def test_every_cache_is_filled_by_a_test() -> None:
    """A new cache is measured too."""
    of_instances = ("http/feeds.py", "_requests")
    assert FIXED | FILLED.keys() | {of_instances} == {(row.file, row.name) for row in table()}


async def measured(filled: Filled) -> float:
    """The MiB that a full cache holds, by what the entries of one that is not full take."""
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        cache, limit = await filled.fill()
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
        assert cache is not None
    finally:
        tracemalloc.stop()
    entries = filled.entries
    return filled.copies * (taken if entries is None else taken / entries * limit) / MIB


@pytest.mark.parametrize("row", [row for row in table() if row[:2] in FILLED], ids="{0.file} {0.name}".format)
async def test_no_cache_holds_more_than_the_table_says(row: Row) -> None:
    """Each is filled with the largest keys and values that a caller can send."""
    found = await measured(FILLED[row.file, row.name])
    print(f"{row.file} {row.name}: {found:.2f} MiB of {row.mib}")
    assert found <= row.mib


async def test_instances_that_are_asked_for_take_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of the last minute are kept for each instance, without login."""
    (mib,) = [row.mib for row in table() if row.name == "_requests"]
    assert await measured(Filled(partial(of_requests, monkeypatch))) <= mib
