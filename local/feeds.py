"""The feed that `tail` follows, and the token that may read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from events_core.access import scopes
from events_core.access.names import RESOURCE_PREFIX
from local.errors import LocalError
from local.issuer import DevelopmentIssuer
from local.persona import USER


@dataclass(frozen=True, slots=True)
class Feed:
    """A feed's path and parameters. `token` makes a token that may read it."""

    path: str
    parameters: Mapping[str, str]
    token: Callable[[DevelopmentIssuer], str]


def feed_of(*, party: int | None, org: str | None, app: str | None, resource: str | None) -> Feed:
    """The feed that the options name. `org` and `app` narrow the feed of a party.

    Raises:
        LocalError: The options name no feed, or more than one.
    """
    if (resource and (party is not None or org)) or (app and not org):
        raise LocalError("--resource goes with no other option, and --app only with --org")
    if resource:
        scope = f"{scopes.REPORTEES}{resource.removeprefix(RESOURCE_PREFIX)}"
        return Feed("/events/api/v1/events", {"resource": resource}, lambda issuer: issuer.token_for_org("ttd", scope))
    if party is not None:
        narrowed = {name: value for name, value in (("org", org), ("app", app)) if value}
        parameters = {"party": str(party), **narrowed}
        return Feed("/events/api/v1/app/party", parameters, lambda issuer: issuer.token_for_user(USER, party))
    if org:
        path = "/events/api/v1/app/" + "/".join(quote(name, safe="") for name in (org, app) if name)
        return Feed(path, {}, lambda issuer: issuer.token_for_org(org, " ".join(scopes.of_owner(org))))
    raise LocalError("name a feed: --party, --org (with or without --app), or --resource")
