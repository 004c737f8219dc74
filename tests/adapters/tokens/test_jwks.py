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
    """An issuer whose first key is `OLD`, a verifier that trusts it, and a clock that is moved by hand."""

    def __init__(self, issuer: IssuerServer, session: aiohttp.ClientSession) -> None:
        self.issuer = issuer
        self.now = 1_800_000_000.0
        self.session = session
        self.verifier = self.another()

    def another(self, jwks_uri: str | None = "", *, deadline_seconds: float = 5.0) -> TokenVerifier:
        """A verifier that has read no keys yet."""
        trusted = Issuer(self.issuer.url, self.issuer.jwks_uri if jwks_uri == "" else jwks_uri)
        return JwtVerifier([trusted], {}, lambda: self.session, lambda: self.now, deadline_seconds=deadline_seconds)

    async def ask(self, key: SigningKey = OLD, **header: Any) -> int:
        """The status that a token of this key gets now: 200, 401 or 503."""
        return await status(self.verifier, key.sign(claims_of(self.issuer.url, now=self.now), **header))

    async def settled(self) -> None:
        """Let a reading in the background end."""
        reading = [task for task in asyncio.all_tasks() if "KeySet._fly" in repr(task)]
        if reading:
            await asyncio.wait(reading)


async def status(verifier: TokenVerifier, token: str) -> int:
    """200, or the status of the error."""
    try:
        await verifier.claims(token)
    except EventsError as error:
        return error.problem.status
    return 200


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """An issuer that answers."""
    async with IssuerServer([OLD]) as issuer, aiohttp.ClientSession() as session:
        made = World(issuer, session)
        yield made
        issuer.gate.set()
        await made.settled()


async def test_keys_are_read_once(world: World) -> None:
    """Within ten minutes a known key costs no second reading."""
    assert [await world.ask() for _ in range(3)] == [200, 200, 200]
    world.now += 8 * MINUTE
    assert (await world.ask(), world.issuer.fetches) == (200, 1)


@pytest.mark.parametrize("key", [OLD, NEW])
async def test_many_at_once_cause_one_reading(world: World, key: SigningKey) -> None:
    """Fifty concurrent verifications at the start read the keys once, and share what came."""
    answers = await asyncio.gather(*(world.ask(key) for _ in range(50)))
    assert (set(answers), world.issuer.fetches) == ({200 if key is OLD else 401}, 1)


async def test_a_new_key_is_read_at_once_by_all_who_need_it(world: World) -> None:
    """After a rotation fifty tokens of the new key cause one reading and are all accepted."""
    await world.ask()
    world.issuer.keys = [OLD, NEW]
    assert set(await asyncio.gather(*(world.ask(NEW) for _ in range(50)))) == {200}
    assert world.issuer.fetches == 2


async def test_unknown_key_ids_are_looked_for_once_a_minute(world: World) -> None:
    """However many key ids are invented, the issuer is asked once a minute for them."""
    await world.ask()
    assert {await world.ask(kid=f"invented-{n}") for n in range(20)} == {401}
    assert world.issuer.fetches == 2
    world.now += MINUTE
    await world.ask(kid="invented")
    assert world.issuer.fetches == 3


async def test_a_key_id_without_sense_causes_no_reading(world: World) -> None:
    """An empty, oversized or nameless key id is refused before anybody is asked for it."""
    await world.ask()
    for kid in ("", "k" * 257, 7, ["old"]):
        assert await world.ask(kid=kid) == 401
    assert world.issuer.fetches == 1


async def test_keys_are_read_again_after_ten_minutes(world: World) -> None:
    """A key that is gone is refused when ten minutes have passed, also for a token seen before."""
    assert await world.ask() == 200
    world.issuer.keys = [NEW]
    world.now += 10 * MINUTE
    assert (await world.ask(), await world.ask(NEW), world.issuer.fetches) == (401, 200, 2)


async def test_a_key_that_is_gone_is_refused_as_soon_as_that_is_known(world: World) -> None:
    """A reading for any reason drops the keys that are gone, for a token seen before too."""
    token = OLD.sign(claims_of(world.issuer.url, now=world.now))
    assert await status(world.verifier, token) == 200
    world.issuer.keys = [NEW]
    assert await world.ask(NEW) == 200
    assert await status(world.verifier, token) == 401


async def test_a_key_of_the_same_id_is_another_key(world: World) -> None:
    """A token seen before is refused when other key material has taken its key's id."""
    token = OLD.sign(claims_of(world.issuer.url, now=world.now))
    assert await status(world.verifier, token) == 200
    world.issuer.keys = [SigningKey("old", NEW.private, "ES256")]
    world.now += 10 * MINUTE
    assert await status(world.verifier, token) == 401


