"""The composition root: settings -> adapters -> use cases.

`events_core.app` imports this module when the application is first needed, so that nothing is loaded at start.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from events_core.access.authorization import Authorization
from events_core.access.names import AppId
from events_core.access.ports import DecisionPoint, PartyRegister, TokenVerifier
from events_core.adapters.development.files import LocalFileError
from events_core.adapters.development.policy import LocalPolicy
from events_core.adapters.development.register import LocalRegister
from events_core.adapters.entra import EntraCredential
from events_core.adapters.gauges import report
from events_core.adapters.neighbours.http_client import HttpClient, JsonService
from events_core.adapters.neighbours.pdp import PdpDecisionPoint
from events_core.adapters.neighbours.register import RegisterClient
from events_core.adapters.neighbours.webhooks import HttpWebhookSender
from events_core.adapters.secrets import KeyRing
from events_core.adapters.sqlite import SqliteEventStore
from events_core.adapters.sqlite.checkpoints import SqliteCheckpoints
from events_core.adapters.sqlite.deliveries import SqliteDeliveries
from events_core.adapters.sqlite.subscriptions import SqliteSubscriptions
from events_core.adapters.tokens.verifier import Issuer, JwtVerifier
from events_core.common import trace
from events_core.common.clock import SECOND, now
from events_core.delivery.attempt import Attempts
from events_core.delivery.cache import SubscriptionCache
from events_core.delivery.delivery import RetrySchedule
from events_core.delivery.endpoint import EndpointPolicy
from events_core.delivery.fan_out import FanOut
from events_core.delivery.ports import DeliveryStore, SubscriptionStore
from events_core.delivery.replay import Replays
from events_core.delivery.subscribe import Subscriber
from events_core.delivery.trace_event import Tracer
from events_core.delivery.validate import EndpointValidation
from events_core.delivery.wakeup_queue import WakeupQueue
from events_core.delivery.webhook import Signing
from events_core.delivery.worker import Deliverer
from events_core.feeds.follow_up import Follower, FollowUp
from events_core.feeds.ports import CheckpointStore, EventStore, ProjectedStreams
from events_core.feeds.projection import Projection
from events_core.feeds.publish import Publisher
from events_core.feeds.read import FeedReader
from events_core.feeds.stream import CursorCodec
from events_core.feeds.wait import WaitingReaders
from events_core.operations.application import Application
from events_core.operations.measure import Measure
from events_core.settings import Settings, SettingsError

if TYPE_CHECKING:
    from events_core.adapters.cosmos import CosmosConnection

T = TypeVar("T")

_DEVELOPMENT_KEY = bytes(32)
"""Names streams and seals cursors on a developer's Cosmos DB; a deployment has to bring its own."""

LOCAL_URL = "http://localhost:7071"
"""The source of the service's own events where no public URL is configured."""


def compose(settings: Settings, *, clock: Callable[[], int] = now) -> Application:
    """Build the application that the settings describe; connections are made when they are first needed.

    `clock` gives the time of deliveries, microseconds since the epoch.

    Raises:
        SettingsError: when a file that a setting names cannot be used.
        EventsError: UNAVAILABLE when the store cannot be opened.
    """
    client = HttpClient()
    credential = _credential(settings, client)
    decision_point = _decision_point(settings, client, credential)
    register = _register(settings, client, credential)
    opened = _open_cosmos(settings, client) if settings.on_cosmos else _open_file(settings)
    authorization = Authorization(decision_point, register)
    waiting = WaitingReaders(opened.store, settings.max_waiters)
    cursors = CursorCodec(_derived(opened.secret, b"cursor"))
    delivering = _delivering(settings, opened, authorization, register, clock)
    subscriber = _subscriber(settings, opened, authorization, register, delivering, clock=clock)
    return Application(
        settings=settings,
        store=opened.store,
        decision_point=decision_point,
        register=register,
        tokens=_tokens(settings, client),
        authorization=authorization,
        cursors=cursors,
        waiting=waiting,
        publisher=Publisher(opened.store, authorization, waiting, settings.apps_domain, cursors),
        reader=FeedReader(opened.store, waiting),
        anonymous_apps=tuple(app for text in settings.anonymous_apps if (app := AppId.parse(text))),
        checkpoints=opened.checkpoints,
        follow_up=FollowUp(opened.checkpoints, _followers(opened, waiting, delivering)),
        subscriber=subscriber,
        replays=Replays(subscriber, opened.deliveries, opened.store, delivering.deliverer, clock),
        deliveries=opened.deliveries,
        deliverer=delivering.deliverer,
        tracer=Tracer(opened.store, opened.deliveries, opened.subscriptions, authorization),
        measure=Measure(opened.checkpoints, opened.deliveries, delivering.cache, clock),
        report=partial(report, quietly=settings.development),
        wakeup_queue=delivering.wakeup_queue,
        connections=(delivering.webhooks, client),
    )


