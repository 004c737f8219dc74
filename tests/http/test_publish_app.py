"""An app publishes with its PlatformAccessToken: `POST /events/api/v1/app`."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.asgi import Answer
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    APP_RESOURCE,
    APP_TOKEN_SCOPES,
    PARTY,
    PARTY_FEED,
    PERSON,
    RESOURCE_FEED,
    Service,
    app_event,
    ids,
    instance_source,
    running,
)

PUBLISH_APP = "/events/api/v1/app"
GUID = "6fb3738d-6372-48e3-a2d2-f40ab0531fc1"


async def post(service: Service, app_name: str = "ttd/apps-test", **attributes: Any) -> Answer:
    """Publish an event of an app with the app's token."""
    event = app_event(app_name, **attributes)
    return await service.request("POST", PUBLISH_APP, platform_token=service.app(app_name), json_body=event)


async def post_text(service: Service, body: bytes, content_type: str | None = "application/json") -> Answer:
    """Publish a body byte for byte."""
    return await service.request(
        "POST", PUBLISH_APP, platform_token=service.app(), body=body, content_type=content_type
    )


async def owner_feed(service: Service, **query: Any) -> list[dict[str, Any]]:
    """The app's events in its owner's feed."""
    answer = await service.get(APP_FEED, service.org(APP_TOKEN_SCOPES), from_=ANCIENT, **query)
    return list(answer.json())


async def test_an_app_publishes_with_its_token_alone(service: Service) -> None:
    """The response is 201 with the id as a JSON string; the PDP is not asked."""
    answer = await post(service, id="e1")
    assert (answer.status, answer.headers["content-type"]) == (201, "application/json; charset=utf-8")
    assert answer.body == b'"e1"'
    assert service.pdp.requests == []


async def test_location_is_the_owner_feed_just_before_the_event(service: Service) -> None:
    """It is an absolute URL with a cursor and `size=1`."""
    location = urlsplit((await post(service)).headers["location"])
    assert f"{location.scheme}://{location.netloc}{location.path}" == f"http://127.0.0.1:7071{APP_FEED}"
    query = parse_qs(location.query, strict_parsing=True)
    assert list(query) == ["after", "size"]
    assert query["size"] == ["1"]


@pytest.mark.on_cosmos
async def test_location_returns_exactly_the_event(service: Service) -> None:
    """Earlier and later events are left out."""
    answers = [await post(service, id=f"e{number}") for number in range(5)]
    for number, answer in enumerate(answers):
        page = await service.get(answer.headers["location"], service.org(APP_TOKEN_SCOPES))
        assert ids(page.json()) == [f"e{number}"]


async def test_location_begins_with_the_base_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EVENTS_BASE_URL is the base of every absolute link."""
    async with running(tmp_path, monkeypatch, EVENTS_BASE_URL="https://platform.example/ev/") as service:
        location = (await post(service)).headers["location"]
    assert location.startswith(f"https://platform.example/ev{APP_FEED}?after=")


@pytest.mark.on_cosmos
async def test_a_repeat_of_a_given_id_changes_nothing(service: Service) -> None:
    """The response is 200 with the same body and Location, and the feed holds the first event."""
    source = instance_source()
    first = await post(service, id="e1", source=source)
    again = await post(service, id="e1", source=source, type="something.else")
    assert (first.status, again.status) == (201, 200)
    assert (again.body, again.headers["location"]) == (first.body, first.headers["location"])
    assert [event["type"] for event in await owner_feed(service)] == ["app.instance.created"]


@pytest.mark.on_cosmos
async def test_an_id_is_one_event_for_each_source(service: Service) -> None:
    """The same id of another instance is another event."""
    answers = [await post(service, id="e1") for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    assert ids(await owner_feed(service)) == ["e1", "e1"]


@pytest.mark.parametrize("attributes", [{}, {"id": None}])
async def test_without_an_id_the_service_gives_a_new_uuid(service: Service, attributes: dict[str, Any]) -> None:
    """An absent id and null become a UUID."""
    source = instance_source()
    made = [(await post(service, source=source, **attributes)).json() for _ in range(2)]
    assert [str(uuid.UUID(event_id)) for event_id in made] == made
    assert ids(await owner_feed(service)) == made
    assert made[0] != made[1]


@pytest.mark.parametrize("event_id", ["", 5, 1.5, True, ["e1"], {"a": 1}, "x" * 257])
async def test_an_invalid_id_is_refused_not_replaced(service: Service, event_id: object) -> None:
    """The problem names `id`."""
    answer = await post(service, id=event_id)
    assert (answer.status, [fault["field"] for fault in answer.json()["errors"]]) == (400, ["id"])
    assert await owner_feed(service) == []


@pytest.mark.parametrize("given", [{}, {"time": "2001-01-01T00:00:00Z"}, {"time": None}])
async def test_the_service_sets_the_time(service: Service, given: dict[str, Any]) -> None:
    """`time` is the time of publishing, whatever the app gives."""
    await post(service, **given)
    [event] = await owner_feed(service)
    assert abs(datetime.fromisoformat(event["time"]) - datetime.now(UTC)) < timedelta(seconds=30)


@pytest.mark.parametrize("given", [{}, {"resource": "urn:altinn:resource:app_skd_tax", "resourceinstance": "1/2"}])
async def test_the_service_sets_resource_and_instance(service: Service, given: dict[str, Any]) -> None:
    """They follow from the app and the source, whatever the app gives."""
    await post(service, source=instance_source(guid=GUID), **given)
    [event] = await owner_feed(service)
    assert (event["resource"], event["resourceinstance"]) == (APP_RESOURCE, f"{PARTY}/{GUID}")


async def test_everything_else_is_kept_as_written(service: Service) -> None:
    """Numbers, strings, extensions and white space inside of data stay."""
    kept = b'"myext":"a","flag":true,"data":{"amount":100.00, "big":1E400,"name":"\\u00e5"}'
    head = f'"specversion":"1.0","type":"t","subject":"/party/1","source":"{instance_source()}"'.encode()
    assert (await post_text(service, b"{" + head + b"," + kept + b"}")).status == 201
    page = await service.get(APP_FEED, service.org(APP_TOKEN_SCOPES), from_=ANCIENT)
    assert head + b"," + kept in page.body


@pytest.mark.parametrize(
    "path",
    [
        "ttd/apps-test2",
        "skd/apps-test",
        "TTD/apps-test",
        "ttd/Apps-test",
        "/ttd/apps-test",
        "ttd//apps-test",
        "ttd/apps%2Dtest",
        "x/ttd/apps-test",
        "ttd",
        "",
    ],
)
async def test_a_source_of_another_app_is_forbidden(service: Service, path: str) -> None:
    """The first two segments of its path must be the token's `{iss}/{app}`."""
    source = f"https://ttd.apps.altinn.example/{path}/instances/{PARTY}/{GUID}"
    assert (await post(service, source=source)).status == 403
    assert await owner_feed(service) == []


