"""Authentication: the caller that a request's tokens name (docs/consumers.md, "Tokens")."""

from __future__ import annotations

from events_core.access.identity import Caller, Kind, caller_from_claims, caller_from_platform_claims
from events_core.access.ports import TokenVerifier
from events_core.common import errors
from events_core.http.request import Request

PLATFORM_HEADER = "PlatformAccessToken"


async def bearer(request: Request, tokens: TokenVerifier) -> Caller:
    """The caller of the bearer token.

    Raises:
        EventsError: UNAUTHORIZED without a trusted token, FORBIDDEN if the token identifies nobody, UNAVAILABLE when
            the issuer's keys cannot be fetched, UNSUPPORTED_MEDIA_TYPE if the body is encoded, whatever the route.
    """
    scheme, _, token = (request.header("authorization") or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise errors.unauthorized()
    caller = caller_from_claims(await tokens.claims(token), token)
    if caller.kind is Kind.NONE:
        raise errors.forbidden("The token does not identify a user, organisation or system.")
    request.refuse_encoded_body()
    return caller


async def platform_app(request: Request, tokens: TokenVerifier) -> Caller:
    """The app of the PlatformAccessToken. It raises what `bearer` raises."""
    token = request.header(PLATFORM_HEADER)
    if token is None:
        raise errors.unauthorized(f"A valid {PLATFORM_HEADER} is required.")
    caller = caller_from_platform_claims(await tokens.platform_claims(token), token)
    if caller.kind is Kind.NONE:
        raise errors.forbidden("The token does not identify an app.")
    request.refuse_encoded_body()
    return caller


async def bearer_or_platform_app(request: Request, tokens: TokenVerifier) -> Caller:
    """The caller of the bearer token, or the app if the request has no bearer token. A bad bearer token is refused."""
    if request.header("authorization") is None and request.header(PLATFORM_HEADER) is not None:
        return await platform_app(request, tokens)
    return await bearer(request, tokens)
