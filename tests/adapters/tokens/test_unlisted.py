"""PlatformAccessTokens of issuers that no setting lists: each has a key set of its own under the URL of `*`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from events_core.adapters.tokens import unlisted
from events_core.adapters.tokens.jwks import KeySource
from events_core.adapters.tokens.unlisted import UnlistedIssuers
from events_core.common.errors import EventsError
from tests.support.issuer import claims_of
from tests.support.unlisted import ALLOWED, MINUTE, NEW, OLD, World, unlisted_world

HOUR, DAY = 3_600, 86_400


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Key sets of `nav`, `skd` and `platform`."""
    async with unlisted_world() as world:
        yield world


async def test_an_unlisted_issuer_has_its_own_key_set(world: World) -> None:
    """Its name selects the key set, so that no app owner can publish as another."""
    world.issuer.owners = {"nav": [OLD], "skd": [NEW]}
    assert (await world.present("nav", OLD), await world.present("skd", NEW)) == (200, 200)
    assert (await world.present("nav", NEW), await world.present("skd", OLD)) == (401, 401)


async def test_a_listed_issuer_is_not_served_by_the_star(world: World) -> None:
    """Its own URL decides, also when a key set of its name stands under the other."""
    world.issuer.owners["ttd"] = [NEW]
    world.trust({"ttd": world.issuer.jwks_uri, "*": world.issuer.owners_jwks_uri})
    assert (await world.present("ttd", OLD), await world.present("ttd", NEW)) == (200, 401)
    assert world.fetches == 0


@pytest.mark.parametrize("iss", ["a", "a-1", "0", "-", "a" * 20])
async def test_names_of_small_letters_digits_and_hyphens_are_served(world: World, iss: str) -> None:
    """1 to 20 characters of `a-z 0-9 -`."""
    world.issuer.owners[iss] = [OLD]
    assert await world.present(iss) == 200


@pytest.mark.parametrize(
    "iss",
    ["", "a" * 21, "Nav", "nav.no", "nav/skd", "../jwks", "nav%2f", "nav?x", "nav#x", "nav ", "nav\n", "næv", "٣", "*",
     "{iss}", "platform", None, 7, ["nav"], {"nav": 1}],
)  # fmt: skip
async def test_any_other_unlisted_issuer_is_refused_without_a_fetch(world: World, iss: Any) -> None:
    """`platform` must be listed, and other names cannot lead to another path."""
    assert (await world.present(iss), world.fetches) == (401, 0)


async def test_in_development_one_key_set_serves_every_unlisted_issuer(world: World) -> None:
    """A `*` without a placeholder serves `platform` too, by which `local token` vouches for endpoints."""
    world.trust({"*": world.issuer.jwks_uri})
    assert {await world.present(iss) for iss in ("nav", "platform", "Some.Name")} == {200}
    assert world.issuer.fetches == 1


async def test_concurrent_requests_of_a_new_issuer_share_one_fetch(world: World) -> None:
    """Fifty tokens at the start cost one of the fetches."""
    assert set(await asyncio.gather(*(world.present() for _ in range(50)))) == {200}
    assert world.fetches == 1


async def test_a_cancelled_request_wastes_no_fetch(world: World) -> None:
    """The key set is kept when nobody waits for it any more."""
    world.issuer.gate.clear()
    request = asyncio.create_task(world.present())
    await world.issuer.asked.wait()
    request.cancel()
    world.issuer.gate.set()
    assert (await world.present(), world.fetches) == (200, 1)


async def test_unlisted_issuers_get_ten_fetches_a_minute(world: World) -> None:
    """Beyond, a token that needs keys is 503 with the seconds until the next fetch, never 401."""
    assert await world.invent(ALLOWED) == [401] * ALLOWED
    world.now += 18
    error = await world.refusal("nav")
    assert error is not None
    assert (error.problem.status, error.headers) == (503, {"Retry-After": "42"})
    assert await world.present("invented-99") == 503
    assert world.fetches == ALLOWED
    world.now += 42
    assert (await world.present("nav"), await world.invent(ALLOWED, 100)) == (200, [401] * 9 + [503])


async def test_the_allowance_holds_for_any_sixty_seconds(world: World) -> None:
    """Fetches come back one by one, and not ten at once at the turn of a minute."""
    for second in range(ALLOWED):
        assert await world.invent(1, second) == [401]
        world.now += 1
    world.now += 50
    assert await world.invent(3, 50) == [401, 503, 503]


