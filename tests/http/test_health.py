"""`GET /health` reports the store and the settings, `GET /health/ready` every dependency."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from aiohttp import web

import function_app
from events_core import app
from events_core.adapters.sqlite import SqliteEventStore
from events_core.operations import health
from events_core.operations.health import HealthChecks
from tests.support.asgi import Answer
from tests.support.clock import Clock
from tests.support.publishing import ADMIN_SCOPE, structured
from tests.support.service import Service, event, running

UP = {"settings": "up", "store": "up"}
READY = {**UP, "decisionPoint": "up", "register": "up", "issuers": "up"}


def checks(answer: Answer) -> dict[str, str]:
    """The report on each part."""
    return dict(answer.json()["checks"])


def down(answer: Answer) -> set[str]:
    """The parts that are down."""
    return {name for name, said in checks(answer).items() if said != "up"}


@pytest.fixture
def clock(service: Service, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the health reports."""
    clock = Clock()
    monkeypatch.setattr(function_app, "checks", HealthChecks(app.current, clock=clock))
    return clock


async def test_a_healthy_service_reports_up(service: Service) -> None:
    """Anyone may ask; the response is not cached."""
    answer = await service.get("/health")
    assert (answer.status, answer.json()) == (200, {"status": "up", "checks": UP})
    assert answer.headers["cache-control"] == "no-store"


async def test_a_ready_service_reports_up(service: Service) -> None:
    """Readiness covers the store, the PDP, Register and the issuers."""
    answer = await service.get("/health/ready")
    assert (answer.status, answer.json()) == (200, {"status": "up", "checks": READY})


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
async def test_a_removed_store_is_down(service: Service, tmp_path: Path, path: str) -> None:
    """Without its file the store is down, and the response is 503 with `Retry-After`."""
    await structured(service, event())
    (tmp_path / "data" / "events.db").unlink()
    answer = await service.get(path)
    assert (answer.status, answer.headers["retry-after"], down(answer)) == (503, "5", {"store"})
    assert answer.json()["status"] == "down"


async def test_an_overwritten_store_is_down(service: Service, tmp_path: Path) -> None:
    """Health notices although connections to the file are open."""
    await structured(service, event())
    (tmp_path / "data" / "events.db").write_bytes(b"no database" * 1000)
    assert down(await service.get("/health")) == {"store"}


