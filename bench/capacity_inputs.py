"""All that the simulation of capacity rests on, each number with where it comes from; and what it simulates."""

from __future__ import annotations

from dataclasses import dataclass, field

CODE, MEASURED, DOCUMENTED, ESTIMATED, ASSUMED = "code", "measured", "documented", "estimated", "assumed"


def given(value: float, source: str, meaning: str) -> float:
    """An input, where it comes from, and what it is."""
    made: float = field(default=value, metadata={"source": source, "meaning": meaning})
    return made


@dataclass(frozen=True)
class Inputs:
    """All that the simulation rests on."""

    peak: float = given(3, ASSUMED, "load of the peak, in average loads")
    peak_seconds: float = given(24, ASSUMED, "its length; average load for half as long before it, and after it")
    busy_hours: float = given(10, ASSUMED, "events of a day, in those of its busiest hour; for what is stored")
    retention_days: float = given(90, CODE, "EVENTS_RETENTION_DAYS")
    stored_kb: float = given(7.8, ESTIMATED, "KB stored of an event: 3 streams, 2 KB each, 30 % more with its index")
    resources: float = given(1_000, ASSUMED, "resources, each a stream; the load of a rank falls as 1/rank (Zipf)")
    hot_share: float = given(0.2, ASSUMED, "share of all events that the first has: the hot stream")
    orgs: float = given(20, ASSUMED, "orgs; every 20th resource is of the same one")
    subscribed: float = given(0.5, ASSUMED, "share of resources that have one subscription, to all; the hot one has")
    requests_at_once: float = given(32, CODE, "requestsPerInstance")
    instances: float = given(40, CODE, "maximumInstances")
    start_seconds: float = given(3, ASSUMED, "until one instance more takes requests (process alone: 0.3 measured)")
    outside_ms: float = given(15, ASSUMED, "of a publishing request outside of the store: network, token, decision")
    request_cpu_ms: float = given(2, ASSUMED, "processor of a publishing request (host and worker: 0.5 measured)")
    write_ms: float = given(9, ASSUMED, "a write, median (documented: 99 % of 1 KB under 10 ms)")
    query_ms: float = given(6, ASSUMED, "a read or query, median (documented: 99 % of 1 KB reads under 10 ms)")
    spread: float = given(0.35, ASSUMED, "sigma of the logarithm of all times: p99 is 2.3 medians")
    further_ms: float = given(0.2, ASSUMED, "each event more in a batch")
    partition_ms: float = given(3, ASSUMED, "each physical partition more that one query asks, one after the other")
    partition_units: float = given(10_000, DOCUMENTED, "RU/s, the most of a physical or logical partition")
    partition_gb: float = given(50, DOCUMENTED, "GB, the most of a physical partition")
    write_units: float = given(9, ESTIMATED, "RU, an event of 2 KB written to a stream, or a delivery recorded")
    lost_units: float = given(7, ESTIMATED, "RU, an attempt that lost (409)")
    query_units: float = given(6, ESTIMATED, "RU, a query under Strong, of each physical partition that it asks")
    row_units: float = given(0.6, ESTIMATED, "RU, each row of its page")
    read_units: float = given(2, ESTIMATED, "RU, one document read under Strong, or told of by the change feed")
    change_units: float = given(12, ESTIMATED, "RU, a checkpoint, lane or delivery changed")
    asks_all: float = given(0, ASSUMED, "1: looking for new subjects asks all physical partitions; 0: those named")
    feed_seconds: float = given(0.5, CODE, "between questions to the change feed of a physical partition")
    feed_documents: float = given(200, CODE, "documents that a call of follow_up has at most")
    sweep_seconds: float = given(10, CODE, "between looks at what is owed, by an instance of its own")
    followers: float = given(4, ASSUMED, "instances of follow_up, which share the physical partitions")
    follow_cpu_ms: float = given(2.7, MEASURED, "processor of following up an event (bench.follow_up: 365 a second)")
    wakeup_ms: float = given(500, ASSUMED, "from a delivery recorded to a worker on its lane")
    endpoint_ms: float = given(100, ASSUMED, "an endpoint's answer, median")


@dataclass(frozen=True)
class Scenario:
    """A load and what it runs on: `units` is maxThroughput, `progress` is progressThroughput.

    `full`: all that is retained is stored already, or nothing. `ready` instances serve from the start.
    """

    title: str
    hourly: float
    units: float
    progress: float
    ready: int = 2
    full: bool = True
    inputs: Inputs = field(default_factory=Inputs)


SCENARIOS = (
    Scenario("100,000", 100_000, 20_000, 4_000),
    Scenario("250,000", 250_000, 40_000, 10_000),
    Scenario("new", 1_000_000, 100_000, 20_000, full=False),
    Scenario("too little", 1_000_000, 100_000, 4_000, full=False),
    Scenario("40 writers", 1_000_000, 100_000, 20_000, 40, full=False),
    Scenario("30 days", 1_000_000, 250_000, 50_000, inputs=Inputs(retention_days=30)),
    Scenario("90 days", 1_000_000, 500_000, 100_000),
)
ALONE = Inputs(peak=1, peak_seconds=5, resources=1, hot_share=1, followers=0)
