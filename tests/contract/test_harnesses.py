"""The list of tests that a lagging server cannot pass is exact."""

from __future__ import annotations

from types import ModuleType

from tests.contract import test_event_store, test_event_store_model, test_event_store_reading
from tests.contract.harnesses import HARNESSES, LAGGING, NOT_ON_LAGGING, harnesses_for

SUITES: list[ModuleType] = [test_event_store, test_event_store_reading, test_event_store_model]
TESTS = {name for suite in SUITES for name in vars(suite) if name.startswith("test_")}


def test_tests_without_a_lagging_server_are_listed() -> None:
    """Appending and unfiltered pages run there too."""
    named = {name for names in NOT_ON_LAGGING.values() for name in names}
    assert named <= TESTS
    assert {name for name in TESTS if LAGGING not in harnesses_for(name)} == named
    assert len(TESTS - named) > 20


def test_every_other_adapter_runs_every_test() -> None:
    """Only the lagging server has exceptions."""
    others = [name for name in HARNESSES if name != LAGGING]
    assert all(harnesses_for(name)[: len(others)] == others for name in TESTS)
