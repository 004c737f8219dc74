"""Syntax that RFCs define, as regular expressions: URIs, URNs, media types and base64.

No expression backtracks: every run of characters is matched possessively, so a check takes linear time.
"""

from __future__ import annotations

import ipaddress
import re

_PCT = "%[0-9A-Fa-f]{2}"
_UNRESERVED_SUB_DELIMS = r"A-Za-z0-9\-._~!$&'()*+,;="
_SEGMENT_CHARS = rf"(?:[{_UNRESERVED_SUB_DELIMS}:@]++|{_PCT})"
_SEGMENT_CHARS_NO_COLON = rf"(?:[{_UNRESERVED_SUB_DELIMS}@]++|{_PCT})"
_PATH_CHARS = rf"(?:[{_UNRESERVED_SUB_DELIMS}:@/]++|{_PCT})"
_QUERY_CHARS = rf"(?:[{_UNRESERVED_SUB_DELIMS}:@/?]++|{_PCT})"
_AUTHORITY = (
    rf"(?:(?:[{_UNRESERVED_SUB_DELIMS}:]++|{_PCT})*+@)?"
    rf"(?:\[(?P<literal>[{_UNRESERVED_SUB_DELIMS}:]++)\]|(?:[{_UNRESERVED_SUB_DELIMS}]++|{_PCT})*+)"
    r"(?::[0-9]*+)?"
)
_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]*+:"
_HIERARCHY = rf"(?://{_AUTHORITY}(?:/{_PATH_CHARS}*+)?|(?!//){_PATH_CHARS}*+)"
_QUERY = rf"(?:\?{_QUERY_CHARS}*+)?"
_FRAGMENT = rf"(?:\#{_QUERY_CHARS}*+)?"

_URI = re.compile(rf"{_SCHEME}{_HIERARCHY}{_QUERY}{_FRAGMENT}")
_ABSOLUTE_URI = re.compile(rf"{_SCHEME}{_HIERARCHY}{_QUERY}")
_RELATIVE_REFERENCE = re.compile(
    rf"(?://{_AUTHORITY}(?:/{_PATH_CHARS}*+)?|(?!//)(?:{_SEGMENT_CHARS_NO_COLON}*+(?:/{_PATH_CHARS}*+)?))"
    rf"{_QUERY}{_FRAGMENT}"
)
_IP_FUTURE = re.compile(rf"[vV][0-9A-Fa-f]++\.[{_UNRESERVED_SUB_DELIMS}:]++")
_URN = re.compile(
    rf"[uU][rR][nN]:[A-Za-z0-9][A-Za-z0-9\-]{{1,31}}(?<!-):{_SEGMENT_CHARS}{_PATH_CHARS}*+"
    rf"(?:\?\+{_SEGMENT_CHARS}(?:{_PATH_CHARS}|\?(?!=))*+)?(?:\?={_SEGMENT_CHARS}{_QUERY_CHARS}*+)?{_FRAGMENT}"
)

_NO_LAST_PART = re.compile("[^?#]*+(?<=:)(?:[?#]|$)")

_UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})
_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f-\U0010ffff]|\\[\t -~])*+"'
_PARAMETER = rf"[ \t]*+;[ \t]*+({_NAME})=({_NAME}|{_QUOTED})"
_MEDIA_TYPE = re.compile(rf"{_NAME}/{_NAME}(?:{_PARAMETER})*+")
_PARAMETERS = re.compile(_PARAMETER)

_BASE64 = re.compile("(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def is_uri_reference(text: str) -> bool:
    """Whether `text` is a URI-reference: a URI or a relative reference (RFC 3986, section 4.1)."""
    found = _URI.fullmatch(text) or _RELATIVE_REFERENCE.fullmatch(text)
    return found is not None and _is_host(found)


def is_absolute_uri(text: str) -> bool:
    """Whether `text` is an absolute URI, which has a scheme and no fragment (RFC 3986, section 4.3)."""
    found = _ABSOLUTE_URI.fullmatch(text)
    return found is not None and _is_host(found)


def _is_host(found: re.Match[str]) -> bool:
    literal = found["literal"]
    if literal is None or _IP_FUTURE.fullmatch(literal):
        return True
    try:
        ipaddress.IPv6Address(literal)
    except ValueError:
        return False
    return True


def is_urn(text: str) -> bool:
    """Whether `text` is a URN (RFC 8141, section 2)."""
    return _URN.fullmatch(text) is not None


def is_media_type(text: str) -> bool:
    """Whether `text` is a media type (RFC 2046) in the grammar of RFC 2045, section 5.1."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def media_type_essence(text: str) -> str:
    """The `type/subtype` of a media type in lower case, without parameters."""
    return text.partition(";")[0].strip(" \t").lower()


def is_utf8(media_type: str) -> bool:
    """Whether text of this media type may be read as UTF-8: it names no other `charset` than UTF-8 or US-ASCII."""
    charsets = (value for name, value in _PARAMETERS.findall(media_type) if name.lower() == "charset")
    return next(charsets, "utf-8").strip('"').lower() in _UTF8


def is_resource(text: str) -> bool:
    """Whether `text` is a URN whose last part, after its last colon, is not empty."""
    return is_urn(text) and not _NO_LAST_PART.match(text)


def is_base64(text: str) -> bool:
    """Whether `text` is padded base64 (RFC 4648, section 4)."""
    return _BASE64.fullmatch(text) is not None