async def test_concurrent_requests_keep_to_the_allowance(world: World) -> None:
    """Thirty new issuers at once cause ten fetches."""
    statuses = await asyncio.gather(*(world.present(f"invented-{number}") for number in range(30)))
    assert (statuses.count(401), statuses.count(503), world.fetches) == (ALLOWED, 30 - ALLOWED, ALLOWED)


async def test_known_key_sets_serve_when_the_allowance_is_spent(world: World) -> None:
    """Also when they are due to be read again, for a day."""
    assert await world.present("nav") == 200
    for hour in (0, 1, 22):
        world.now += hour * HOUR
        await world.invent(ALLOWED, hour * 100)
        assert (await world.present("nav"), await world.present("unknown")) == (200, 503)
    assert world.issuer.owner_fetches["nav"] == 1
    world.now += 2 * HOUR
    await world.invent(ALLOWED, 9_000)
    assert await world.present("nav") == 503


async def test_a_new_key_is_503_while_the_allowance_is_spent(world: World) -> None:
    """A known issuer's unknown key id may be a new key. It is read as soon as a fetch is free."""
    assert await world.present("nav") == 200
    world.issuer.owners["nav"] = [OLD, NEW]
    world.now += MINUTE / 2
    await world.invent(ALLOWED)
    assert (await world.present("nav", NEW), await world.present("nav", OLD)) == (503, 200)
    world.now += MINUTE / 2
    assert await world.present("nav", NEW) == 200


async def test_refreshes_count_and_go_before_new_issuers(world: World) -> None:
    """Once a known key set had to wait, new issuers leave it half of the fetches."""
    assert await world.present("nav") == 200
    world.now += 10 * MINUTE
    assert set(await world.invent(ALLOWED)) == {401}
    world.issuer.owners["nav"] = [NEW]
    assert (await world.present("nav", OLD), await world.present("nav", NEW)) == (200, 503)
    world.now += MINUTE
    assert await world.invent(ALLOWED, 100) == [401] * 5 + [503] * 5
    assert (await world.present("nav", OLD), await world.present("nav", NEW)) == (401, 200)


async def test_listed_issuers_do_not_use_the_allowance(world: World) -> None:
    """Their keys are read when the allowance is spent."""
    world.trust({"ttd": world.issuer.jwks_uri, "*": world.issuer.owners_jwks_uri})
    await world.invent(ALLOWED + 1)
    assert (await world.present("ttd"), await world.present("ttd", NEW)) == (200, 401)
    assert world.issuer.fetches == 2


async def test_an_issuer_without_a_key_set_is_asked_for_once_a_minute(world: World) -> None:
    """404 makes its tokens untrusted, and a key set that appears later is found."""
    assert [await world.present("new") for _ in range(5)] == [401] * 5
    assert world.fetches == 1
    world.issuer.owners["new"] = [OLD]
    world.now += MINUTE
    assert (await world.present("new"), world.fetches) == (200, 2)


@pytest.mark.parametrize("status", [302, 403, 410, 500, 503])
async def test_a_key_set_that_cannot_be_read_is_503(world: World, status: int) -> None:
    """Only 404 says that there is no key set."""
    world.issuer.statuses["nav"] = status
    assert (await world.present(), world.issuer.fetches) == (503, 0)
    del world.issuer.statuses["nav"]
    assert await world.present() == 200


async def test_an_unreadable_key_set_is_503(world: World) -> None:
    """A page of HTML is no key set."""
    world.issuer.raw = b"<html>"
    assert await world.present() == 503


async def test_a_server_of_key_sets_that_is_gone_is_503(world: World) -> None:
    """A closed port is an outage."""
    await world.issuer.stop()
    assert await world.present() == 503


@pytest.mark.parametrize("status", [404, 500])
async def test_a_failed_fetch_removes_no_keys(world: World, status: int) -> None:
    """Known keys serve for a day. A 404 counts as an outage as well, and a new key may be there: 503."""
    assert await world.present() == 200
    world.issuer.statuses["nav"] = status
    for hours in (1, 22):
        world.now += hours * HOUR
        assert (await world.present(), await world.present(key=NEW)) == (200, 503)
    world.now += 2 * HOUR
    assert await world.present() == (401 if status == 404 else 503)


async def test_an_issuer_whose_key_set_is_gone_for_a_day_is_asked_for_once_a_minute(world: World) -> None:
    """It is then an issuer without a key set."""
    assert await world.present() == 200
    del world.issuer.owners["nav"]
    world.now += DAY
    assert [await world.present() for _ in range(5)] == [401] * 5
    assert world.fetches == 2