@dataclass(frozen=True, slots=True)
class _Opened:
    """What a database holds, and the secret that cursors are sealed under and keys made from."""

    store: EventStore
    secret: bytes
    checkpoints: CheckpointStore
    subscriptions: SubscriptionStore
    deliveries: DeliveryStore
    projected: ProjectedStreams | None = None


@dataclass(frozen=True, slots=True)
class _Delivering:
    """What brings events to endpoints."""

    wakeup_queue: WakeupQueue
    cache: SubscriptionCache
    fan_out: FanOut
    deliverer: Deliverer
    webhooks: HttpWebhookSender
    policy: EndpointPolicy
    secrets: KeyRing


def _open_file(settings: Settings) -> _Opened:
    store = SqliteEventStore(settings.data_dir / "events.db")
    secret = _subject_key(settings) or store.key()
    return _Opened(store, secret, SqliteCheckpoints(store), SqliteSubscriptions(store), SqliteDeliveries(store))


def _open_cosmos(settings: Settings, client: HttpClient) -> _Opened:
    # The SDK takes 0.4 s to import, which the embedded store must not pay.
    from events_core.adapters.cosmos import CosmosEventStore  # noqa: PLC0415
    from events_core.adapters.cosmos.delivery.deliveries import CosmosDeliveries  # noqa: PLC0415
    from events_core.adapters.cosmos.delivery.lanes import CosmosLanes  # noqa: PLC0415
    from events_core.adapters.cosmos.delivery.subscriptions import CosmosSubscriptions  # noqa: PLC0415

    key = _subject_key(settings) or _DEVELOPMENT_KEY
    store = CosmosEventStore(_cosmos_connection(settings, client), settings.cosmos_database, key=key)
    database = store.database
    deliveries = CosmosDeliveries(database, CosmosLanes(database), settings.retention_days)
    return _Opened(store, key, store.checkpoints, CosmosSubscriptions(database), deliveries, store.projection)


def _delivering(
    settings: Settings,
    opened: _Opened,
    authorization: Authorization,
    register: PartyRegister,
    clock: Callable[[], int],
) -> _Delivering:
    keys = [base64.b64decode(key.get_secret_value()) for key in settings.secret_key]
    secrets = KeyRing(keys or [_derived(opened.secret, b"secrets")])
    policy = EndpointPolicy.of(http=settings.webhook_allow_http, networks=settings.webhook_allow_networks)
    webhooks = HttpWebhookSender(policy, timeout_seconds=settings.webhook_timeout_seconds, clock=clock)
    cache, wakeup_queue = SubscriptionCache(opened.subscriptions), WakeupQueue()
    order_key = _derived(opened.secret, b"order")
    fan_out = FanOut(cache, opened.deliveries, authorization, register, wakeup_queue, key=order_key, clock=clock)
    signing = Signing(secrets, settings.base_url or LOCAL_URL)
    schedule = RetrySchedule(settings.webhook_retry_seconds)
    attempts = Attempts(
        cache=cache,
        subscriptions=opened.subscriptions,
        deliveries=opened.deliveries,
        events=opened.store,
        fan_out=fan_out,
        authorization=authorization,
        sender=webhooks,
        signing=signing,
        schedule=schedule,
        timeout=settings.webhook_timeout_seconds * SECOND,
        clock=clock,
    )
    deliverer = Deliverer(
        cache=cache,
        subscriptions=opened.subscriptions,
        deliveries=opened.deliveries,
        checkpoints=opened.checkpoints,
        fan_out=fan_out,
        validation=EndpointValidation(opened.subscriptions, webhooks, signing, schedule, clock),
        attempts=attempts,
        wakeup_queue=wakeup_queue,
        clock=clock,
    )
    return _Delivering(wakeup_queue, cache, fan_out, deliverer, webhooks, policy, secrets)