@pytest.mark.parametrize(
    "source",
    [
        "https://ttd.apps.altinn.example/ttd/apps-test",
        "https://ttd.apps.altinn.example/ttd/apps-test/instances/50002108",
        "https://ttd.apps.altinn.example/ttd/apps-test/instances/50002108/not-a-guid",
        f"https://ttd.apps.altinn.example/ttd/apps-test/instances/x/{GUID}",
        f"https://ttd.apps.altinn.example/ttd/apps-test/instances/50002108/{GUID}/more",
        f"https://ttd.apps.altinn.example/ttd/apps-test/instances/50002108/{GUID}/",
        f"https://ttd.apps.altinn.example/ttd/apps-test/instances/50002108/{GUID}?a=b",
        f"https://ttd.apps.altinn.example/ttd/apps-test/instances/50002108/{GUID}#a",
        f"https://ttd.apps.altinn.example/ttd/apps-test/Instances/50002108/{GUID}",
        f"https://somebody@ttd.apps.altinn.example/ttd/apps-test/instances/50002108/{GUID}",
        f"ftp://ttd.apps.altinn.example/ttd/apps-test/instances/50002108/{GUID}",
        f"/ttd/apps-test/instances/50002108/{GUID}",
    ],
)
async def test_the_source_must_be_the_url_of_an_instance(service: Service, source: str) -> None:
    """The problem names `source`."""
    answer = await post(service, source=source)
    assert (answer.status, answer.json()["errors"][0]["field"]) == (400, "source")
    assert await owner_feed(service) == []


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("https://ttd.apps.altinn.example", 201),
        ("https://apps.altinn.example", 201),
        ("https://TTD.Apps.Altinn.Example", 201),
        ("http://ttd.apps.altinn.example", 400),
        ("https://apps.altinn.example.evil.example", 400),
        ("https://evilapps.altinn.example", 400),
        ("https://ttd.apps.altinn.example:8443", 400),
        ("https://evil.example%2F.apps.altinn.example", 400),
        ("https://.apps.altinn.example", 400),
        ("https://altinn.example", 400),
    ],
)
async def test_sources_are_under_the_domain_of_apps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, status: int
) -> None:
    """With EVENTS_APPS_DOMAIN a source on any other host is 400."""
    async with running(tmp_path, monkeypatch, EVENTS_APPS_DOMAIN="apps.altinn.example") as service:
        answer = await post(service, source=f"{host}/ttd/apps-test/instances/{PARTY}/{GUID}")
        assert answer.status == status
        assert len(await owner_feed(service)) == (status == 201)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"PlatformAccessToken": ""},
        {"PlatformAccessToken": "nonsense"},
        {"PlatformAccessToken": "Bearer a.b.c"},
        {"Authorization": "own"},
        {"PlatformAccessToken": "expired"},
        {"PlatformAccessToken": "untrusted"},
        {"PlatformAccessToken": "own"},
    ],
)
async def test_only_a_trusted_platform_access_token_counts(service: Service, headers: dict[str, str]) -> None:
    """A bearer token in its place is 401."""
    tokens = {
        "own": f"Bearer {service.org('altinn:events.publish.admin')}",
        "expired": service.app(exp=1),
        "untrusted": service.app("nobody/apps-test"),
    }
    sent = {name: tokens.get(value, value) for name, value in headers.items()}
    answer = await service.request("POST", PUBLISH_APP, headers=sent, json_body=app_event())
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("name", [None, "", "a/b", "..", 5])
async def test_a_token_without_an_app_may_not_publish(service: Service, name: object) -> None:
    """A PlatformAccessToken needs a valid `urn:altinn:app`."""
    claims: dict[str, Any] = {"urn:altinn:app": name}
    token = service.app(**claims)
    answer = await service.request("POST", PUBLISH_APP, platform_token=token, json_body=app_event())
    assert answer.status == 403


