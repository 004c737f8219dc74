"""Simulate the capacity of the service on Azure: `python -m bench.simulate_capacity`.

docs/capacity.md shows the output. The simulation runs in virtual time and measures nothing. It prints its inputs first,
each with its source. Writers, followers and senders follow the policies of events_core and read its constants.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate
from random import Random

from bench.capacity_inputs import ALONE, SCENARIOS, Inputs, Scenario
from bench.virtual import Container, Loop, Signal, Task
from events_core.adapters.cosmos.streams import append
from events_core.adapters.cosmos.streams.names import SEGMENT_SIZE
from events_core.common.clock import SECOND
from events_core.delivery import attempt, worker
from events_core.feeds import follow_up

PATIENCE, TURN = append._PATIENCE, append._TURN  # noqa: SLF001 - the policy itself
LIMIT = 2.0
"""The p99 of publishing, in seconds, that a load must not exceed."""
WIDTHS = (4, 9, 10, 13, 7, 10, 10, 13, 7, 9, 10)
RATES = (100, 200, 300, 400, 600, 800, 1_000, 1_250)


@dataclass(eq=False)
class Stream:
    """A stream of a resource, or another stream if `org` is None. `times` holds when its events were stored."""

    number: int
    hourly: float
    org: Stream | None = None
    lane: deque[float] | None = None
    is_served: bool = False
    times: list[float] = field(default_factory=list)
    checkpoint: int = 0
    commits: int = 0
    lost: int = 0


NOBODY = Stream(-1, 0)


@dataclass(eq=False)
class Process:
    """An instance. Its tasks share a processor, and one writer for each stream."""

    ready_at: float = 0.0
    free_at: float = 0.0
    refreshed_at: float = 0.0
    requests: int = 0
    writers: dict[Stream, Writer] = field(default_factory=dict)


class Writer:
    """The writer of a stream in one process, as in events_core/adapters/cosmos/streams/append.py."""

    def __init__(self, cosmos: Container, stream: Stream, fed: deque[Stream]) -> None:
        self.loop, self.cosmos, self.stream, self._fed = cosmos.loop, cosmos, stream, fed
        self._queue: deque[Signal] = deque()
        self._head, self._average, self._lost_at, self._runs = 0, 0.0, -math.inf, False

    def append(self, events: int) -> Task:
        """Queue events and wait until they are stored."""
        signals = [Signal() for _ in range(events)]
        self._queue.extend(signals)
        if not self._runs:
            self._runs = True
            self.loop.spawn(self._run())
        yield from signals

    def _run(self) -> Task:
        closed = self.stream.hourly / SEGMENT_SIZE  # segments an hour: with two, duplicates are sought everywhere
        while self._queue:
            group = [self._queue.popleft() for _ in range(min(len(self._queue), append.GROUP_OPERATIONS))]
            if closed >= 1:
                yield from self.cosmos.everywhere(0 if self.cosmos.inputs.asks_all else math.ceil(closed))
            yield from self._commit(len(group))
            self.loop.fire(group)
            if self.loop.now - self._lost_at < append.RACE_SECONDS:
                yield self._average * TURN
        self._runs = False

    def _commit(self, events: int) -> Task:
        losses, began, stream = 0, self.loop.now, self.stream
        ms = self.cosmos.inputs.write_ms + (events - 1) * self.cosmos.inputs.further_ms
        lost_units, write_units = self.cosmos.inputs.lost_units, self.cosmos.inputs.write_units
        while not (yield from self.cosmos.ask(stream.number, lost_units, ms, lambda: self._store(events), write_units)):
            losses, self._lost_at, stream.lost = losses + 1, self.loop.now, stream.lost + 1
            if losses > PATIENCE:
                longest = min(append.LONGEST_WAIT, append.FIRST_WAIT * 2.0 ** (losses - PATIENCE))
                yield self.cosmos.rng.uniform(0, longest)
            self._head = yield from self.cosmos.query(stream.number, act=lambda: len(stream.times))
            began = self.loop.now
        self._average += (self.loop.now - began - self._average) / 8

    def _store(self, events: int) -> int:
        """Store events unless another writer came first. Returns how many events were stored."""
        if len(self.stream.times) != self._head:
            return 0
        self.stream.times += [self.loop.now] * events
        self._head, self.stream.commits = self._head + events, self.stream.commits + 1
        self._fed.extend([self.stream] * events)
        return events


class Service:
    """The service in a scenario. `took` holds measured seconds by kind."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.inputs, inputs = scenario, scenario.inputs, scenario.inputs
        self.loop, self.rng = Loop(), Random(1)
        stored = scenario.full * scenario.hourly * inputs.busy_hours * inputs.retention_days * inputs.stored_kb / 1e6
        sizes = (scenario.units, stored), (scenario.units, 0), *[(scenario.progress, 0)] * 3
        made = [Container(self.loop, self.rng, inputs, *size) for size in sizes]
        self.streams, self.deliveries, self.cursors, self.due, self.subscriptions = self.containers = made
        self.feeds: list[deque[Stream]] = [deque() for _ in range(self.streams.partitions)]
        self.instances = [Process() for _ in range(scenario.ready)]
        self.followers = [Process() for _ in range(int(inputs.followers))]
        self.catch_up_pending: dict[Stream, None] = {}
        self.in_flight = 0
        self.took: dict[str, list[float]] = {name: [] for name in ("hot", "others", "followed", "sent hot", "sent")}
        self.resources = self._made()

    def _made(self) -> list[Stream]:
        inputs, ranks, step = self.inputs, range(2, int(self.inputs.resources) + 1), int(self.inputs.orgs)
        of_rank_1 = (1 - self.inputs.hot_share) / sum(1 / rank for rank in (*ranks, math.inf)) if ranks else 0
        loads = [share * self.scenario.hourly for share in (inputs.hot_share, *(of_rank_1 / rank for rank in ranks))]
        orgs = [Stream(100_000 + n, sum(loads[n::step])) for n in range(step)]
        lanes = [deque[float]() if not n or self.rng.random() < inputs.subscribed else None for n in range(len(loads))]
        return [Stream(n, load, orgs[n % step], lanes[n]) for n, load in enumerate(loads)]

    def run(self, after: float = 30) -> Service:
        """Publish for the length of the scenario, and go on for `after` seconds."""
        self.loop.spawn(self._arrive())
        for partition in range(self.streams.partitions if self.followers else 0):
            self.loop.spawn(self._watch(partition), self.rng.random() * self.inputs.feed_seconds)
        if self.followers:
            self.loop.spawn(self._sweep(Process()))
        self.loop.run(2 * self.inputs.peak_seconds + after)
        return self

    def _arrive(self) -> Task:
        inputs, weights = self.inputs, list(accumulate(resource.hourly for resource in self.resources))
        while (part := self.loop.now / inputs.peak_seconds) < 2:
            load = self.scenario.hourly / 3_600 * (inputs.peak if 0.5 <= part < 1.5 else 1)
            yield self.rng.expovariate(load)
            self.loop.spawn(self._publish(self.rng.choices(self.resources, cum_weights=weights)[0]))

    def _compute(self, process: Process, ms: float) -> Task:
        process.free_at = max(self.loop.now, process.free_at) + ms / 1_000
        yield process.free_at - self.loop.now

    def _drawn(self, ms: float) -> float:
        return self.rng.lognormvariate(math.log(ms / 1_000), self.inputs.spread)

    def _append(self, process: Process, stream: Stream, events: int) -> Task:
        if stream not in process.writers:
            fed = self.feeds[self.streams.partition(stream.number)]
            process.writers[stream] = Writer(self.streams, stream, fed)
        return process.writers[stream].append(events)

    def _publish(self, stream: Stream) -> Task:
        inputs, began, most = self.inputs, self.loop.now, self.inputs.requests_at_once
        self.in_flight += 1
        if len(self.instances) < min(inputs.instances, self.in_flight / most):
            self.instances.append(Process(ready_at=began + inputs.start_seconds))
        while not (free := [p for p in self.instances if p.requests < most and p.ready_at <= self.loop.now]):
            yield 0.02
        process = self.rng.choice(free)
        process.requests += 1
        yield self._drawn(inputs.outside_ms)
        yield from self._compute(process, inputs.request_cpu_ms)
        yield from self._append(process, stream, 1)
        process.requests, self.in_flight = process.requests - 1, self.in_flight - 1
        self.took["others" if stream.number else "hot"].append(self.loop.now - began)

    def _watch(self, partition: int) -> Task:
        """Read the change feed of a physical partition: one call of follow_up after the other."""
        process, feed = self.followers[partition % len(self.followers)], self.feeds[partition]
        while True:
            batch = [feed.popleft() for _ in range(min(len(feed), int(self.inputs.feed_documents)))]
            units = len(batch) * self.inputs.read_units + 1
            yield from self.streams.ask(-5_000 - partition, units, self.inputs.query_ms)
            streams = dict.fromkeys(stream for stream in batch if stream.org)
            rounds = [self._follow(stream, process, follow_up.FEED_ROUND_SECONDS) for stream in streams]
            yield from self.loop.together(rounds, follow_up.STREAMS_AT_ONCE)
            yield 0.0 if batch else self.inputs.feed_seconds

    def _sweep(self, process: Process) -> Task:
        """Follow streams with `catch_up_pending`, again and again."""
        while True:
            yield self.inputs.sweep_seconds
            catch_up_pending, self.catch_up_pending = self.catch_up_pending, {}
            yield from self.cursors.everywhere()
            rounds = [self._follow(stream, process, follow_up.ROUND_SECONDS) for stream in catch_up_pending]
            yield from self.loop.together(rounds, follow_up.STREAMS_AT_ONCE)

    def _follow(self, stream: Stream, process: Process, seconds: float) -> Task:
        """Follow a stream to its end, or for `seconds` and set `catch_up_pending`."""
        ends = self.loop.now + seconds
        while self.loop.now < ends:
            begun = stream.checkpoint
            page = stream.times[begun : begun + follow_up.PAGE]
            yield from self.cursors.ask(stream.number, self.inputs.read_units, self.inputs.query_ms)
            yield from self.streams.query(stream.number, len(page))
            if not page:
                return
            yield from self._compute(process, self.inputs.follow_cpu_ms * len(page))
            yield from self.loop.together([self._project(stream, page, process), self._record(stream, page, process)])
            yield from self.cursors.ask(stream.number, self.inputs.change_units, self.inputs.write_ms)
            if stream.checkpoint == begun:  # otherwise another follower came first, and nothing changes
                stream.checkpoint += len(page)
                self.took["followed"] += [self.loop.now - stored for stored in page]
        self.catch_up_pending[stream] = None

    def _project(self, stream: Stream, page: Sequence[float], process: Process) -> Task:
        """Project a page to the org and to subjects. A query for the head of a subject precedes most writes."""
        assert stream.org is not None
        inputs, events = self.inputs, len(page)
        most = 0 if inputs.asks_all else events
        yield from self.loop.together([self.streams.everywhere(most), self.cursors.everywhere(most)])
        yield from self.streams.seldom(events * (inputs.query_units + inputs.write_units) - inputs.query_units)
        yield math.ceil(events / follow_up.TARGETS_AT_ONCE) * self._drawn(inputs.query_ms + inputs.write_ms)
        for _ in page:
            self.rng.choice(self.feeds).append(NOBODY)
        yield from self._append(process, stream.org, events)

    def _record(self, stream: Stream, page: Sequence[float], process: Process) -> Task:
        if self.loop.now >= process.refreshed_at:  # tasks that come during a refresh share it
            process.refreshed_at = self.loop.now + self.inputs.query_ms / 1_000
            yield from self.subscriptions.query(0)
        if stream.lane is not None:
            ms = self.inputs.write_ms + len(page) * self.inputs.further_ms
            yield from self.deliveries.ask(stream.number, self.inputs.write_units * len(page), ms)
            yield from self.due.ask(stream.number, self.inputs.change_units, self.inputs.write_ms)
            stream.lane.extend(page)
            if not stream.is_served:
                stream.is_served = True
                self.loop.spawn(self._serve(stream, stream.lane), self.inputs.wakeup_ms / 1_000)

    def _serve(self, stream: Stream, lane: deque[float]) -> Task:
        """Turns on a lane: take the lease, send due deliveries, release the lease."""
        while lane:
            ends = self.loop.now + worker.TURN / SECOND
            yield from self.due.change(stream.number)
            while lane and self.loop.now < ends:
                due = [lane.popleft() for _ in range(min(len(lane), worker.FIRSTS))]
                yield from self.deliveries.query(stream.number, len(due))
                yield from self.streams.query(stream.number, len(due))
                yield from self.loop.together([self._send(stream, stored) for stored in due], attempt.AT_ONCE)
            yield from self.deliveries.query(stream.number, 20)
            yield from self.due.change(stream.number)
        stream.is_served = False

    def _send(self, stream: Stream, stored: float) -> Task:
        yield self._drawn(self.inputs.endpoint_ms)
        yield from self.deliveries.ask(stream.number, self.inputs.change_units, self.inputs.write_ms)
        self.took["sent" if stream.number else "sent hot"].append(self.loop.now - stored)


