from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from events_core.access.ports import TokenVerifier
from events_core.adapters.tokens.jwks import MAX_DOCUMENT_BYTES
from events_core.adapters.tokens.verifier import Issuer, JwtVerifier
from events_core.common.errors import EventsError, Problem
from tests.support.issuer import IssuerServer, SigningKey, claims_of

MINUTE, DAY = 60, 86_400
OLD, NEW = SigningKey.ec("old"), SigningKey.ec("new")


class World:
    """An issuer with the key `OLD`, a verifier that trusts the issuer, and a clock that the test moves."""

    def __init__(self, issuer: IssuerServer, session: aiohttp.ClientSession) -> None:
        self.issuer = issuer
        self.now = 1_800_000_000.0
        self.session = session
        self.verifier = self.new_verifier()

    def new_verifier(self, jwks_uri: str | None = "", *, deadline_seconds: float = 5.0) -> TokenVerifier:
        """A verifier without cached keys."""
        trusted = Issuer(self.issuer.url, self.issuer.jwks_uri if jwks_uri == "" else jwks_uri)
        return JwtVerifier([trusted], {}, lambda: self.session, lambda: self.now, deadline_seconds=deadline_seconds)

    async def present(self, key: SigningKey = OLD, **header: Any) -> int:
        """Present a token signed by this key now; returns the status 200, 401 or 503."""
        return await status(self.verifier, key.sign(claims_of(self.issuer.url, now=self.now), **header))

    async def settle(self) -> None:
        """Wait for a reading in the background."""
        reading = [task for task in asyncio.all_tasks() if "KeySet._read_keys" in repr(task)]
        if reading:
            await asyncio.wait(reading)


async def status(verifier: TokenVerifier, token: str) -> int:
    """200 for an accepted token, else the status of the error."""
    try:
        await verifier.claims(token)
    except EventsError as error:
        return error.problem.status
    return 200


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A running issuer."""
    async with IssuerServer([OLD]) as issuer, aiohttp.ClientSession() as session:
        world = World(issuer, session)
        yield world
        issuer.gate.set()
        await world.settle()


async def test_keys_are_cached(world: World) -> None:
    """Within ten minutes a known key causes no second reading."""
    assert [await world.present() for _ in range(3)] == [200, 200, 200]
    world.now += 8 * MINUTE
    assert (await world.present(), world.issuer.fetches) == (200, 1)


@pytest.mark.parametrize("key", [OLD, NEW])
async def test_concurrent_requests_share_one_reading(world: World, key: SigningKey) -> None:
    """Fifty verifications at the start read the keys once."""
    statuses = await asyncio.gather(*(world.present(key) for _ in range(50)))
    assert (set(statuses), world.issuer.fetches) == ({200 if key is OLD else 401}, 1)


async def test_a_new_key_is_read_at_once(world: World) -> None:
    """After a rotation, fifty tokens of the new key cause one reading, and all are accepted."""
    await world.present()
    world.issuer.keys = [OLD, NEW]
    assert set(await asyncio.gather(*(world.present(NEW) for _ in range(50)))) == {200}
    assert world.issuer.fetches == 2


async def test_unknown_key_ids_cause_one_reading_a_minute(world: World) -> None:
    """Invented key ids do not make the service flood the issuer."""
    await world.present()
    assert {await world.present(kid=f"invented-{n}") for n in range(20)} == {401}
    assert world.issuer.fetches == 2
    world.now += MINUTE
    await world.present(kid="invented")
    assert world.issuer.fetches == 3


async def test_an_invalid_key_id_causes_no_reading(world: World) -> None:
    """An empty or oversized key id, or one that is not a text, is refused before any request."""
    await world.present()
    for kid in ("", "k" * 257, 7, ["old"]):
        assert await world.present(kid=kid) == 401
    assert world.issuer.fetches == 1


async def test_keys_are_read_again_after_ten_minutes(world: World) -> None:
    """A removed key is refused after ten minutes, even for a token verified before."""
    assert await world.present() == 200
    world.issuer.keys = [NEW]
    world.now += 10 * MINUTE
    assert (await world.present(), await world.present(NEW), world.issuer.fetches) == (401, 200, 2)


async def test_a_removed_key_is_refused_after_any_reading(world: World) -> None:
    """A reading that a new key causes drops removed keys, even for a token verified before."""
    token = OLD.sign(claims_of(world.issuer.url, now=world.now))
    assert await status(world.verifier, token) == 200
    world.issuer.keys = [NEW]
    assert await world.present(NEW) == 200
    assert await status(world.verifier, token) == 401


async def test_a_key_is_more_than_its_id(world: World) -> None:
    """A token verified before is refused when its key's id belongs to other key material."""
    token = OLD.sign(claims_of(world.issuer.url, now=world.now))
    assert await status(world.verifier, token) == 200
    world.issuer.keys = [SigningKey("old", NEW.private, "ES256")]
    world.now += 10 * MINUTE
    assert await status(world.verifier, token) == 401