async def test_a_store_that_cannot_be_written_is_down(service: Service, tmp_path: Path) -> None:
    """A store that can only be read is down."""
    store = (await app.current()).store
    assert isinstance(store, SqliteEventStore)
    store._writer._busy_timeout = 0.05
    with closing(sqlite3.connect(tmp_path / "data" / "events.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert down(await service.get("/health")) == {"store"}


@pytest.mark.parametrize("spoil", ["garbage", "directory", "no-directory"])
async def test_a_store_that_cannot_be_opened_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    """Health names the store, every other route is 503, and no thread is left behind."""
    data = tmp_path / "data"
    if spoil == "no-directory":
        data.write_bytes(b"")
    elif spoil == "directory":
        (data / "events.db").mkdir(parents=True)
    else:
        data.mkdir()
        (data / "events.db").write_bytes(b"no database" * 1000)
    async with running(data, monkeypatch) as service:
        answer = await service.get("/health")
        assert (answer.status, down(answer)) == (503, {"store"})
        threads = threading.active_count()
        answers = [await structured(service, event()) for _ in range(5)]
        assert {(answer.status, answer.headers["retry-after"]) for answer in answers} == {(503, "5")}
        assert threading.active_count() <= threads


async def test_health_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service opens the store later, without a restart."""
    data = tmp_path / "data"
    data.write_bytes(b"")
    async with running(data, monkeypatch) as service:
        assert (await structured(service, event())).status == 503
        data.unlink()
        assert (await structured(service, event())).status == 200
        assert (await service.get("/health")).status == 200


async def test_a_health_report_is_kept_for_5_seconds(service: Service, clock: Clock, tmp_path: Path) -> None:
    """Frequent probes do not burden the store."""
    assert (await service.get("/health")).status == 200
    moved = (tmp_path / "data" / "events.db").rename(tmp_path / "moved")
    clock.now = 4.9
    assert (await service.get("/health")).status == 200
    clock.now = 5.0
    assert (await service.get("/health")).status == 503
    moved.rename(tmp_path / "data" / "events.db")
    clock.now = 9.9
    assert (await service.get("/health")).status == 503
    clock.now = 10.0
    assert (await service.get("/health")).status == 200


async def test_readiness_is_kept_for_a_second(service: Service, clock: Clock) -> None:
    """A neighbour that goes down or comes back is seen a second later, and not before."""
    assert (await service.get("/health/ready")).status == 200
    service.issuer.down = True
    for clock.now, status in ((0.9, 200), (1.0, 503), (1.9, 503)):
        assert (await service.get("/health/ready")).status == status
    service.issuer.down = False
    for clock.now, status in ((1.9, 503), (2.0, 200)):
        assert (await service.get("/health/ready")).status == status


@pytest.mark.parametrize(
    ("neighbour", "name"), [("pdp", "decisionPoint"), ("register", "register"), ("issuer", "issuers")]
)
async def test_a_dependency_that_does_not_answer_is_named(service: Service, neighbour: str, name: str) -> None:
    """The service is not ready, but `/health` stays up."""
    await getattr(service, neighbour).stop()
    answer = await service.get("/health/ready")
    assert (answer.status, down(answer)) == (503, {name})
    assert checks(answer)["store"] == "up"
    assert (await service.get("/health")).status == 200


async def test_a_dependency_that_answers_500_is_down(service: Service) -> None:
    """A status of 500 or more does not count as an answer."""
    service.issuer.down = True
    assert down(await service.get("/health/ready")) == {"issuers"}


@asynccontextmanager
async def serving(
    status: int, meeting: asyncio.Barrier | None = None, asked: list[str] | None = None
) -> AsyncIterator[str]:
    """Serve one status for every request; with a meeting, answer only once all parties have come."""

    async def answer(request: web.Request) -> web.Response:
        if asked is not None:
            asked.append(request.path)
        if meeting:
            await meeting.wait()
        return web.Response(status=status)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def dependencies(url: str) -> dict[str, str]:
    """The settings that make one server every dependency."""
    return {
        "EVENTS_PDP_URL": f"{url}/decide",
        "EVENTS_REGISTER_URL": url,
        "EVENTS_TOKEN_ISSUERS": json.dumps([{"issuer": name, "jwks_uri": f"{url}/{name}"} for name in "ab"]),
        "EVENTS_PLATFORM_TOKEN_ISSUERS": json.dumps({"ttd": {"jwks_uri": f"{url}/ttd"}}),
    }


@pytest.mark.parametrize(("status", "ready"), [(200, 200), (302, 200), (401, 200), (404, 200), (499, 200), (500, 503)])
async def test_a_dependency_is_up_below_500(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, ready: int
) -> None:
    """A redirect or a refusal shows that the dependency runs."""
    async with serving(status) as url, running(tmp_path, monkeypatch, **dependencies(url)) as service:
        assert (await service.get("/health/ready")).status == ready


async def test_dependencies_are_asked_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the five answers only once all have been asked."""
    meeting = asyncio.Barrier(5)
    async with serving(200, meeting) as url, running(tmp_path, monkeypatch, **dependencies(url)) as service:
        assert (await service.get("/health/ready")).status == 200


async def test_a_slow_dependency_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not delay the report."""
    monkeypatch.setattr(health, "PING_SECONDS", 0.2)
    async with serving(200, asyncio.Barrier(99)) as url, running(tmp_path, monkeypatch, **dependencies(url)) as service:
        assert down(await service.get("/health/ready")) == {"decisionPoint", "register", "issuers"}


async def test_many_requests_cause_one_round_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 requests at once and 200 one after the other ask each of the five dependencies once a second."""
    asked, clock = list[str](), Clock()
    async with serving(200, asked=asked) as url, running(tmp_path, monkeypatch, **dependencies(url)) as service:
        monkeypatch.setattr(function_app, "checks", HealthChecks(app.current, clock=clock))
        for clock.now in (0.0, 1.0):
            answers = await asyncio.gather(*(service.get("/health/ready") for _ in range(200)))
            answers += [await service.get("/health/ready") for _ in range(200)]
            assert {answer.status for answer in answers} == {200}
    assert len(asked) == 2 * 5


async def test_a_hanging_dependency_is_asked_once_by_many_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that come while it hangs share the round."""
    monkeypatch.setattr(health, "PING_SECONDS", 0.2)
    hangs, asked = asyncio.Barrier(99), list[str]()
    async with serving(200, hangs, asked) as url, running(tmp_path, monkeypatch, **dependencies(url)) as service:
        answers = await asyncio.gather(*(service.get("/health/ready") for _ in range(200)))
    assert ({answer.status for answer in answers}, len(asked)) == ({503}, 5)


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
async def test_health_shows_no_addresses(service: Service, tmp_path: Path, path: str) -> None:
    """The report holds no URL, path or port."""
    for neighbour in (service.pdp, service.register, service.issuer):
        await neighbour.stop()
    (tmp_path / "data" / "events.db").unlink(missing_ok=True)
    body = (await service.get(path)).body.decode()
    assert not any(hint in body for hint in ("http", "127.0.0.1", "/", str(tmp_path), "sqlite"))


async def test_an_outage_of_the_pdp_does_not_stop_publishing(service: Service) -> None:
    """The admin scope and an app's token need no decision."""
    await service.pdp.stop()
    assert (await structured(service, event(), service.org(ADMIN_SCOPE))).status == 200
    assert await service.publish_app_event()


async def test_an_outage_of_the_issuer_does_not_stop_known_keys(service: Service) -> None:
    """Keys that were fetched before stay valid."""
    assert (await structured(service, event(), service.org(ADMIN_SCOPE))).status == 200
    await service.issuer.stop()
    assert (await structured(service, event(), service.org(ADMIN_SCOPE))).status == 200


async def test_keys_that_were_never_fetched_are_503(service: Service) -> None:
    """The caller may try again, so the response is not 401."""
    await service.issuer.stop()
    answer = await structured(service, event(), service.org(ADMIN_SCOPE))
    assert (answer.status, answer.headers["retry-after"].isdigit()) == (503, True)