def p99(seconds: Sequence[float], part: float = 0.99) -> float:
    """The percentile `part`."""
    return sorted(seconds)[int(len(seconds) * part)] if seconds else math.nan


def both(seconds: Sequence[float]) -> str:
    """Median and 99th percentile."""
    return " / ".join(f"{value:.{2 if value < 10 else 1}f}" for value in (p99(seconds, 0.5), p99(seconds)))


def share(part: float, whole: float) -> str:
    """A share in percent."""
    return f"{part / max(whole, 1):.1%}"


def cells(made: Service) -> Iterator[tuple[str, str]]:
    """The results of a scenario, by name."""
    scenario, hot, streams, took = made.scenario, made.resources[0], made.streams, made.took
    writable = {*made.resources, *(resource.org for resource in made.resources if resource.org)}
    commits, lost = sum(stream.commits for stream in writable), sum(stream.lost for stream in writable)
    seconds = int(2 * made.inputs.peak_seconds)
    units, by_key = Counter[int](), Counter[int]()
    for container in made.containers:
        for (_, second), spent in container.units.items():
            units[second] += spent
    for (key, _), spent in streams.units.items():
        by_key[key] = max(by_key[key], spent * (key >= 0))
    key, most = by_key.most_common(1)[0]
    yield "", scenario.title
    yield "events an hour", f"{scenario.hourly:,.0f}"
    yield "RU/s of two containers, each", f"{scenario.units:,.0f}"
    yield "RU/s of three others, each", f"{scenario.progress:,.0f}"
    yield "physical partitions of streams", f"{streams.partitions}"
    yield "RU/s, share of a partition", f"{streams.share:,.0f}"
    yield "instances for requests", f"{len(made.instances)}"
    yield "events/s, average", f"{len(took['hot'] + took['others']) / seconds:,.0f}"
    yield "publish, hot stream, s", both(took["hot"])
    yield "publish, other streams, s", both(took["others"])
    yield "attempts lost, hot stream", share(hot.lost, hot.lost + hot.commits)
    yield "attempts lost, all streams", share(lost, lost + commits)
    yield "events a commit, hot stream", f"{len(hot.times) / max(hot.commits, 1):.1f}"
    yield "RU/s, average", f"{sum(units[n] for n in range(seconds)) / seconds:,.0f}"
    yield "RU/s, most in a second", f"{max(units.values()):,.0f}"
    yield "RU/s, busiest logical part.", f"{most:,.0f}"
    yield "  which is of", "an org" if key >= 100_000 else f"stream {key + 1}"
    for name in ("streams", "deliveries", "cursors", "due", "subscriptions"):
        throttled: Container = getattr(made, name)
        yield f"throttled, {name}", share(throttled.throttled, throttled.asked)
    yield "follow-up lag, s", both(took["followed"])
    yield "delivered, hot stream, s", both(took["sent hot"])
    yield "delivered, others, s", both(took["sent"])
    yield "not followed up at the end", f"{sum(len(stream.times) - stream.checkpoint for stream in made.resources):,}"
    yield "not delivered at the end", f"{sum(len(stream.lane or ()) for stream in made.resources):,}"
    yield "first limit", next(limits(made), "none")