async def test_nobody_waits_for_a_reading_before_the_keys_are_old(world: World) -> None:
    """After nine minutes the keys are read in the background, while requests use the known keys."""
    await world.present()
    world.issuer.gate.clear()
    world.issuer.asked.clear()
    world.now += 9 * MINUTE
    assert await world.present() == 200
    await world.issuer.asked.wait()
    world.issuer.gate.set()
    await world.settle()
    world.now += 8 * MINUTE
    assert (await world.present(), world.issuer.fetches) == (200, 2)


async def test_known_keys_are_used_through_an_outage_of_a_day(world: World) -> None:
    """While the issuer is down its keys are used for 24 hours; then requests get 503."""
    await world.present()
    world.issuer.down = True
    for hours in (1, 22):
        world.now += hours * 60 * MINUTE
        assert await world.present() == 200
    world.now += 61 * MINUTE
    assert await world.present() == 503


async def test_the_end_of_an_outage_is_noticed(world: World) -> None:
    """The issuer is asked again every half minute, and its new keys replace the old ones."""
    await world.present()
    world.issuer.down = True
    world.now += 11 * MINUTE
    assert await world.present() == 200
    world.issuer.down, world.issuer.keys = False, [NEW]
    world.now += 30
    await world.present()
    await world.settle()
    assert (await world.present(NEW), await world.present()) == (200, 401)


async def test_an_outage_delays_no_token_of_a_known_key(world: World) -> None:
    """After the first failure known keys are used at once, even if the issuer hangs."""
    await world.present()
    world.issuer.down = True
    world.now += 11 * MINUTE
    await world.present()
    world.issuer.gate.clear()
    world.now += 30
    assert await world.present() == 200


async def test_an_idle_process_reads_keys_before_it_uses_them(world: World) -> None:
    """A process that was idle since an outage asks the issuer first, since a key may have been removed."""
    await world.present()
    world.issuer.down = True
    world.now += 11 * MINUTE
    await world.present()
    world.issuer.down, world.issuer.keys = False, [NEW]
    world.now += 60 * MINUTE
    assert await world.present() == 401


async def test_an_unknown_key_during_an_outage_is_503(world: World) -> None:
    """While the issuer is down an unknown key id may belong to a new key, so the token is not refused."""
    await world.present()
    world.issuer.down = True
    assert await world.present(NEW) == 503


async def test_an_outage_at_the_start_is_503_until_it_ends(world: World) -> None:
    """The error has a Retry-After, and the first request after the outage succeeds."""
    world.issuer.down = True
    with pytest.raises(EventsError) as caught:
        await world.verifier.claims(world.issuer.token(now=world.now))
    assert caught.value.problem is Problem.UNAVAILABLE
    assert "Retry-After" in caught.value.headers
    world.issuer.down = False
    assert await world.present() == 200


async def test_an_issuer_that_refuses_connections_is_down(world: World) -> None:
    """A closed port is 503."""
    await world.issuer.stop()
    assert await world.present() == 503


async def test_a_hanging_issuer_is_down_after_the_deadline(world: World) -> None:
    """All requests that wait for the reading get 503."""
    world.issuer.gate.clear()
    world.verifier = world.new_verifier(deadline_seconds=0.05)
    assert set(await asyncio.gather(*(world.present() for _ in range(3)))) == {503}
    assert world.issuer.fetches == 1


async def test_a_cancelled_request_does_not_stop_the_reading(world: World) -> None:
    """The other requests get their keys."""
    world.issuer.gate.clear()
    first, second = asyncio.create_task(world.present()), asyncio.create_task(world.present())
    await world.issuer.asked.wait()
    first.cancel()
    world.issuer.gate.set()
    assert (await second, world.issuer.fetches) == (200, 1)


@pytest.mark.parametrize(
    "document",
    [b"", b"not JSON", b"[]", b"{}", b'{"keys":{}}', b"\xff", b'{"keys":[' + b" " * MAX_DOCUMENT_BYTES + b"]}"],
)
async def test_an_invalid_key_set_counts_as_an_outage(world: World, document: bytes) -> None:
    """An invalid or oversized document removes no known key."""
    await world.present()
    world.issuer.raw = document
    world.now += 11 * MINUTE
    assert await world.present() == 200
    world.verifier = world.new_verifier()
    assert await world.present() == 503


async def test_an_empty_key_set_removes_all_keys(world: World) -> None:
    """An issuer may withdraw all its keys."""
    await world.present()
    world.issuer.keys = []
    world.now += 10 * MINUTE
    assert await world.present() == 401


async def test_redirects_are_not_followed(world: World) -> None:
    """Keys are read from the configured URL only."""
    world.verifier = world.new_verifier(f"{world.issuer.url}/elsewhere")
    assert (await world.present(), world.issuer.fetches) == (503, 0)


