"""The log names refused issuers of PlatformAccessTokens, and nobody can fill it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.issuer import SigningKey
from tests.support.unlisted import MINUTE, NEW, World, unlisted_world


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Key sets of `nav`, `skd` and `platform`."""
    async with unlisted_world() as world:
        yield world


def lines(caplog: pytest.LogCaptureFixture, event: str = "platform issuer refused") -> list[str]:
    """The log lines of an event."""
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(event)]


@pytest.mark.parametrize(
    ("iss", "line"),
    [
        ("new", 'issuer=new reason="has no key set"'),
        ("platform", 'issuer=platform reason="must be listed"'),
        ("NAV", 'issuer=NAV reason="not the name of an app owner"'),
        ("https://issuer.example/", 'issuer=https://issuer.example/ reason="not the name of an app owner"'),
        ("x" * 1_000, f'issuer={"x" * 40} reason="not the name of an app owner"'),
        ("01899699552", 'issuer=* reason="has no key set"'),
        ("nav\nERROR forged", 'issuer=* reason="not the name of an app owner"'),
        ('nav" reason="fine', 'issuer=* reason="not the name of an app owner"'),
        ("", 'issuer=* reason="not the name of an app owner"'),
    ],
)
async def test_a_refused_issuer_is_a_line_in_the_log(
    world: World, caplog: pytest.LogCaptureFixture, iss: str, line: str
) -> None:
    """One line a minute names it, if its name is harmless, without a number of a person."""
    for _ in range(3):
        assert await world.present(iss) == 401
    assert lines(caplog) == [f"platform issuer refused {line}"]
    assert "01899699552" not in caplog.text
    world.now += MINUTE
    await world.present(iss)
    assert len(lines(caplog)) == 2


async def test_an_unlisted_issuer_is_logged_without_a_star_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The operator learns which app owner is missing in the setting."""
    world.trust({"ttd": world.issuer.jwks_uri})
    assert await world.present("nav") == 401
    assert lines(caplog) == ['platform issuer refused issuer=nav reason="not listed"']


async def test_invented_issuers_cannot_fill_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """At most 20 issuers are logged in a minute, and issuers without a harmless name are one."""
    for number in range(100):
        await world.present(f"Invented-{number}")
        await world.present(f"{number} invented")
    assert len(lines(caplog)) == 20
    world.now += MINUTE
    await world.present("Invented-1")
    assert len(lines(caplog)) == 21


async def test_a_spent_allowance_is_a_line_a_minute(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The operator can list the issuers that are in use."""
    await world.invent(30)
    assert lines(caplog, "fetches") == ["fetches for unlisted issuers used up limit=10"]
    world.now += MINUTE
    await world.invent(30, 100)
    assert len(lines(caplog, "fetches")) == 2


async def test_a_wrong_signature_is_no_refused_issuer(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Anyone can send a bad token in an issuer's name."""
    assert await world.present("nav", SigningKey("old", NEW.private, "ES256")) == 401
    assert lines(caplog) == []