async def test_a_withdrawn_key_is_refused(world: World) -> None:
    """The key set is read again after ten minutes, also for a token that was verified before."""
    token = OLD.sign(claims_of("nav", now=world.now))
    assert await world.verifier.platform_claims(token)
    world.issuer.owners["nav"] = []
    world.now += 10 * MINUTE
    with pytest.raises(EventsError, match="401"):
        await world.verifier.platform_claims(token)


async def test_a_verified_token_is_not_verified_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key set need not be read while it is known, and its signature is checked once."""
    token = OLD.sign(claims_of("nav", now=world.now))
    first = await world.verifier.platform_claims(token)
    monkeypatch.delattr("events_core.adapters.tokens.verifier._Unverified.is_verified_by")
    assert await world.verifier.platform_claims(token) == first
    assert world.fetches == 1


async def test_unknown_key_ids_of_an_unlisted_issuer_cause_one_fetch_a_minute(world: World) -> None:
    """One issuer cannot spend the fetches of all."""
    await world.present()
    assert {await world.present(kid=f"invented-{number}") for number in range(20)} == {401}
    assert world.fetches == 2
    world.now += MINUTE
    assert (await world.present(kid="invented"), world.fetches) == (401, 3)


async def serve_each(world: World, names: Iterable[str]) -> None:
    """Present a token of each issuer, waiting a minute after ten."""
    for number, name in enumerate(names, start=1):
        assert await world.present(name) == 200
        world.now += MINUTE if number % ALLOWED == 0 else 0


async def test_the_number_of_key_sets_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used key set goes first; a use by a token that was verified before counts."""
    monkeypatch.setattr(unlisted, "KEY_SETS", 3)
    world.trust({"*": world.issuer.owners_jwks_uri})
    world.issuer.owners = {name: [OLD] for name in "abcd"}
    token = OLD.sign(claims_of("a", now=world.now))
    await world.verifier.platform_claims(token)
    await serve_each(world, "bc")
    await world.verifier.platform_claims(token)
    await serve_each(world, "d")
    await serve_each(world, "dca")
    assert world.fetches == 4
    await serve_each(world, "b")
    assert world.fetches == 5


async def test_a_verified_token_keeps_no_key_set(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the issuer's key set was dropped, it is read again before the token is accepted."""
    monkeypatch.setattr(unlisted, "KEY_SETS", 1)
    world.trust({"*": world.issuer.owners_jwks_uri})
    token = OLD.sign(claims_of("nav", now=world.now))
    await world.verifier.platform_claims(token)
    await world.present("skd")
    await world.invent(ALLOWED)
    with pytest.raises(EventsError, match="503"):
        await world.verifier.platform_claims(token)


async def test_invented_issuers_remove_no_key_set(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a key set that was read takes the place of another."""
    monkeypatch.setattr(unlisted, "KEY_SETS", 2)
    world.trust({"*": world.issuer.owners_jwks_uri})
    await serve_each(world, ["nav", "skd"])
    world.issuer.statuses = {f"invented-{number}": 500 for number in range(0, 200, 2)}
    for start in range(0, 200, ALLOWED):
        await world.invent(ALLOWED, start)
        world.now += MINUTE
    world.issuer.down = True
    assert (await world.present("nav"), await world.present("skd")) == (200, 200)


async def test_invented_issuers_take_no_memory(world: World) -> None:
    """Nothing that is kept for an issuer grows with the number of issuers."""
    issuers = UnlistedIssuers(
        world.issuer.owners_jwks_uri, lambda name, uri: KeySource(name, uri, lambda: world.session), lambda: world.now
    )
    for number in range(400):
        for name in (f"invented-{number}", f"Invented-{number}"):
            with pytest.raises(EventsError):
                await issuers.key_set(name).current()
        world.now += MINUTE if number % 20 == 0 else 0
    assert (len(issuers._in_first_reading), len(issuers._known)) == (0, 0)
    assert len(issuers._absent_at) <= 2 * ALLOWED
    assert len(issuers._refusals._logged_at) <= unlisted.LOGGED_A_MINUTE


async def test_a_clock_that_was_set_back_blocks_nothing(world: World) -> None:
    """Times in the future limit neither fetches nor issuers."""
    await world.invent(ALLOWED)
    assert await world.present("new") == 503
    world.now -= DAY
    world.issuer.owners["invented-0"] = [OLD]
    assert (await world.present("nav"), await world.present("invented-0")) == (200, 200)


async def test_ping_asks_listed_issuers_only(world: World) -> None:
    """`*` names no server that must be up, also in development."""
    await world.issuer.stop()
    for url in (world.issuer.owners_jwks_uri, world.issuer.jwks_uri):
        world.trust({"*": url})
        await world.verifier.ping()
    assert world.fetches == 0
