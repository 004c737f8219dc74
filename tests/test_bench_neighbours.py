"""What `bench.neighbours` prints, and its name service."""

from __future__ import annotations

import socket

import pytest

from bench.hostile import ATTACKS
from bench.neighbours import Outcome, Window, line
from bench.silent_names import addresses

ALONE = Window(delivery=0.02, health=0.004)


def test_a_row_with_every_aim_kept_says_so() -> None:
    """The aims are ratios of at most 1.5, and 100 MB."""
    outcomes = [Outcome(ALONE, Window(delivery=0.03, health=0.006), megabytes=100)]
    assert line("A1", outcomes).split()[-8:] == ["ms", "1.50x", "4.0", "ms", "1.50x", "+100", "MB", "kept"]


@pytest.mark.parametrize(
    ("beside", "megabytes", "aim"),
    [
        (Window(delivery=0.031, health=0.004), 0, "deliveries"),
        (Window(delivery=0.02, health=0.0061), 0, "health"),
        (ALONE, 101, "memory"),
    ],
)
def test_a_row_names_the_aim_that_is_missed(beside: Window, megabytes: float, aim: str) -> None:
    """One aim each."""
    assert line("A2", [Outcome(ALONE, beside, megabytes)]).endswith(f"BROKEN: {aim}")


def test_a_row_shows_the_median_of_the_rounds() -> None:
    """One noisy round breaks nothing."""
    noisy = Outcome(ALONE, Window(delivery=2, health=0.4, is_least=True), megabytes=500)
    assert line("A3", [Outcome(ALONE, ALONE, 3), noisy, Outcome(ALONE, ALONE, 5)]).endswith("1.00x     +5 MB   kept")


def test_a_row_says_when_deliveries_took_longer_than_the_window() -> None:
    """The ratio is a lower bound then."""
    late = Outcome(ALONE, Window(delivery=2, health=0.004, is_least=True), megabytes=3)
    assert "> 100.00x" in line("A2", [late])


def test_the_names_of_attacks_fit_into_the_table() -> None:
    """Name and title have columns of fixed width."""
    assert [name for name, (title, _) in ATTACKS.items() if len(name) > 8 or len(title) > 36] == []


def test_no_name_is_looked_up_outside_the_machine() -> None:
    """Names below `localhost` are loopback, and any other name is unknown."""
    assert {found[4][0] for found in addresses("healthy.localhost", 80)} == {"127.0.0.1"}
    assert addresses("127.0.0.1", 80)
    with pytest.raises(socket.gaierror):
        addresses("www.example.org", 80)