@pytest.mark.parametrize("kind", ["platform.events.validatesubscription", "platform.", "Platform.Other"])
async def test_types_of_the_platform_are_for_the_platform(service: Service, kind: str) -> None:
    """Any other app gets 403 for `platform.*`."""
    assert (await post(service, type=kind)).status == 403
    assert (await post(service, "platform/jobs", type=kind)).status == 201


async def test_a_type_that_only_resembles_the_platforms_is_free(service: Service) -> None:
    """`platforms.x` does not begin with `platform.`."""
    assert (await post(service, type="platforms.x")).status == 201


async def test_a_person_must_be_known_to_register(service: Service) -> None:
    """The problem does not repeat the number."""
    prefix = "urn:altinn:person:identifier-no:"
    refused = await post(service, subject=f"{prefix}20868012804")
    assert (refused.status, b"20868012804" in refused.body) == (403, False)
    assert (await post(service, subject=f"{prefix}{PERSON}")).status == 201


async def test_register_is_needed_for_a_person_only(service: Service) -> None:
    """An outage of Register is 503 for a person's subject alone."""
    await service.register.stop()
    answer = await post(service, subject=f"urn:altinn:person:identifier-no:{PERSON}")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert (await post(service)).status == 201


@pytest.mark.parametrize("missing", ["source", "specversion", "type", "subject"])
@pytest.mark.parametrize("value", [None, "absent"])
async def test_an_app_must_give_four_attributes(service: Service, missing: str, value: object) -> None:
    """The problem names the attribute that is absent or null."""
    event = {name: text for name, text in app_event().items() if name != missing or value is None}
    if value is None:
        event[missing] = None
    answer = await service.request("POST", PUBLISH_APP, platform_token=service.app(), json_body=event)
    assert (answer.status, answer.json()["errors"][0]["field"]) == (400, missing)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 201),
        ("application/json; charset=utf-8", 201),
        ("APPLICATION/JSON", 201),
        ("application/cloudevents+json", 201),
        ("application/cloudevents-batch+json", 415),
        ("text/plain", 415),
        (None, 415),
    ],
)
async def test_an_apps_event_is_json(service: Service, content_type: str | None, status: int) -> None:
    """Another Content-Type is 415."""
    body = f'{{"specversion":"1.0","type":"t","subject":"/party/1","source":"{instance_source()}"}}'
    assert (await post_text(service, body.encode(), content_type)).status == status


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'"e"', b"\xff", b"{}{}"])
async def test_a_body_that_is_no_event_is_refused(service: Service, body: bytes) -> None:
    """The body is one JSON object."""
    assert (await post_text(service, body)).status == 400
    assert await owner_feed(service) == []


async def test_an_app_event_has_at_most_256_kib(service: Service) -> None:
    """One byte more is 413."""
    start = f'{{"specversion":"1.0","type":"t","subject":"/party/1","source":"{instance_source()}","data":"'.encode()
    fits = start + b"x" * (256 * 1024 - len(start) - 2) + b'"}'
    assert (await post_text(service, fits)).status == 201
    assert (await post_text(service, fits.replace(b"x", b"xx", 1))).status == 413


@pytest.mark.on_cosmos
async def test_an_event_is_in_every_feed_in_the_next_request(service: Service) -> None:
    """The feeds of owner, org, party and resource have it at once."""
    event_id = await service.publish_app_event(id="e1")
    owner, user = service.org("altinn:events/ttd"), service.user("altinn:events.subscribe")
    pages = [
        await service.get(APP_FEED, owner, from_=ANCIENT),
        await service.get("/events/api/v1/app/ttd", owner, from_=ANCIENT),
        await service.get(PARTY_FEED, user, from_=ANCIENT, party=PARTY),
        await service.get(RESOURCE_FEED, user, from_=ANCIENT, resource=APP_RESOURCE),
    ]
    assert [ids(page.json()) for page in pages] == [[event_id]] * 4


@pytest.mark.on_cosmos
async def test_an_acknowledged_event_outlives_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event is there after a restart."""
    async with running(tmp_path, monkeypatch) as service:
        event_id = await service.publish_app_event()
    async with running(tmp_path, monkeypatch) as service:
        assert ids(await owner_feed(service)) == [event_id]
