"""Names of streams, partitions and documents; unique keys; connection strings."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.adapters.cosmos import CosmosConnection
from events_core.adapters.cosmos.streams.documents import CursorProof, ukey_of
from events_core.adapters.cosmos.streams.names import Names, document_id, first_of, partition, position_id, segment_of
from events_core.feeds.stream import Stream

NAMES = Names(b"a key")


@given(st.text(max_size=40), st.text(max_size=40))
def test_ids_are_safe_and_distinct(one: str, other: str) -> None:
    """Different names have different ids, made of characters that Cosmos DB accepts."""
    assert re.fullmatch(r"[A-Za-z0-9:._~-]*", document_id(one))
    assert (document_id(one) == document_id(other)) == (one == other or not _valid(one, other))


def _valid(*texts: str) -> bool:
    return all(text.isprintable() or text.encode(errors="replace").decode() == text for text in texts)


@pytest.mark.parametrize("subject", ["/party/1", "/party/50002108"])
def test_parties_are_named_plainly(subject: str) -> None:
    """The number of a party is no secret."""
    assert NAMES.of(Stream.of_subject(subject)) == f"subject:{subject}"


@pytest.mark.parametrize(
    "subject", ["urn:altinn:person:identifier-no:01899699552", "/party/01899699552x", "/party/", "x", "\ud800"]
)
def test_other_subjects_are_named_by_a_keyed_hash(subject: str) -> None:
    """They may be persons: the name is the same under the same key, and another under another key."""
    name = NAMES.of(Stream.of_subject(subject))
    assert re.fullmatch("subject:hmac:[0-9a-f]{64}", name)
    assert NAMES.of(Stream.of_subject(subject)) == name != Names(b"another").of(Stream.of_subject(subject))


def test_long_names_are_shortened() -> None:
    """However long a resource is, its names fit into an id and a partition key, and stay distinct."""
    streams = [Stream.of_resource("urn:" + "ø" * 2_000 + end) for end in "ab"]
    names = [NAMES.of(stream) for stream in streams]
    assert len(set(names)) == 2
    assert all(len(document_id(name)) < 1_023 and len(partition(name, 1).encode()) < 2_048 for name in names)


@given(st.integers(1, 10**12), st.integers(1, 10**5))
def test_segments_follow_from_positions(position: int, size: int) -> None:
    """A position is between its segment's first position and the next segment's."""
    segment = segment_of(position, size)
    assert first_of(segment, size) <= position < first_of(segment + 1, size)


@given(st.integers(0, 2**53 - 1), st.integers(0, 2**53 - 1))
def test_ids_sort_as_positions(one: int, other: int) -> None:
    """The order of ids is the order of positions."""
    assert (position_id(one) < position_id(other)) == (one < other)


def test_a_unique_key_covers_the_whole_identity() -> None:
    """Resource, source and id all count, and no part can be mistaken for another."""
    keys = {ukey_of(*parts) for parts in (("a", "b", "c"), ("a", "bc", ""), ("ab", "", "c"), ("a", "c", "b"))}
    assert len(keys) == 4


def test_proofs_differ_between_store_generations() -> None:
    """A cursor of another database fails its proof, though the event is the same."""
    one, other = CursorProof(), CursorProof()
    other.generation = 2**64 - 1
    assert one.of("0f" * 32) == bytes([0x0F] * 8)
    assert other.of("0f" * 32) == bytes([0xF0] * 8)


@pytest.mark.parametrize(
    ("text", "endpoint", "discovers"),
    [
        ("AccountEndpoint=http://localhost:8081/;AccountKey=YQ==;", "http://localhost:8081/", False),
        (
            "AccountKey=YQ==;AccountEndpoint=https://x.documents.azure.com:443/",
            "https://x.documents.azure.com:443/",
            True,
        ),
    ],
)
def test_connection_strings_are_parsed(text: str, endpoint: str, discovers: bool) -> None:  # noqa: FBT001
    """Plain HTTP means an emulator. The representation does not show the key."""
    connection = CosmosConnection.of_string(text)
    assert (connection.endpoint, connection.credential) == (endpoint, "YQ==")
    assert connection.options.get("enable_endpoint_discovery", True) is discovers
    assert "YQ==" not in repr(connection)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "has no AccountEndpoint"),
        ("secret", "has no AccountEndpoint"),
        ("AccountKey=secret", "has no AccountEndpoint"),
        ("AccountEndpoint=;AccountKey=secret==;", "has no AccountEndpoint"),
        ("AccountEndpoint=x.example;AccountKey=secret==;", "has a bad AccountEndpoint"),
        ("AccountEndpoint=https:///;AccountKey=secret==;", "has a bad AccountEndpoint"),
        ("AccountEndpoint=https://secret@x.example/;AccountKey=secret==;", "has a bad AccountEndpoint"),
        ("AccountEndpoint=https://x.example/", "has no AccountKey"),
        ("AccountEndpoint=https://x.example/;AccountKey=;", "has no AccountKey"),
        ("AccountEndpoint=https://x.example/;AccountKey=no secret", "has a bad AccountKey"),
        ("AccountEndpoint=https://x.example/;AccountKey=secret", "has a bad AccountKey"),
    ],
)
def test_a_bad_connection_string_is_not_quoted(text: str, fault: str) -> None:
    """The error names the part that is missing or bad and does not quote the text, which holds a key."""
    with pytest.raises(ValueError, match=f"^{fault}$") as caught:
        CosmosConnection.of_string(text)
    assert "secret" not in str(caught.value)
