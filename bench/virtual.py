"""Virtual time for the simulation of capacity: tasks, signals, and the containers of a Cosmos DB account."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

from bench.capacity_inputs import Inputs


class Signal(list["Task"]):
    """An event that happens once, with the tasks that wait for it."""

    happened = False


Task = Generator[float | Signal, None, Any]
"""A generator. It yields the seconds to wait, or the signal to wait for."""


class Loop:
    """Runs tasks in virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Task]] = []
        self._numbers = count()

    def spawn(self, task: Task, after: float = 0.0) -> None:
        """Start or resume a task."""
        heappush(self._heap, (self.now + after, next(self._numbers), task))

    def fire(self, signals: Iterable[Signal]) -> None:
        """Resume the tasks that wait for the signals."""
        for signal in signals:
            signal.happened = True
            for task in signal:
                self.spawn(task)

    def run(self, until: float) -> None:
        """Run every step before the time `until`."""
        while self._heap and self._heap[0][0] < until:
            self.now, _, task = heappop(self._heap)
            wanted = next(task, None)
            if isinstance(wanted, Signal) and not wanted.happened:
                wanted.append(task)
            elif wanted is not None:
                self.spawn(task, 0.0 if isinstance(wanted, Signal) else wanted)

    def together(self, tasks: Iterable[Task], at_once: int = 1_000) -> Task:
        """Run all tasks, `at_once` at a time, and wait for them."""
        queue = deque(tasks)
        signals = [Signal() for _ in range(min(len(queue), at_once))]
        for signal in signals:
            self.spawn(self._work(queue, signal))
        yield from signals

    def _work(self, queue: deque[Task], signal: Signal) -> Task:
        while queue:
            yield from queue.popleft()
        self.fire([signal])


class Container:
    """A container with physical partitions. Each has an equal share of the throughput and saves up one second of it."""

    def __init__(self, loop: Loop, rng: Random, inputs: Inputs, units: float, gigabytes: float = 0) -> None:
        self.loop, self.rng, self.inputs = loop, rng, inputs
        self.partitions = max(math.ceil(units / inputs.partition_units), math.ceil(gigabytes / inputs.partition_gb))
        self.share = units / self.partitions
        self._left = [(self.share, 0.0, 0.0)] * self.partitions
        self._of_each, self.asked, self.throttled = 0.0, 0, 0
        self._partition_of: dict[int, int] = {}
        self.units: Counter[tuple[int, int]] = Counter()

    def partition(self, key: int) -> int:
        """The physical partition of a logical partition."""
        return self._partition_of.setdefault(key, self.rng.randrange(self.partitions))

    def _take(self, partition: int, units: float) -> float:
        """Take units of a partition. Returns the seconds until they are available. Requests wait in order."""
        (left, then, of_each), now = self._left[partition], self.loop.now
        left = min(self.share, left + self.share * (now - then)) - (self._of_each - of_each)
        self._left[partition] = (left - units, now, self._of_each)
        return max(0.0, -left / self.share)

    def ask(self, key: int, units: float, ms: float, act: Callable[[], int] = int, each: float = 0) -> Task:
        """A request, which waits while it is throttled. `act` returns how many items it processed, at `each` units."""
        half, partition = self.rng.lognormvariate(math.log(ms), self.inputs.spread) / 2_000, self.partition(key)
        yield half
        wait = self._take(partition, units)
        self.asked, self.throttled = self.asked + 1, self.throttled + (wait > 0)
        yield wait
        done = act()
        further = max(0.0, each * done - units)
        self._take(partition, further)
        self.units[key, int(self.loop.now)] += round(units + further)
        yield half
        return done

    def query(self, key: int, rows: float = 0, act: Callable[[], int] = int) -> Task:
        """A query of one logical partition."""
        return self.ask(key, self.inputs.query_units + rows * self.inputs.row_units, self.inputs.query_ms, act)

    def change(self, key: int) -> Task:
        """A read and an update of a document."""
        ms = self.inputs.query_ms + self.inputs.write_ms
        return self.ask(key, self.inputs.read_units + self.inputs.change_units, ms)

    def seldom(self, units: float = 0) -> Task:
        """A query of a rarely used logical partition, and `units` taken evenly from all physical partitions."""
        self._of_each += units / self.partitions
        self.units[-1, int(self.loop.now)] += round(units)
        return self.query(-self.rng.randrange(1, 5_000))

    def everywhere(self, most: int = 0) -> Task:
        """A query of all physical partitions, or of `most`."""
        further = min(self.partitions, most or self.partitions) - 1
        yield from self.seldom(self.inputs.query_units * further)
        yield self.inputs.partition_ms / 1_000 * further