async def test_nobody_waits_for_keys_that_are_read_again_early(world: World) -> None:
    """Shortly before ten minutes are over the keys are read in the background while the known ones serve."""
    await world.ask()
    world.issuer.gate.clear()
    world.issuer.asked.clear()
    world.now += 9 * MINUTE
    assert await world.ask() == 200
    await world.issuer.asked.wait()
    world.issuer.gate.set()
    await world.settled()
    world.now += 8 * MINUTE
    assert (await world.ask(), world.issuer.fetches) == (200, 2)


async def test_known_keys_serve_through_an_outage_of_a_day(world: World) -> None:
    """While the issuer is down its keys serve for 24 hours, then the answer is 503."""
    await world.ask()
    world.issuer.down = True
    for hours in (1, 22):
        world.now += hours * 60 * MINUTE
        assert await world.ask() == 200
    world.now += 61 * MINUTE
    assert await world.ask() == 503


async def test_an_outage_that_ends_is_noticed(world: World) -> None:
    """An issuer that is down is asked again every half minute, and its new keys count."""
    await world.ask()
    world.issuer.down = True
    world.now += 11 * MINUTE
    assert await world.ask() == 200
    world.issuer.down, world.issuer.keys = False, [NEW]
    world.now += 30
    await world.ask()
    await world.settled()
    assert (await world.ask(NEW), await world.ask()) == (200, 401)


async def test_an_outage_delays_nobody_whose_key_is_known(world: World) -> None:
    """After the first failure known keys serve at once, though the issuer does not answer at all."""
    await world.ask()
    world.issuer.down = True
    world.now += 11 * MINUTE
    await world.ask()
    world.issuer.gate.clear()
    world.now += 30
    assert await world.ask() == 200


async def test_after_a_long_silence_keys_are_read_before_they_serve(world: World) -> None:
    """A process that was idle since an outage asks the issuer first: a key may be gone by now."""
    await world.ask()
    world.issuer.down = True
    world.now += 11 * MINUTE
    await world.ask()
    world.issuer.down, world.issuer.keys = False, [NEW]
    world.now += 60 * MINUTE
    assert await world.ask() == 401


async def test_an_unknown_key_in_an_outage_is_no_verdict(world: World) -> None:
    """While the issuer is down a key id that is not known may be a new one: 503, and nothing is said of the token."""
    await world.ask()
    world.issuer.down = True
    assert await world.ask(NEW) == 503


async def test_without_keys_an_outage_is_503_and_its_end_is_seen_at_once(world: World) -> None:
    """Keys never had and the issuer down: 503 with Retry-After; the next request after it is up succeeds."""
    world.issuer.down = True
    with pytest.raises(EventsError) as caught:
        await world.verifier.claims(world.issuer.token(now=world.now))
    assert caught.value.problem is Problem.UNAVAILABLE
    assert "Retry-After" in caught.value.headers
    world.issuer.down = False
    assert await world.ask() == 200


async def test_an_issuer_that_refuses_connections_is_down(world: World) -> None:
    """Nobody listens there: 503."""
    await world.issuer.stop()
    assert await world.ask() == 503


async def test_an_issuer_that_is_silent_is_down_after_the_deadline(world: World) -> None:
    """A reading has a deadline, for all who wait for it."""
    world.issuer.gate.clear()
    world.verifier = world.another(deadline_seconds=0.05)
    assert set(await asyncio.gather(*(world.ask() for _ in range(3)))) == {503}
    assert world.issuer.fetches == 1


async def test_who_gives_up_waiting_does_not_stop_the_reading(world: World) -> None:
    """A cancelled request leaves the others their keys."""
    world.issuer.gate.clear()
    first, second = asyncio.create_task(world.ask()), asyncio.create_task(world.ask())
    await world.issuer.asked.wait()
    first.cancel()
    world.issuer.gate.set()
    assert (await second, world.issuer.fetches) == (200, 1)


@pytest.mark.parametrize(
    "document",
    [b"", b"not JSON", b"[]", b"{}", b'{"keys":{}}', b"\xff", b'{"keys":[' + b" " * MAX_DOCUMENT_BYTES + b"]}"],
)
async def test_a_document_that_is_no_key_set_counts_as_an_outage(world: World, document: bytes) -> None:
    """Rubbish in place of the keys, or too much of it, takes no known key away."""
    await world.ask()
    world.issuer.raw = document
    world.now += 11 * MINUTE
    assert await world.ask() == 200
    world.verifier = world.another()
    assert await world.ask() == 503


async def test_an_empty_key_set_takes_all_keys_away(world: World) -> None:
    """An issuer that withdraws all its keys is believed."""
    await world.ask()
    world.issuer.keys = []
    world.now += 10 * MINUTE
    assert await world.ask() == 401


async def test_redirects_are_not_followed(world: World) -> None:
    """Keys come from where they are configured to be, or not at all."""
    world.verifier = world.another(f"{world.issuer.url}/elsewhere")
    assert (await world.ask(), world.issuer.fetches) == (503, 0)


