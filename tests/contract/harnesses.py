"""Every adapter of the EventStore port, by name, and what a server whose reads lag cannot hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tests.contract.cosmos_harness import CosmosHarness, LaggingHarness
from tests.contract.event_store import Harness, SqliteHarness

LAGGING = "cosmos, lagging"
HARNESSES: dict[str, Callable[[Path], Harness]] = {
    "sqlite": SqliteHarness,
    "cosmos": CosmosHarness,
    "cosmos, prefix batches": partial(CosmosHarness, mode="prefix"),
    LAGGING: LaggingHarness,
}

NOT_ON_LAGGING: Mapping[str, tuple[str, ...]] = {
    "a filter, a moment, a head and a bare id are asked of what stands now": (
        "test_head_is_the_newest_position",
        "test_a_cursor_that_does_not_verify_leaves_it_to_the_id",
        "test_a_cursor_of_another_stream_does_not_verify",
        "test_a_cursor_that_verifies_decides_over_the_id",
        "test_an_id_starts_just_after_its_event",
        "test_the_start_decides_over_the_id",
        "test_an_unknown_id_starts_at_the_oldest",
        "test_an_id_under_several_sources_is_the_first_of_them",
        "test_registration_bounds_are_inclusive",
        "test_the_later_of_cursor_and_moment_is_the_start",
        "test_registration_never_decreases_along_a_stream",
        "test_a_late_clock_hides_nothing_from_a_moment",
        "test_a_moment_to_come_is_waited_for",
        "test_the_end_of_a_bounded_read_is_the_last_row_within",
        "test_a_cursor_beyond_the_bound_is_kept",
        "test_bounds_of_any_size_are_understood",
        "test_a_rare_filter_examines_no_more_rows_than_asked",
        "test_a_scan_that_ends_with_the_stream_is_caught_up",
        "test_the_end_of_a_filtered_read_is_the_end_of_the_stream",
        "test_filters_let_through_what_matches_all_of_them",
        "test_any_number_of_patterns_is_understood",
        "test_a_store_tells_what_a_list_would",
        "test_patterns_match_as_they_are_defined",
    ),
    "following up, erasing and retention read before they write": (
        "test_an_app_event_stands_in_three_streams",
        "test_a_cursor_serves_every_stream_of_its_event",
        "test_rows_are_read_by_their_positions",
        "test_an_erased_event_is_a_tombstone_in_every_stream",
        "test_erasing_is_idempotent_and_exact",
        "test_an_erased_event_is_not_published_again",
        "test_a_tombstone_keeps_only_a_party_as_its_subject",
        "test_reading_goes_on_after_a_tombstone",
        "test_retention_removes_the_oldest",
        "test_retention_of_many_events_is_complete",
        "test_places_rise_even_over_retention",
        "test_a_cursor_that_expired_starts_from_the_oldest_kept",
        "test_registration_never_decreases_even_over_retention",
    ),
    "a database that was made a moment ago is not seen yet": (
        "test_a_cursor_of_a_wiped_store_is_unknown",
        "test_a_cursor_from_after_a_back_up_is_unknown_in_its_restoration",
    ),
}
"""Why a test of the port does not run against a lagging server; each other one does."""


def harnesses_for(test: str) -> list[str]:
    """The adapters that a test runs against."""
    not_applicable = {name for names in NOT_ON_LAGGING.values() for name in names}
    return [name for name in HARNESSES if name != LAGGING or test not in not_applicable]
