"""The composition root: settings -> adapters -> use cases. The only module that imports adapters."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from events_core import trace
from events_core.altinn import AppId
from events_core.authorization import Authorization
from events_core.errors import EventsError, Problem
from events_core.feed import CursorCodec
from events_core.follow_up import FollowUp
from events_core.ports import DecisionPoint, EventStore, PartyRegister, StreamLedger, TokenVerifier
from events_core.publish import Publisher
from events_core.wakeups import Wakeups

if TYPE_CHECKING:
    from events_core.adapters.cosmos import CosmosConnection
    from events_core.adapters.credentials import EntraCredential
    from events_core.adapters.http_client import HttpClient
    from events_core.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Events:
    """The composed application: its settings, its ports, and what the use cases keep between requests."""

    settings: Settings
    store: EventStore
    decision_point: DecisionPoint
    register: PartyRegister
    tokens: TokenVerifier
    authorization: Authorization
    cursors: CursorCodec
    wakeups: Wakeups
    publisher: Publisher
    anonymous_apps: tuple[AppId, ...]
    client: HttpClient
    follow_up: FollowUp | None = None
    """None where the streams of subjects and orgs need no projection."""

    async def close(self) -> None:
        """Wake who waits, then release connections, threads and files."""
        self.wakeups.close()
        await self.client.close()
        await self.store.close()


class MisconfiguredError(EventsError):
    """503: a setting is missing or bad; `line` names it, for /health alone."""

    def __init__(self, line: str) -> None:
        super().__init__(Problem.UNAVAILABLE, "The service is not configured; /health names the setting.", (), {})
        self.headers = {"Retry-After": "60"}
        self.line = line


_DEVELOPMENT_KEY = bytes(32)
"""Names streams and seals cursors on a developer's Cosmos DB; a deployment has to bring its own."""

_events: Events | None = None


async def current() -> Events:
    """The application of this process, composed at the first request.

    Raises:
        MisconfiguredError: when a setting is missing or bad.
        EventsError: UNAVAILABLE when the store cannot be opened.
    """
    global _events  # noqa: PLW0603 - one application a process is what a composition root is for
    if _events is None:
        from events_core.adapters.telemetry import configure_logging  # noqa: PLC0415 - no work at import
        from events_core.settings import SettingsError, load_settings  # noqa: PLC0415

        configure_logging()

        try:
            _events = compose(load_settings(os.environ))
        except SettingsError as error:
            raise MisconfiguredError(str(error)) from None
    return _events


async def close() -> None:
    """Close the application of this process; the next request composes it anew."""
    global _events
    events, _events = _events, None
    if events is not None:
        await events.close()


def compose(settings: Settings) -> Events:
    """Build the application that the settings describe; connections are made when they are first needed.

    Raises:
        SettingsError: when a file that a setting names cannot be used.
        EventsError: UNAVAILABLE when the store cannot be opened.
    """
    from events_core.adapters.http_client import HttpClient  # noqa: PLC0415 - no work at import

    client = HttpClient()
    credential = _credential(settings, client)
    decision_point = _decision_point(settings, client, credential)
    register = _register(settings, client, credential)
    opened = _open_cosmos(settings, client) if settings.on_cosmos else _open_file(settings)
    authorization = Authorization(decision_point, register)
    wakeups = Wakeups(opened.store, settings.max_waiters)
    cursors = CursorCodec(hashlib.blake2b(opened.secret, digest_size=32, person=b"cursor").digest())
    return Events(
        settings=settings,
        store=opened.store,
        decision_point=decision_point,
        register=register,
        tokens=_tokens(settings, client),
        authorization=authorization,
        cursors=cursors,
        wakeups=wakeups,
        publisher=Publisher(opened.store, authorization, wakeups, settings.apps_domain, cursors),
        anonymous_apps=tuple(app for text in settings.anonymous_apps if (app := AppId.parse(text))),
        client=client,
        follow_up=FollowUp(opened.ledger, wakeups) if opened.ledger else None,
    )


@dataclass(frozen=True, slots=True)
class _Opened:
    """A store, the secret that cursors are sealed under, and what following up needs where streams are projected."""

    store: EventStore
    secret: bytes
    ledger: StreamLedger | None = None


def _open_file(settings: Settings) -> _Opened:
    from events_core.adapters.sqlite import SqliteEventStore  # noqa: PLC0415 - development only

    store = SqliteEventStore(settings.data_dir / "events.db")
    return _Opened(store, _subject_key(settings) or store.key())


def _open_cosmos(settings: Settings, client: HttpClient) -> _Opened:
    from events_core.adapters.cosmos import CosmosEventStore  # noqa: PLC0415 - no work at import

    key = _subject_key(settings) or _DEVELOPMENT_KEY
    store = CosmosEventStore(_cosmos_connection(settings, client), settings.cosmos_database, key=key)
    return _Opened(store, key, store.ledger)


def _cosmos_connection(settings: Settings, client: HttpClient) -> CosmosConnection:
    from events_core.adapters.cosmos import CosmosConnection  # noqa: PLC0415 - no work at import
    from events_core.adapters.credentials import EntraCredential  # noqa: PLC0415
    from events_core.settings import SettingsError  # noqa: PLC0415

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
    from events_core.adapters.credentials import EntraCredential  # noqa: PLC0415 - no work at import

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
    from events_core.adapters.local_files import LocalFileError  # noqa: PLC0415 - development only
    from events_core.settings import SettingsError  # noqa: PLC0415

    try:
        return make(path)
    except LocalFileError as error:
        raise SettingsError(f"{setting}: {str(error).removeprefix(f'{path}: ')}") from None


def _decision_point(settings: Settings, client: HttpClient, credential: EntraCredential) -> DecisionPoint:
    if settings.pdp_url is None:
        from events_core.adapters.local_policy import LocalPolicy  # noqa: PLC0415 - development only

        return _from_file("EVENTS_POLICY_FILE", settings.policy_file, LocalPolicy)
    from events_core.adapters.http_client import JsonService  # noqa: PLC0415 - no work at import
    from events_core.adapters.pdp import PdpDecisionPoint  # noqa: PLC0415

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
        from events_core.adapters.local_register import LocalRegister  # noqa: PLC0415 - development only

        return _from_file("EVENTS_REGISTER_FILE", settings.register_file, LocalRegister)
    from events_core.adapters.http_client import JsonService  # noqa: PLC0415 - no work at import
    from events_core.adapters.register import RegisterClient  # noqa: PLC0415

    bearer = _bearer(credential, settings.register_scope)
    return RegisterClient(
        JsonService(client, "Register", settings.register_url, bearer=bearer, traceparent=_traceparent)
    )


def _tokens(settings: Settings, client: HttpClient) -> TokenVerifier:
    from events_core.adapters.tokens import Issuer, JwtVerifier  # noqa: PLC0415 - no work at import

    issuers = [Issuer(issuer.issuer, issuer.jwks_uri, issuer.audience) for issuer in settings.token_issuers]
    platform = {name: issuer.jwks_uri for name, issuer in settings.platform_token_issuers.items()}
    return JwtVerifier(issuers, platform, lambda: client.session)


def _traceparent() -> str | None:
    context = trace.current()
    return context.traceparent if context else None
