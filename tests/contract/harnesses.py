"""The adapters of the EventStore port by name, and the tests that a server with stale reads cannot pass."""

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
    "filters, times, heads and bare ids need current reads": (
        "test_head_is_the_newest_position",
        "test_an_invalid_cursor_makes_the_id_unknown_too",
        "test_a_cursor_of_another_stream_is_invalid",
        "test_a_valid_cursor_decides_over_the_id",
        "test_an_id_starts_just_after_its_event",
        "test_the_start_decides_over_the_id",
        "test_an_unknown_id_starts_at_the_oldest",
        "test_an_id_under_several_sources_is_the_first_of_them",
        "test_registration_bounds_are_inclusive",
        "test_the_later_of_cursor_and_time_is_the_start",
        "test_registration_never_decreases_along_a_stream",
        "test_a_late_clock_hides_no_event_from_a_time",
        "test_a_read_from_a_future_time_is_empty",
        "test_the_end_of_a_bounded_read_is_the_last_row_within",
        "test_a_cursor_beyond_the_bound_is_kept",
        "test_bounds_of_any_size_are_understood",
        "test_a_rare_filter_examines_no_more_rows_than_asked",
        "test_a_scan_that_ends_with_the_stream_is_caught_up",
        "test_the_end_of_a_filtered_read_is_the_end_of_the_stream",
        "test_rows_match_all_filters",
        "test_any_number_of_patterns_is_understood",
        "test_a_store_reads_like_a_list",
        "test_patterns_match_as_they_are_defined",
    ),
    "following up, erasing and retention read before they write": (
        "test_an_app_event_is_in_three_streams",
        "test_an_app_event_has_a_cursor_in_each_stream",
        "test_rows_are_read_by_their_positions",
        "test_an_erased_event_is_a_tombstone_in_every_stream",
        "test_erasing_is_idempotent_and_exact",
        "test_an_erased_event_is_not_published_again",
        "test_a_tombstone_keeps_only_a_party_as_its_subject",
        "test_reading_goes_on_after_a_tombstone",
        "test_retention_removes_the_oldest",
        "test_retention_of_many_events_is_complete",
        "test_positions_rise_even_over_retention",
        "test_an_expired_cursor_starts_from_the_oldest_kept_row",
    ),
    "a new database is not visible yet": (
        "test_a_cursor_of_a_wiped_store_is_unknown",
        "test_a_cursor_from_after_a_backup_is_unknown_after_the_restore",
    ),
}
"""The tests that a lagging server cannot pass, by reason."""


def harnesses_for(test: str) -> list[str]:
    """The adapters that a test runs against."""
    not_applicable = {name for names in NOT_ON_LAGGING.values() for name in names}
    return [name for name in HARNESSES if name != LAGGING or test not in not_applicable]