async def test_keys_are_found_by_discovery(world: World) -> None:
    """Without a configured `jwks_uri`, the issuer's OpenID configuration names it."""
    world.verifier = world.new_verifier(None)
    assert (await world.present(), world.issuer.fetches) == (200, 1)


@pytest.mark.parametrize(
    "document",
    [{"issuer": "http://127.0.0.1:1"}, {"issuer": None}, {"jwks_uri": None}],
)
async def test_a_discovery_document_of_another_issuer_is_refused(world: World, document: dict[str, Any]) -> None:
    """It must name the configured issuer and a `jwks_uri` (OpenID Connect Discovery 1.0, section 4.3)."""
    world.issuer.discovery = document
    world.verifier = world.new_verifier(None)
    assert (await world.present(), world.issuer.fetches) == (503, 0)


async def test_discovery_does_not_lead_to_a_file(world: World, tmp_path: Path) -> None:
    """Only configuration may name a file."""
    (tmp_path / "jwks.json").write_bytes(orjson.dumps({"keys": [OLD.jwk]}))
    world.issuer.discovery = {"jwks_uri": (tmp_path / "jwks.json").as_uri()}
    world.verifier = world.new_verifier(None)
    assert await world.present() == 503


async def test_keys_can_be_read_from_a_file(world: World, tmp_path: Path) -> None:
    """The file of a file URL is read again like any issuer's keys."""
    file = tmp_path / "key set.json"
    file.write_bytes(orjson.dumps({"keys": [OLD.jwk]}))
    world.verifier = world.new_verifier(file.as_uri())
    assert await world.present() == 200
    file.write_bytes(orjson.dumps({"keys": [NEW.jwk]}))
    assert (await world.present(NEW), await world.present()) == (200, 401)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: None,
        lambda file: file.mkdir(),
        lambda file: file.write_bytes(b'{"keys":[]}' + b" " * MAX_DOCUMENT_BYTES),
    ],
)
async def test_an_unreadable_file_counts_as_an_outage(
    world: World, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """A missing file, a directory and an oversized file are 503."""
    spoil(tmp_path / "jwks.json")
    world.verifier = world.new_verifier((tmp_path / "jwks.json").as_uri())
    assert await world.present() == 503


async def test_a_token_without_key_id_needs_a_single_suitable_key(world: World) -> None:
    """If several keys could verify the token, it is refused."""
    world.issuer.keys = [OLD, SigningKey.rsa("rsa")]
    assert await world.present(kid=None) == 200
    world.issuer.keys = [OLD, NEW]
    world.now += 10 * MINUTE
    assert await world.present(kid=None) == 401


async def test_keys_with_the_same_id_are_tried_in_turn(world: World) -> None:
    """RFC 7517, section 4.5, allows keys to share an id."""
    world.issuer.keys = [
        OLD,
        SigningKey("old", NEW.private, "ES256"),
        SigningKey("old", SigningKey.rsa().private, "RS256"),
    ]
    assert [await world.present(key) for key in world.issuer.keys] == [200, 200, 200]


async def test_keys_are_read_again_when_the_clock_was_set_back(world: World) -> None:
    """The age of keys from the future is unknown."""
    await world.present()
    world.now -= DAY
    assert (await world.present(), world.issuer.fetches) == (200, 2)


async def test_the_log_of_an_outage_shows_no_token(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A failed reading is logged with the issuer and the kind of failure."""
    world.issuer.down = True
    with caplog.at_level(logging.DEBUG, "events_core"):
        await world.present()
    assert "ValueError" in caplog.text
    assert "eyJ" not in caplog.text


async def test_ping_asks_every_issuer(world: World) -> None:
    """The ping succeeds when each issuer answers with a status below 500."""
    await world.new_verifier(f"{world.issuer.url}/not-found").ping()
    await world.new_verifier(None).ping()
    await world.verifier.ping()
    world.issuer.down = True
    with pytest.raises(EventsError, match="503 An issuer of EVENTS_TOKEN_ISSUERS does not answer"):
        await world.verifier.ping()


async def test_ping_names_the_setting_of_the_platform_issuers(world: World) -> None:
    """The error names the setting, not the issuer's address."""
    verifier = JwtVerifier([], {"ttd": world.issuer.jwks_uri}, lambda: world.session)
    await verifier.ping()
    await world.issuer.stop()
    with pytest.raises(EventsError, match="EVENTS_PLATFORM_TOKEN_ISSUERS"):
        await verifier.ping()


async def test_ping_reads_the_file(world: World, tmp_path: Path) -> None:
    """An issuer with keys in a file is up when the file exists."""
    verifier = world.new_verifier((tmp_path / "jwks.json").as_uri())
    with pytest.raises(EventsError, match="503"):
        await verifier.ping()
    (tmp_path / "jwks.json").write_bytes(b"{}")
    await verifier.ping()
