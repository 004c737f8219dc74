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
from events_core.access.names import (
    APP_PREFIX,
    RESOURCE_PREFIX,
    AppId,
    Resource,
    is_under,
)
from events_core.cloudevent.syntax import is_urn
from events_core.common import errors
from events_core.common.errors import bad_field
from events_core.common.persons import holds_checked_number, names_person
from events_core.delivery.persons import holds_part_of_number
from events_core.delivery.subscription import EventFilter

NO_SUBJECT = "A valid subject to the authenticated identity is required"
NO_APP = "A valid app id is required in source filter {environment}/{org}/{app}"
MOST_WILDCARDS = 10
_SLASHES = re.compile(r"/{2,}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


@dataclass(frozen=True, slots=True)
class SubscriptionRequest:
    """A request for a subscription: the filters as the subscriber wrote them, None for a missing filter.

    `content_type` is None unless the subscriber asks for one. `base_url` is the URL of this service that the request
    was sent to.
    """

    endpoint: str | None = None
    source: str | None = None
    subject: str | None = None
    alternative_subject: str | None = None
    resource: str | None = None
    type: str | None = None
    include_subunits: bool = False
    content_type: str | None = None
    base_url: str | None = None

    @property
    def has_subject(self) -> bool:
        """Whether the request names a subject. One with a wildcard names none."""
        return _is_one_subject(self.subject) or _is_one_subject(self.alternative_subject)


def filter_for(caller: Caller, request: SubscriptionRequest, apps_domain: str | None) -> EventFilter:
    """Check a request, first its form, and return its filters.

    The use case looks up the subject of an `alternative_subject`.

    Raises:
        EventsError: BAD_REQUEST naming the field, FORBIDDEN without the scope for resources other than apps.
    """
    if not caller.consumer:
        raise errors.bad_request("Missing event consumer")
    resource = _resource(request)
    _check_source(request.source)
    _check_patterns(request)
    _check_numbers(request)
    is_app = _is_app(resource, request.source, apps_domain)
    if not is_app and not caller.has_scope(scopes.SUBSCRIBE):
        raise errors.forbidden(f"The scope {scopes.SUBSCRIBE} is required.")
    filters = _app_filter(request, resource, apps_domain) if is_app else _other_filter(request, resource)
    if request.include_subunits and not request.has_subject:
        raise bad_field("includeSubunits", "IncludeSubunits requires a subject filter.")
    needs_subject = request.include_subunits or (is_app and caller.kind is not Kind.SERVICE_OWNER)
    if needs_subject and not request.has_subject:
        raise bad_field("subjectFilter", NO_SUBJECT)
    return replace(filters, subject=None) if needs_subject and not _is_one_subject(request.subject) else filters


def _is_one_subject(text: str | None) -> bool:
    """Whether a filter names one subject: it has no wildcard, and is more than slashes and spaces."""
    return text is not None and "%" not in text and bool(text.strip("/ "))


# -- Form -------------------------------------------------------------------------------------------------------------


def _resource(request: SubscriptionRequest) -> str | None:
    """The URN of the resource, None if the request names no resource."""
    if request.resource is None:
        if request.source is None:
            raise bad_field("resourceFilter", "Resource filter is required.")
        return None
    resource = Resource.parse(request.resource).urn
    if not resource.lower().startswith("urn:"):
        meant = _meant(request.resource)
        hint = f" Did you mean {meant}?" if meant else ""
        raise bad_field("resourceFilter", f"The resource must be one URN, which begins with urn:.{hint}")
    if not is_urn(resource) or resource.endswith(":"):
        raise bad_field("resourceFilter", "The resource must be one URN, without wildcards.")
    if names_person(resource):
        raise bad_field("resourceFilter", "The resource must not be a person.")
    if resource.startswith(APP_PREFIX) and Resource.parse(resource).app is None:
        raise bad_field("resourceFilter", "The resource must be urn:altinn:resource:app_{org}_{app}.")
    return resource


def _meant(text: str) -> str | None:
    """The resource that a name without `urn:` probably stands for."""
    name = text.rpartition(":")[2]
    if names_person(text):
        return None
    app = AppId.parse(name)
    if app is not None:
        return app.resource
    return Resource.parse(f"{RESOURCE_PREFIX}{name}").urn if _NAME.fullmatch(name) else None


def _check_source(source: str | None) -> None:
    if source is None:
        return
    try:
        parts = urlsplit(source)
        is_absolute = parts.scheme.lower() == "https" and bool(parts.hostname)
    except ValueError:
        is_absolute = False
    if not is_absolute:
        raise bad_field("sourceFilter", "The source filter must be an absolute URL that begins with https://.")


def _check_patterns(request: SubscriptionRequest) -> None:
    """Refuse filters with many wildcards, and those that are longer than what they are compared with."""
    filters = {
        "sourceFilter": (request.source, 2_048),
        "subjectFilter": (request.subject, 512),
        "alternativeSubjectFilter": (request.alternative_subject, 512),
        "typeFilter": (request.type, 256),
    }
    for name, (text, longest) in filters.items():
        if text is not None and len(text) > longest:
            raise bad_field(name, f"The filter has at most {longest:,} characters.")
        if text is not None and text.count("%") > MOST_WILDCARDS:
            raise bad_field(name, f"A filter holds at most {MOST_WILDCARDS} wildcards.")


def _check_numbers(request: SubscriptionRequest) -> None:
    """Only a subject may name a person, and by a whole number."""
    for name, text in {"sourceFilter": request.source, "typeFilter": request.type}.items():
        if text is not None and holds_checked_number(text):
            raise bad_field(name, "The filter must not hold the number of a person.")
    subjects = {"subjectFilter": request.subject, "alternativeSubjectFilter": request.alternative_subject}
    for name, text in subjects.items():
        if text is not None and holds_part_of_number(text):
            raise bad_field(name, "A wildcard stands for a whole person number, not for some of its digits.")


# -- Kinds ------------------------------------------------------------------------------------------------------------


def _is_app(resource: str | None, source: str | None, apps_domain: str | None) -> bool:
    if resource is not None:
        return resource.startswith(APP_PREFIX) or (apps_domain is not None and _is_under(source or "", apps_domain))
    return apps_domain is None or _is_under(source or "", apps_domain)


def _is_under(source: str, apps_domain: str) -> bool:
    """Whether a source filter is under the apps domain. A wildcard may stand for any part of a name."""
    return is_under(source.replace("%", "x"), apps_domain)


def _app_filter(request: SubscriptionRequest, resource: str | None, apps_domain: str | None) -> EventFilter:
    app = None if request.source is None else _app_of_source(request.source, apps_domain)
    if app is not None and resource is not None and app.resource != resource:
        raise bad_field("resourceFilter", "Provided resource filter and source filter are not compatible")
    resource = resource or (app.resource if app else "")
    return replace(_common(request, resource), source=request.source, alternative_subject=request.alternative_subject)


def _app_of_source(source: str, apps_domain: str | None) -> AppId:
    """The app whose URL a source filter is: a host, which may hold wildcards, and `/{org}/{app}`."""
    parts = urlsplit(source)
    if parts.query or parts.fragment:
        raise bad_field("sourceFilter", NO_APP)
    if apps_domain is not None and not _is_under(source, apps_domain):
        raise bad_field("sourceFilter", f"The source must be under https://{apps_domain}.")
    path = parts.path.rstrip("/").removesuffix("/%")
    app = None if _SLASHES.search(path) else AppId.parse(path.lstrip("/"))
    if app is None:
        raise bad_field("sourceFilter", NO_APP)
    return app


def _other_filter(request: SubscriptionRequest, resource: str | None) -> EventFilter:
    if resource is None:
        raise bad_field("resourceFilter", "Resource filter is required.")
    if request.source is not None:
        raise bad_field("sourceFilter", "Source filter is not supported for subscriptions on this resource.")
    if request.alternative_subject is not None:
        detail = "AlternativeSubject filter is not supported for subscriptions on this resource."
        raise bad_field("alternativeSubjectFilter", detail)
    return _common(request, resource)


def _common(request: SubscriptionRequest, resource: str) -> EventFilter:
    return EventFilter(resource, subject=request.subject, type=request.type, include_subunits=request.include_subunits)
