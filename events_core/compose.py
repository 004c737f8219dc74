"""The composition root: settings -> adapters -> use cases.

`events_core.app` imports this module when the application is first needed, so that nothing is loaded at start.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from events_core.access.authorization import Authorization
from events_core.access.decisions import Decisions
from events_core.access.names import AppId
from events_core.access.ports import DecisionPoint, PartyRegister, TokenVerifier
from events_core.adapters.development.files import LocalFileError
from events_core.adapters.development.policy import LocalPolicy
from events_core.adapters.development.register import LocalRegister, RegisterFile
from events_core.adapters.entra import EntraCredential
from events_core.adapters.gauges import report
from events_core.adapters.neighbours.http_client import HttpClient, JsonService
from events_core.adapters.neighbours.pdp import PdpDecisionPoint
from events_core.adapters.neighbours.register import RegisterClient
from events_core.adapters.neighbours.webhooks import HttpWebhookSender
from events_core.adapters.secrets import KeyRing
from events_core.adapters.storage_queue import DelayedWakeups, client_of_string
from events_core.adapters.stores import Stores, open_cosmos, open_file
from events_core.adapters.tokens.platform_token import PlatformCertificate, PlatformToken
from events_core.adapters.tokens.verifier import Issuer, JwtVerifier
from events_core.common import trace
from events_core.common.clock import SECOND, now
from events_core.delivery.attempt import Attempts
from events_core.delivery.cache import SubscriptionCache
from events_core.delivery.delivery import Lane, RetrySchedule
from events_core.delivery.endpoint import EndpointPolicy
from events_core.delivery.endpoint_test import EndpointTest
from events_core.delivery.explain import Explanation
from events_core.delivery.fan_out import FanOut
from events_core.delivery.persons import PersonNumbers
from events_core.delivery.ports import SubscriptionQuota
from events_core.delivery.replay import Replays
from events_core.delivery.shares import ConsumerShares
from events_core.delivery.subscribe import MOST_NEVER_VALIDATED, Subscriber
from events_core.delivery.timers import LaneTimers
from events_core.delivery.trace_event import Tracer
from events_core.delivery.validate import EndpointValidation
from events_core.delivery.wakeup_queue import WakeupQueue
from events_core.delivery.webhook import Signing
from events_core.delivery.worker import LaneWorker
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.projection import Projection
from events_core.feeds.publish import Publisher
from events_core.feeds.read import FeedReader
from events_core.feeds.stream import CursorCodec
from events_core.feeds.wait import WaitingReaders
from events_core.operations.application import Application
from events_core.operations.measure import Measure
from events_core.settings import Settings, SettingsError

T = TypeVar("T")

_DEVELOPMENT_KEY = bytes(32)
"""Names streams and seals cursors on a developer's Cosmos DB; a deployment must set its own."""


def compose(settings: Settings, *, clock: Callable[[], int] = now) -> Application:
    """Build the application that the settings describe; connections are made when they are first needed.

    `clock` gives the time of deliveries, microseconds since the epoch.

    Raises:
        SettingsError: when a certificate, or a file that a setting names, cannot be used.
        EventsError: UNAVAILABLE when the store cannot be opened.
    """
    parts = _Parts(settings, clock)
    return Application(
        settings=settings,
        decision_point=parts.decision_point,  # a bad file must fail before a store is opened
        register=parts.register,
        store=parts.stores.events,
        tokens=parts.tokens,
        authorization=parts.authorization,
        cursors=parts.cursors,
        waiting=parts.waiting,
        publisher=parts.publisher,
        reader=FeedReader(parts.stores.events, parts.waiting),
        anonymous_apps=tuple(app for text in settings.anonymous_apps if (app := AppId.parse(text))),
        checkpoints=parts.stores.checkpoints,
        follow_up=parts.follow_up,
        subscriber=parts.subscriber,
        replays=parts.replays,
        deliveries=parts.stores.deliveries,
        lane_worker=parts.lane_worker,
        endpoint_test=EndpointTest(parts.subscriber, parts.webhooks, parts.shares, parts.signing, clock),
        tracer=Tracer(
            parts.stores.events,
            parts.stores.deliveries,
            parts.authorization,
            Explanation(parts.stores.subscriptions, parts.authorization, parts.register, parts.persons),
        ),
        measure=parts.measure,
        report=partial(report, quietly=settings.development),
        restored=parts.stores.restored,
        wakeup_queue=parts.wakeup_queue,
        connections=tuple(each for each in (parts.webhooks, parts.delayed_wakeups, parts.client) if each is not None),
    )


