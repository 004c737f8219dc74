"""A healthy consumer beside a hostile one: `python -m bench.neighbours [--only A2] [--rounds 3]`.

Each round starts the service anew for each attack, and compares the healthy consumer's deliveries and `GET /health`
beside the attack with those before it. The service runs in a process of its own, as the local host serves it; `/health`
is asked at nice 0; the healthy consumer, the decision point and the attacker run at nice 10.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

from bench import client
from bench.callers import process
from bench.healthy import consume, decide
from bench.hostile import ATTACKS, attack
from tests.support.documents import ROOT
from tests.support.served import clean_environment

ROUNDS, SECONDS = 3, 4.0
WARM_UP_SECONDS, RAMP_SECONDS = 0.5, 1.0
HEALTH_PER_SECOND = 110
FAILED_SECONDS = 10.0
"""What an answer other than 200 counts as."""
MOST_SLOWER, MOST_MEGABYTES = 1.5, 100
SETTINGS = {"EVENTS_WEBHOOK_RETRY_SECONDS": ",".join(["1"] * 15)}
"""Failed attempts and validations are made again each second, so that an attack lasts through its window."""


@dataclass(frozen=True)
class Window:
    """What the healthy consumer saw meanwhile: the p95 of its deliveries and the p99 of `/health`, in seconds.

    With `is_least` the deliveries took longer, because too many had not arrived when the window ended.
    """

    delivery: float
    health: float
    is_least: bool = False


@dataclass(frozen=True)
class Outcome:
    """An attack's window, the one before it, and by how many megabytes the service grew over its start."""

    alone: Window
    beside: Window
    megabytes: float


class Service:
    """The local host in a process of its own, on an empty store."""

    def __init__(self, data_dir: Path, pdp_url: str) -> None:
        self.data_dir = data_dir
        code = "from bench.silent_names import serve; serve()"
        options = ["serve", "--port", "0", "--no-sample-data", "--data-dir", str(data_dir)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *options],
            cwd=ROOT,
            env={**clean_environment(), **SETTINGS, "EVENTS_PDP_URL": pdp_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().removeprefix("listening on ").strip()
        self._at_start = self._kilobytes("VmRSS")

    @property
    def megabytes(self) -> float:
        """The most memory that was ever resident, less what was resident at the start."""
        return (self._kilobytes("VmHWM") - self._at_start) / 1024

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.communicate()

    def _kilobytes(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{self._process.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])


@contextmanager
def served(pdp_url: str) -> Iterator[Service]:
    """Serve until the block ends."""
    with tempfile.TemporaryDirectory() as directory:
        service = Service(Path(directory), pdp_url)
        try:
            yield service
        finally:
            service.stop()


def health(url: str, seconds: float) -> list[float]:
    """Ask `/health` at a steady rate. Return the seconds from when each request was due until its answer."""
    connection = client.Connection(urlsplit(url).port or 0)
    message, start, took = client.request("GET", "/health"), time.perf_counter(), []
    for number in range(round(HEALTH_PER_SECOND * seconds)):
        due = start + number / HEALTH_PER_SECOND
        if (early := due - time.perf_counter()) > 0:
            time.sleep(early)
            due = time.perf_counter()
        status = connection.get(message).status
        took.append(time.perf_counter() - due if status == 200 else FAILED_SECONDS)
    return took


def window(service: Service, consumer: Pipe, seconds: float = SECONDS) -> Window:
    """Measure for some seconds."""
    consumer.send(seconds)
    answers = health(service.url, seconds)
    waits, lost = consumer.recv()
    return Window(quantiles(waits, n=20)[-1], quantiles(answers, n=100)[-1], lost > len(waits) // 20)


def outcome(name: str, pdp_url: str) -> Outcome:
    """Start the service, measure it alone, and beside an attack."""
    with served(pdp_url) as service, process(consume, service.url, service.data_dir) as consumer:
        healthy_url = consumer.recv()
        window(service, consumer, WARM_UP_SECONDS)
        alone = window(service, consumer)
        with process(attack, name, service.url, service.data_dir, healthy_url) as attacker:
            attacker.recv()
            time.sleep(RAMP_SECONDS)
            return Outcome(alone, window(service, consumer), service.megabytes)


def line(name: str, outcomes: Sequence[Outcome]) -> str:
    """A row of the table: the medians of the rounds, and which aims they miss."""
    delivery = 1_000 * median(each.alone.delivery for each in outcomes)
    slower = median(each.beside.delivery / each.alone.delivery for each in outcomes)
    least = ">" if median(each.beside.is_least for each in outcomes) > 0.5 else " "
    answer = 1_000 * median(each.alone.health for each in outcomes)
    answer_slower = median(each.beside.health / each.alone.health for each in outcomes)
    megabytes = median(each.megabytes for each in outcomes)
    broken = {
        "deliveries": slower > MOST_SLOWER,
        "health": answer_slower > MOST_SLOWER,
        "memory": megabytes > MOST_MEGABYTES,
    }
    missed = ", ".join(aim for aim, is_missed in broken.items() if is_missed)
    return (
        f"{name:9}{ATTACKS[name][0]:37}{delivery:6.1f} ms {least}{slower:7.2f}x {answer:6.1f} ms {answer_slower:8.2f}x"
        f" {megabytes:+6.0f} MB   {f'BROKEN: {missed}' if missed else 'kept'}"
    )


def measure(names: Sequence[str], rounds: int) -> None:
    """Run the attacks in turns, and print the table."""
    print(f"load average at the start {_load()}; {os.cpu_count()} processors, {rounds} rounds of {SECONDS:.0f} s")
    outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
    with process(decide) as pdp:
        pdp_url = pdp.recv()
        for _ in range(rounds):
            for name in names:
                outcomes[name].append(outcome(name, pdp_url))
    print(f"{'':46}{'delivery p95':>19} {'health p99':>19} {'memory':>9}")
    print(f"{'beside':46}{'alone':>9} {'slower':>9} {'alone':>9} {'slower':>9} {'grown':>9}")
    aim = f"{MOST_SLOWER}x"
    print(f"{'at most':46}{'':>9} {aim:>9} {'':>9} {aim:>9} {f'+{MOST_MEGABYTES} MB':>9}")
    for name, of_attack in outcomes.items():
        print(line(name, of_attack))
    print(f"load average at the end {_load()}")


def _load() -> str:
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.neighbours", description="Attacks beside a healthy consumer")
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS), help="attacks to run")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    measure(options.only, options.rounds)


if __name__ == "__main__":
    main()
