"""Paths of URLs (RFC 3986)."""

from __future__ import annotations


def without_dot_segments(path: str) -> str:
    """The path with its `.` and `..` resolved (section 5.2.4). It begins with a slash."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