class _Parts:
    """The parts of an application. Each is made once, from the settings and other parts, when it is first needed."""

    def __init__(self, settings: Settings, clock: Callable[[], int]) -> None:
        self.settings = settings
        self.clock = clock
        self.certificate = _certificate(settings)
        self.client = HttpClient()
        self.wakeup_queue = WakeupQueue()
        self.shares = ConsumerShares()

    # -- Stores -------------------------------------------------------------------------------------------------------

    @cached_property
    def stores(self) -> Stores:
        if self.settings.on_cosmos:
            return _open_cosmos(self.settings, self.client)
        return open_file(self.settings.data_dir / "events.db", _subject_key(self.settings))

    @cached_property
    def waiting(self) -> WaitingReaders:
        return WaitingReaders(self.stores.events, self.settings.max_waiters)

    @cached_property
    def cursors(self) -> CursorCodec:
        return CursorCodec(self.key(b"cursor"))

    @cached_property
    def cache(self) -> SubscriptionCache:
        return SubscriptionCache(self.stores.subscriptions)

    def key(self, purpose: bytes) -> bytes:
        """A separate key for each purpose, 32 bytes, derived from the store's secret."""
        return hashlib.blake2b(self.stores.secret, digest_size=32, person=purpose).digest()

    # -- Neighbours ---------------------------------------------------------------------------------------------------

    @cached_property
    def credential(self) -> EntraCredential:
        secret = self.settings.client_secret
        return EntraCredential(
            lambda: self.client.session,
            client_id=self.settings.client_id,
            client_secret=secret.get_secret_value() if secret else None,
            authority=self.settings.authority,
        )

    def service(
        self,
        name: str,
        url: str,
        scope: str | None,
        subscription_key: SecretStr | None = None,
        platform_token: PlatformToken | None = None,
    ) -> JsonService:
        """A JSON service that is called with a token for `scope`, if there is one."""
        return JsonService(
            self.client,
            name,
            url,
            subscription_key=subscription_key.get_secret_value() if subscription_key else None,
            bearer=partial(self.credential.token, scope) if scope else None,
            platform_token=platform_token,
            traceparent=_traceparent,
        )

    @cached_property
    def delayed_wakeups(self) -> DelayedWakeups | None:
        uri, storage = self.settings.storage_queue_service_uri, self.settings.storage
        if uri is not None:
            client_id = self.settings.storage_client_id
            credential = EntraCredential(lambda: self.client.session, client_id=client_id)
            try:
                return DelayedWakeups.of_identity(uri, credential)
            except ValueError:
                raise SettingsError("AzureWebJobsStorage__queueServiceUri: is not an https URL of queues") from None
        try:
            return None if storage is None else DelayedWakeups(client_of_string(storage.get_secret_value()))
        except ValueError:
            raise SettingsError("AzureWebJobsStorage: is not a connection string of a storage account") from None

    @cached_property
    def decision_point(self) -> DecisionPoint:
        settings = self.settings
        if settings.pdp_url is None:
            register = _from_file("EVENTS_REGISTER_FILE", settings.register_file, RegisterFile.read)
            return _from_file("EVENTS_POLICY_FILE", settings.policy_file, partial(LocalPolicy, register=register))
        name = "The policy decision point"
        return PdpDecisionPoint(self.service(name, settings.pdp_url, settings.pdp_scope, settings.pdp_subscription_key))

    @cached_property
    def register(self) -> PartyRegister:
        if self.settings.register_url is None:
            return _from_file("EVENTS_REGISTER_FILE", self.settings.register_file, LocalRegister)
        token = PlatformToken(self.certificate) if self.certificate else None
        url, scope = self.settings.register_url, self.settings.register_scope
        return RegisterClient(self.service("Register", url, scope, platform_token=token))

    @cached_property
    def tokens(self) -> TokenVerifier:
        issuers = [Issuer(each.issuer, each.jwks_uri, each.audience) for each in self.settings.token_issuers]
        platform = {name: issuer.jwks_uri for name, issuer in self.settings.platform_token_issuers.items()}
        return JwtVerifier(issuers, platform, lambda: self.client.session)

    # -- Use cases ----------------------------------------------------------------------------------------------------

    @cached_property
    def authorization(self) -> Authorization:
        return Authorization(Decisions(self.decision_point), self.register)

    @cached_property
    def publisher(self) -> Publisher:
        domain = self.settings.apps_domain
        return Publisher(self.stores.events, self.authorization, self.waiting, domain, self.cursors)

    @cached_property
    def follow_up(self) -> FollowUp:
        projected = self.stores.projected
        projections = [] if projected is None else [Projection(projected, self.waiting)]
        return FollowUp(self.stores.checkpoints, [*projections, self.fan_out])

    @cached_property
    def fan_out(self) -> FanOut:
        return FanOut(
            self.cache,
            self.stores.deliveries,
            self.authorization,
            self.register,
            self.wakeup_queue,
            self.persons,
            key=self.key(b"order"),
            clock=self.clock,
        )

    @cached_property
    def secrets(self) -> KeyRing:
        keys = [base64.b64decode(key.get_secret_value()) for key in self.settings.secret_key]
        return KeyRing(keys or [self.key(b"secrets")])

    @cached_property
    def persons(self) -> PersonNumbers:
        return PersonNumbers(self.key(b"person"), self.secrets)

    @cached_property
    def endpoints(self) -> EndpointPolicy:
        settings = self.settings
        return EndpointPolicy.of(http=settings.webhook_allow_http, networks=settings.webhook_allow_networks)

    @cached_property
    def webhooks(self) -> HttpWebhookSender:
        seconds = self.settings.webhook_timeout_seconds
        return HttpWebhookSender(self.endpoints, timeout_seconds=seconds, clock=self.clock)

    @cached_property
    def signing(self) -> Signing:
        return Signing(self.secrets, self.settings.base_url)

    @cached_property
    def lane_worker(self) -> LaneWorker:
        stores, settings = self.stores, self.settings
        schedule = RetrySchedule(settings.webhook_retry_seconds)
        attempts = Attempts(
            cache=self.cache,
            subscriptions=stores.subscriptions,
            deliveries=stores.deliveries,
            store=stores.events,
            fan_out=self.fan_out,
            authorization=self.authorization,
            sender=self.webhooks,
            shares=self.shares,
            signing=self.signing,
            schedule=schedule,
            timeout=settings.webhook_timeout_seconds * SECOND,
            clock=self.clock,
        )
        return LaneWorker(
            cache=self.cache,
            subscriptions=stores.subscriptions,
            deliveries=stores.deliveries,
            checkpoints=stores.checkpoints,
            fan_out=self.fan_out,
            validation=EndpointValidation(
                stores.subscriptions, self.webhooks, self.shares, self.signing, schedule, self.clock
            ),
            attempts=attempts,
            wakeup_queue=self.wakeup_queue,
            shares=self.shares,
            timers=self.timers,
            clock=self.clock,
        )

    @cached_property
    def timers(self) -> LaneTimers:
        if self.delayed_wakeups is not None:
            return LaneTimers(self.delayed_wakeups.send, self.clock)
        return LaneTimers(self._serve_later, self.clock)

    def _serve_later(self, lane: Lane, seconds: float) -> None:
        self.lane_worker.serve_soon(lane, seconds)

    @cached_property
    def measure(self) -> Measure:
        ends = self.certificate.ends if self.certificate else None
        return Measure(self.stores.checkpoints, self.stores.deliveries, self.cache, self.clock, ends)

    @cached_property
    def subscriber(self) -> Subscriber:
        return Subscriber(
            subscriptions=self.stores.subscriptions,
            deliveries=self.stores.deliveries,
            store=self.stores.events,
            authorization=self.authorization,
            register=self.register,
            secrets=self.secrets,
            persons=self.persons,
            policy=self.endpoints,
            cache=self.cache,
            lane_worker=self.lane_worker,
            apps_domain=self.settings.apps_domain,
            quota=SubscriptionQuota(self.settings.max_subscriptions, MOST_NEVER_VALIDATED),
            clock=self.clock,
        )

    @cached_property
    def replays(self) -> Replays:
        return Replays(
            self.subscriber,
            self.stores.deliveries,
            self.stores.events,
            self.lane_worker,
            most=self.settings.max_replays,
            clock=self.clock,
        )


