"""The inputs and scenarios of the capacity simulation. Every input names its source."""

from __future__ import annotations

from dataclasses import dataclass, field

CODE, MEASURED, DOCUMENTED, ESTIMATED, ASSUMED = "code", "measured", "documented", "estimated", "assumed"


def given(value: float, source: str, meaning: str) -> float:
    """An input with its source and its meaning."""
    made: float = field(default=value, metadata={"source": source, "meaning": meaning})
    return made


@dataclass(frozen=True)
class Inputs:
    """The numbers that the simulation uses."""

    peak: float = given(3, ASSUMED, "load at the peak, as a multiple of the average load")
    peak_seconds: float = given(
        24, ASSUMED, "length of the peak, with average load for half as long before and after it"
    )
    busy_hours: float = given(10, ASSUMED, "events of a day, as a multiple of those in the busiest hour; for storage")
    retention_days: float = given(90, CODE, "EVENTS_RETENTION_DAYS")
    stored_kb: float = given(7.8, ESTIMATED, "KB stored for an event: 3 streams, 2 KB each, and 30 % for the index")
    resources: float = given(
        1_000, ASSUMED, "resources, each with a stream; the load falls with the rank as 1/rank (Zipf)"
    )
    hot_share: float = given(0.2, ASSUMED, "share of all events in the busiest stream, the hot stream")
    orgs: float = given(20, ASSUMED, "orgs; every 20th resource belongs to the same org")
    subscribed: float = given(
        0.5, ASSUMED, "share of resources with one subscription to all events; the hot one has it"
    )
    requests_at_once: float = given(32, CODE, "requestsPerInstance")
    instances: float = given(40, CODE, "maximumInstances")
    start_seconds: float = given(3, ASSUMED, "until a new instance takes requests (the process alone: 0.3 measured)")
    outside_ms: float = given(15, ASSUMED, "outside the store for a publishing request: network, token, decision")
    request_cpu_ms: float = given(2, ASSUMED, "processor time of a publishing request (host and worker: 0.5 measured)")
    write_ms: float = given(9, ASSUMED, "a write, median (documented: 99 % of 1 KB writes under 10 ms)")
    query_ms: float = given(6, ASSUMED, "a read or query, median (documented: 99 % of 1 KB reads under 10 ms)")
    spread: float = given(0.35, ASSUMED, "sigma of the logarithm of all times: p99 is 2.3 medians")
    further_ms: float = given(0.2, ASSUMED, "each further event in a batch")
    partition_ms: float = given(3, ASSUMED, "each further physical partition of a query, one after the other")
    partition_units: float = given(10_000, DOCUMENTED, "RU/s, maximum of a physical or logical partition")
    partition_gb: float = given(50, DOCUMENTED, "GB, maximum of a physical partition")
    write_units: float = given(9, ESTIMATED, "RU, an event of 2 KB written to a stream, or a delivery recorded")
    lost_units: float = given(7, ESTIMATED, "RU, a write that lost a race (409)")
    query_units: float = given(6, ESTIMATED, "RU, a query under Strong, for each physical partition")
    row_units: float = given(0.6, ESTIMATED, "RU, each row of a page")
    read_units: float = given(2, ESTIMATED, "RU, a document read under Strong, or read from the change feed")
    change_units: float = given(12, ESTIMATED, "RU, a checkpoint, lane or delivery changed")
    asks_all: float = given(0, ASSUMED, "1: queries for new subjects ask all physical partitions; 0: the named ones")
    feed_seconds: float = given(0.5, CODE, "between polls of the change feed of a physical partition")
    feed_documents: float = given(200, CODE, "maximum of documents in a call of follow_up")
    sweep_seconds: float = given(10, CODE, "between sweeps for catch-up pending, by a separate instance")
    followers: float = given(4, ASSUMED, "instances of follow_up, which share the physical partitions")
    follow_cpu_ms: float = given(2.7, MEASURED, "processor time to follow up an event (bench.follow_up: 365 a second)")
    wakeup_ms: float = given(500, ASSUMED, "from a recorded delivery to a worker on its lane")
    endpoint_ms: float = given(100, ASSUMED, "response time of an endpoint, median")


@dataclass(frozen=True)
class Scenario:
    """A load and its resources: `units` is maxThroughput, `progress` is progressThroughput.

    If `full`, the store already holds all events of the retention, else none. `ready` instances serve from the start.
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