def _subscriber(
    settings: Settings,
    opened: _Opened,
    authorization: Authorization,
    register: PartyRegister,
    delivering: _Delivering,
    *,
    clock: Callable[[], int],
) -> Subscriber:
    return Subscriber(
        subscriptions=opened.subscriptions,
        deliveries=opened.deliveries,
        events=opened.store,
        checkpoints=opened.checkpoints,
        authorization=authorization,
        register=register,
        secrets=delivering.secrets,
        policy=delivering.policy,
        cache=delivering.cache,
        fan_out=delivering.fan_out,
        deliverer=delivering.deliverer,
        apps_domain=settings.apps_domain,
        clock=clock,
    )


def _followers(opened: _Opened, waiting: WaitingReaders, delivering: _Delivering) -> list[Follower[Any]]:
    """In the embedded store one row serves every stream of its event: nothing is projected."""
    projections = [] if opened.projected is None else [Projection(opened.projected, waiting)]
    return [*projections, delivering.fan_out]


def _derived(secret: bytes, purpose: bytes) -> bytes:
    """A key of its own for each purpose, 32 bytes."""
    return hashlib.blake2b(secret, digest_size=32, person=purpose).digest()


def _cosmos_connection(settings: Settings, client: HttpClient) -> CosmosConnection:
    from events_core.adapters.cosmos import CosmosConnection  # noqa: PLC0415 - see above

    if settings.cosmos is None:
        assert settings.cosmos_account_endpoint is not None  # one of the two is what on_cosmos means
        identity = EntraCredential(lambda: client.session, client_id=settings.cosmos_client_id)
        return CosmosConnection(settings.cosmos_account_endpoint, identity)  # type: ignore[arg-type] # its own tuple
    try:
        return CosmosConnection.of_string(settings.cosmos.get_secret_value())
    except ValueError as error:
        raise SettingsError(f"EVENTS_COSMOS: {error}") from None


def _subject_key(settings: Settings) -> bytes | None:
    return base64.b64decode(settings.subject_key.get_secret_value()) if settings.subject_key else None


def _credential(settings: Settings, client: HttpClient) -> EntraCredential:
    secret = settings.client_secret
    return EntraCredential(
        lambda: client.session,
        client_id=settings.client_id,
        client_secret=secret.get_secret_value() if secret else None,
        authority=settings.authority,
    )


def _bearer(credential: EntraCredential, scope: str | None) -> Callable[[], Awaitable[str]] | None:
    return partial(credential.token, scope) if scope else None


def _from_file(setting: str, path: Path, make: Callable[[Path], T]) -> T:
    """Make what stands in for a service; the path is the setting's value, which an error does not show."""
    try:
        return make(path)
    except LocalFileError as error:
        raise SettingsError(f"{setting}: {str(error).removeprefix(f'{path}: ')}") from None


def _decision_point(settings: Settings, client: HttpClient, credential: EntraCredential) -> DecisionPoint:
    if settings.pdp_url is None:
        return _from_file("EVENTS_POLICY_FILE", settings.policy_file, LocalPolicy)

    key = settings.pdp_subscription_key
    service = JsonService(
        client,
        "The policy decision point",
        settings.pdp_url,
        subscription_key=key.get_secret_value() if key else None,
        bearer=_bearer(credential, settings.pdp_scope),
        traceparent=_traceparent,
    )
    return PdpDecisionPoint(service)


def _register(settings: Settings, client: HttpClient, credential: EntraCredential) -> PartyRegister:
    if settings.register_url is None:
        return _from_file("EVENTS_REGISTER_FILE", settings.register_file, LocalRegister)

    bearer = _bearer(credential, settings.register_scope)
    return RegisterClient(
        JsonService(client, "Register", settings.register_url, bearer=bearer, traceparent=_traceparent)
    )


def _tokens(settings: Settings, client: HttpClient) -> TokenVerifier:
    issuers = [Issuer(issuer.issuer, issuer.jwks_uri, issuer.audience) for issuer in settings.token_issuers]
    platform = {name: issuer.jwks_uri for name, issuer in settings.platform_token_issuers.items()}
    return JwtVerifier(issuers, platform, lambda: client.session)


def _traceparent() -> str | None:
    context = trace.current()
    return context.traceparent if context else None