def limits(made: Service) -> Iterator[str]:
    """The parts of the service that are overloaded, the store first."""
    for name in ("streams", "cursors", "subscriptions", "due", "deliveries"):
        container: Container = getattr(made, name)
        if container.throttled > 0.05 * container.asked:
            yield name
    for name, what, most in (("hot", "writers", LIMIT), ("followed", "following", 10), ("sent hot", "a lane", 30)):
        if p99(made.took[name]) > most:
            yield what


def greatest(ready: int) -> list[str]:
    """The greatest load of one stream with a p99 of at most 2 s for publishing, and the next load that was tried."""
    inputs = ALONE if ready == 2 else replace(ALONE, instances=ready)
    last = ["none"] * 4
    for rate in RATES:
        made = Service(Scenario("", rate * 3_600, 50_000, 50_000, ready, full=False, inputs=inputs)).run(20)
        hot, took = made.resources[0], made.took["hot"]
        shown = [f"{len(made.instances)}", both(took), share(hot.lost, hot.lost + hot.commits)]
        shown += [f"{len(hot.times) / hot.commits:.1f}", f"{made.streams.throttled / made.streams.asked:.1%}"]
        if p99(took) > LIMIT:
            return [f"{ready}", *last, f"{rate}", *shown]
        last = [f"{rate}", *shown[:3]]
    return [f"{ready}", *last]