def _open_cosmos(settings: Settings, client: HttpClient) -> Stores:
    key = _subject_key(settings) or _DEVELOPMENT_KEY
    if settings.cosmos is None:
        assert settings.cosmos_account_endpoint is not None  # one of the two is what on_cosmos means
        identity = EntraCredential(lambda: client.session, client_id=settings.cosmos_client_id)
        account: str | tuple[str, EntraCredential] = settings.cosmos_account_endpoint, identity
    else:
        account = settings.cosmos.get_secret_value()
    try:
        return open_cosmos(account, settings.cosmos_database, key, settings.retention_days)
    except ValueError as error:
        raise SettingsError(f"EVENTS_COSMOS: {error}") from None


def _subject_key(settings: Settings) -> bytes | None:
    return base64.b64decode(settings.subject_key.get_secret_value()) if settings.subject_key else None


def _certificate(settings: Settings) -> PlatformCertificate | None:
    if settings.platform_certificate is None:
        return None
    try:
        return PlatformCertificate.read(settings.platform_certificate.get_secret_value())
    except ValueError as error:
        raise SettingsError(f"EVENTS_PLATFORM_CERTIFICATE: {error}") from None


def _from_file(setting: str, path: Path, make: Callable[[Path], T]) -> T:
    """Make a development stand-in from a file; an error names the setting and not the path, which is its value."""
    try:
        return make(path)
    except LocalFileError as error:
        raise SettingsError(f"{setting}: {str(error).removeprefix(f'{path}: ')}") from None


def _traceparent() -> str | None:
    context = trace.current()
    return context.traceparent if context else None
