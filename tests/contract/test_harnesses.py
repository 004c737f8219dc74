"""What is left out on a lagging server is named, and is all that is left out."""

from __future__ import annotations

from types import ModuleType

from tests.contract import test_event_store, test_event_store_model, test_event_store_reading
from tests.contract.harnesses import HARNESSES, LAGGING, NOT_ON_LAGGING, harnesses_for

SUITES: list[ModuleType] = [test_event_store, test_event_store_reading, test_event_store_model]
TESTS = {name for suite in SUITES for name in vars(suite) if name.startswith("test_")}


def test_what_a_lagging_server_cannot_hold_is_named() -> None:
    """Each name is a test's; everything about appending and pages without filters runs there too."""
    named = {name for names in NOT_ON_LAGGING.values() for name in names}
    assert named <= TESTS
    assert {name for name in TESTS if LAGGING not in harnesses_for(name)} == named
    assert len(TESTS - named) > 20


def test_everything_else_runs_everywhere() -> None:
    """No other adapter is spared a test."""
    others = [name for name in HARNESSES if name != LAGGING]
    assert all(harnesses_for(name)[: len(others)] == others for name in TESTS)