def column(scenario: Scenario) -> list[tuple[str, str]]:
    """The results of a scenario, for a worker process."""
    return list(cells(Service(scenario).run()))


def inputs_as_printed() -> Iterator[str]:
    """A line for each input with its value, source and meaning."""
    for item in fields(Inputs):
        value, about = getattr(Inputs(), item.name), item.metadata
        yield f"{item.name:17}{value:>7g}  {about['source']:11}{about['meaning']}"


def main() -> None:
    """Print the inputs, then a table of the scenarios, then the limits of one stream."""
    for line in inputs_as_printed():
        print(line)
    with ProcessPoolExecutor() as pool:
        columns, ones = list(pool.map(column, SCENARIOS)), list(pool.map(greatest, (1, 2, 4, 10, 20, 40)))
    print()
    for row in zip(*columns, strict=True):
        print(f"{row[0][0]:32}" + "".join(f"{value:>12}" for _, value in row))
    print("\none stream: its greatest load with a p99 of 2 s at most, and the next that was tried")
    tried = ("events/s", "instances", "p50 / p99", "lost")
    for one in (["from", *tried, *tried, "a commit", "throttled"], *ones):
        print("".join(f"{text:>{width}}" for text, width in zip(one, WIDTHS, strict=False)))


if __name__ == "__main__":
    main()