async def test_keys_are_found_by_discovery(world: World) -> None:
    """Without `jwks_uri` the issuer's OpenID configuration names it."""
    world.verifier = world.another(None)
    assert (await world.ask(), world.issuer.fetches) == (200, 1)


@pytest.mark.parametrize(
    "document",
    [{"issuer": "http://127.0.0.1:1"}, {"issuer": None}, {"jwks_uri": None}],
)
async def test_a_discovery_document_that_is_not_the_issuers_is_refused(world: World, document: dict[str, Any]) -> None:
    """It must name the configured issuer (OpenID Connect Discovery 1.0, section 4.3) and where the keys are."""
    world.issuer.discovery = document
    world.verifier = world.another(None)
    assert (await world.ask(), world.issuer.fetches) == (503, 0)


async def test_discovery_does_not_lead_to_a_file(world: World, tmp_path: Path) -> None:
    """Only configuration may name a file; a document from the network is not followed there."""
    (tmp_path / "jwks.json").write_bytes(orjson.dumps({"keys": [OLD.jwk]}))
    world.issuer.discovery = {"jwks_uri": (tmp_path / "jwks.json").as_uri()}
    world.verifier = world.another(None)
    assert await world.ask() == 503


async def test_keys_are_read_from_a_file(world: World, tmp_path: Path) -> None:
    """A file URL serves in development; the file is read again like any issuer."""
    file = tmp_path / "key set.json"
    file.write_bytes(orjson.dumps({"keys": [OLD.jwk]}))
    world.verifier = world.another(file.as_uri())
    assert await world.ask() == 200
    file.write_bytes(orjson.dumps({"keys": [NEW.jwk]}))
    assert (await world.ask(NEW), await world.ask()) == (200, 401)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: None,
        lambda file: file.mkdir(),
        lambda file: file.write_bytes(b'{"keys":[]}' + b" " * MAX_DOCUMENT_BYTES),
    ],
)
async def test_a_file_that_cannot_be_read_is_an_outage(
    world: World, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """A file that is missing, a directory or too large is 503."""
    spoil(tmp_path / "jwks.json")
    world.verifier = world.another((tmp_path / "jwks.json").as_uri())
    assert await world.ask() == 503


async def test_a_token_without_key_id_needs_a_single_key(world: World) -> None:
    """Without `kid` the only key that suits serves; of several none is guessed."""
    world.issuer.keys = [OLD, SigningKey.rsa("rsa")]
    assert await world.ask(kid=None) == 200
    world.issuer.keys = [OLD, NEW]
    world.now += 10 * MINUTE
    assert await world.ask(kid=None) == 401


async def test_keys_of_one_id_are_tried_in_turn(world: World) -> None:
    """An id that two keys share (RFC 7517, section 4.5, allows it) finds the one that verifies."""
    world.issuer.keys = [
        OLD,
        SigningKey("old", NEW.private, "ES256"),
        SigningKey("old", SigningKey.rsa().private, "RS256"),
    ]
    assert [await world.ask(key) for key in world.issuer.keys] == [200, 200, 200]


async def test_a_clock_set_back_reads_the_keys_again(world: World) -> None:
    """Keys that seem to come from the future are of unknown age."""
    await world.ask()
    world.now -= DAY
    assert (await world.ask(), world.issuer.fetches) == (200, 2)


async def test_the_log_of_an_outage_is_without_the_token(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A failed reading is logged by issuer and kind of failure."""
    world.issuer.down = True
    with caplog.at_level(logging.DEBUG, "events_core"):
        await world.ask()
    assert "ValueError" in caplog.text
    assert "eyJ" not in caplog.text


async def test_ping_asks_every_issuer(world: World) -> None:
    """Ready are the issuers when each of them answers with less than 500, whatever it answers."""
    await world.another(f"{world.issuer.url}/not-found").ping()
    await world.another(None).ping()
    await world.verifier.ping()
    world.issuer.down = True
    with pytest.raises(EventsError, match="503 An issuer of EVENTS_TOKEN_ISSUERS does not answer"):
        await world.verifier.ping()


async def test_ping_names_the_setting_of_platform_issuers(world: World) -> None:
    """A platform issuer that does not answer is told by its setting, not by its address."""
    verifier = JwtVerifier([], {"*": world.issuer.jwks_uri}, lambda: world.session)
    await verifier.ping()
    await world.issuer.stop()
    with pytest.raises(EventsError, match="EVENTS_PLATFORM_TOKEN_ISSUERS"):
        await verifier.ping()


async def test_ping_looks_for_the_file(world: World, tmp_path: Path) -> None:
    """An issuer whose keys are in a file is up when the file is there."""
    verifier = world.another((tmp_path / "jwks.json").as_uri())
    with pytest.raises(EventsError, match="503"):
        await verifier.ping()
    (tmp_path / "jwks.json").write_bytes(b"{}")
    await verifier.ping()
