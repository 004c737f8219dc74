"""The rules of subscription requests, and the error texts of the API. Pure.

There are two kinds of subscriptions. An app subscription names an app, by its resource or its URL. Any other
subscription names a resource.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from events_core.access import scopes
from events_core.access.identity import Caller, Kind
from events_core.access.names import APP_PREFIX, AppId, Resource, ends_in_person_number, is_under
from events_core.cloudevent.syntax import is_urn
from events_core.common import errors
from events_core.common.errors import bad_field
from events_core.delivery.subscription import EventFilter

NO_SUBJECT = "A valid subject to the authenticated identity is required"
NO_APP = "A valid app id is required in source filter {environment}/{org}/{app}"
_SLASHES = re.compile(r"/{2,}")


@dataclass(frozen=True, slots=True)
class SubscriptionRequest:
    """A request for a subscription: the filters as the subscriber wrote them, None for a missing filter.

    `base_url` is the URL of this service that the request was sent to.
    """

    endpoint: str | None = None
    source: str | None = None
    subject: str | None = None
    alternative_subject: str | None = None
    resource: str | None = None
    type: str | None = None
    include_subunits: bool = False
    base_url: str | None = None


def filter_for(caller: Caller, request: SubscriptionRequest, apps_domain: str | None) -> EventFilter:
    """Check a request and return its filters. The caller looks up the subject of an `alternative_subject`.

    Raises:
        EventsError: BAD_REQUEST naming the field, FORBIDDEN without the scope for resources other than apps.
    """
    if not caller.consumer:
        raise errors.bad_request("Missing event consumer")
    resource = Resource.parse(request.resource).urn if request.resource else None
    is_app = _is_app(resource, request.source, apps_domain)
    filters = _app_filter(request, resource, apps_domain) if is_app else _other_filter(caller, request, resource)
    if request.include_subunits and request.subject is None and request.alternative_subject is None:
        raise bad_field("includeSubunits", "IncludeSubunits requires a subject filter.")
    has_subject = filters.subject is not None or request.alternative_subject is not None
    if is_app and not has_subject and caller.kind is not Kind.SERVICE_OWNER:
        raise bad_field("subjectFilter", NO_SUBJECT)
    return filters


def _is_app(resource: str | None, source: str | None, apps_domain: str | None) -> bool:
    if resource is not None and resource.startswith(APP_PREFIX):
        return True
    if source is None:
        return False
    if apps_domain is None:
        return resource is None
    return _is_under(f"https:{source.partition(':')[2]}", apps_domain)  # another scheme is an error of an app's source


def _is_under(source: str, apps_domain: str) -> bool:
    """Whether a source filter is under the apps domain. A wildcard may stand for any part of a name."""
    return is_under(source.replace("%", "x"), apps_domain)


def _app_filter(request: SubscriptionRequest, resource: str | None, apps_domain: str | None) -> EventFilter:
    app = None if request.source is None else _app_of_source(request.source, apps_domain)
    if resource is not None and Resource.parse(resource).app is None:
        raise bad_field("resourceFilter", "The resource must be urn:altinn:resource:app_{org}_{app}.")
    if app is not None and resource is not None and app.resource != resource:
        raise bad_field("resourceFilter", "Provided resource filter and source filter are not compatible")
    resource = resource or (app.resource if app else "")
    return replace(_common(request, resource), source=request.source, alternative_subject=request.alternative_subject)


def _app_of_source(source: str, apps_domain: str | None) -> AppId:
    """The app whose URL a source filter is: a host, which may hold wildcards, and `/{org}/{app}`."""
    try:
        parts = urlsplit(source)
    except ValueError:
        raise bad_field("sourceFilter", NO_APP) from None
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise bad_field("sourceFilter", NO_APP)
    if apps_domain is not None and not _is_under(source, apps_domain):
        raise bad_field("sourceFilter", f"The source must be under https://{apps_domain}.")
    path = parts.path.rstrip("/").removesuffix("/%")
    app = None if _SLASHES.search(path) else AppId.parse(path.lstrip("/"))
    if app is None:
        raise bad_field("sourceFilter", NO_APP)
    return app


def _other_filter(caller: Caller, request: SubscriptionRequest, resource: str | None) -> EventFilter:
    if not caller.has_scope(scopes.SUBSCRIBE):
        raise errors.forbidden(f"The scope {scopes.SUBSCRIBE} is required.")
    if resource is None:
        raise bad_field("resourceFilter", "Resource filter is required.")
    if request.source is not None:
        raise bad_field("sourceFilter", "Source filter is not supported for subscriptions on this resource.")
    if request.alternative_subject is not None:
        detail = "AlternativeSubject filter is not supported for subscriptions on this resource."
        raise bad_field("alternativeSubjectFilter", detail)
    return _common(request, resource)


def _common(request: SubscriptionRequest, resource: str) -> EventFilter:
    if not is_urn(resource):
        raise bad_field("resourceFilter", "The resource must be one URN, without wildcards.")
    if ends_in_person_number(resource):
        raise bad_field("resourceFilter", "The resource must not be a person.")
    return EventFilter(resource, subject=request.subject, type=request.type, include_subunits=request.include_subunits)
