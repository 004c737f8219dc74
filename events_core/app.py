"""The composition root: settings -> adapters -> use cases. The only module that imports adapters."""

from __future__ import annotations

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
from events_core.ports import DecisionPoint, EventStore, PartyRegister, TokenVerifier
from events_core.publish import Publisher
from events_core.wakeups import Wakeups

if TYPE_CHECKING:
    from events_core.adapters.credentials import EntraCredential
    from events_core.adapters.http_client import HttpClient
    from events_core.adapters.sqlite import SqliteEventStore
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
    from events_core.adapters.sqlite import SqliteEventStore  # noqa: PLC0415
    from events_core.settings import SettingsError  # noqa: PLC0415

    if settings.cosmos is not None:
        raise SettingsError("EVENTS_COSMOS: is set, and this edition has the embedded store alone")
    client = HttpClient()
    credential = _credential(settings, client)
    decision_point = _decision_point(settings, client, credential)
    register = _register(settings, client, credential)
    store = SqliteEventStore(settings.data_dir / "events.db")
    authorization = Authorization(decision_point, register)
    wakeups = Wakeups(store, settings.max_waiters)
    cursors = CursorCodec(_cursor_key(settings, store))
    return Events(
        settings=settings,
        store=store,
        decision_point=decision_point,
        register=register,
        tokens=_tokens(settings, client),
        authorization=authorization,
        cursors=cursors,
        wakeups=wakeups,
        publisher=Publisher(store, authorization, wakeups, settings.apps_domain, cursors),
        anonymous_apps=tuple(app for text in settings.anonymous_apps if (app := AppId.parse(text))),
        client=client,
    )


def _cursor_key(settings: Settings, store: SqliteEventStore) -> bytes:
    secret = settings.subject_key.get_secret_value().encode() if settings.subject_key else store.key()
    return hashlib.blake2b(secret, digest_size=32, person=b"cursor").digest()


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
