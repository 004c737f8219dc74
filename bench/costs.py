"""Estimate the monthly cost of the service: `python -m bench.costs`. docs/costs.md shows the table.

This is a model, not a bill. Every number is an input below, with its source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

HOURS = 730.0
SECONDS = HOURS * 3_600


@dataclass(frozen=True)
class Use:
    """The use of the service. These numbers are assumptions; replace them by your own."""

    events: float
    """published events a month"""
    event_kilobytes: float = 2.0
    """size of an event"""
    projections: float = 2.0
    """further streams of an event: the subject and the org of an app event"""
    deliveries_per_event: float = 0.5
    """average of subscriptions that match an event"""
    reads_per_event: float = 3.0
    """readers of an event: owner, end user, the end user's system"""
    events_per_page: float = 10.0
    """events of a page that is not empty"""
    pollers: float = 500.0
    """readers that poll continuously"""
    poll_seconds: float = 60.0
    """seconds between polls of a reader; most pages are empty"""
    retention_days: float = 90.0
    """EVENTS_RETENTION_DAYS"""
    peak: float = 2.0
    """the maximum use within an hour, as a multiple of the hour's average; autoscale is billed by the maximum"""


@dataclass(frozen=True)
class Consumption:
    """The consumption of operations. docs/storage.md estimates request units; the rest is measured or documented."""

    event_units: float = 28.0
    """an event in its resource's stream, followed up as the only event of its page, without projections (RU)"""
    projection_units: float = 9.0
    """an event in one more stream (RU)"""
    delivery_units: float = 30.0
    """a delivery: record it, make its lane due, record its attempt (RU)"""
    wakeup_units: float = 30.0
    """the other five requests of a wake-up (RU)"""
    page_units: float = 14.0
    """a page of ten events (RU)"""
    poll_units: float = 5.0
    """an empty page (RU)"""
    stored_overhead: float = 1.3
    """stored bytes, with index and document, for each byte of an event"""
    delivery_kilobytes: float = 1.2
    """a document of a delivery with its index, kept for 30 days"""
    request_milliseconds: float = 25.0
    """how long a request alone keeps an instance busy"""
    background_milliseconds: float = 150.0
    """how long following up an event, or a delivery, alone keeps an instance busy"""
    timer_seconds: float = 1.0
    """the minimum that is billed for a call of a timer"""
    timer_calls: float = 525_600.0 + 262_800.0 + 43_800.0
    """calls of timers a month: every 5 seconds, every 10 seconds, and every minute"""
    telemetry_items_per_second: float = 5.0
    """maximum of items that an instance sends (host.json)"""
    telemetry_kilobytes: float = 0.8
    """a request in Application Insights"""


@dataclass(frozen=True)
class Prices:
    """List prices in US dollars of a European region in November 2026. Check them for your region."""

    autoscale_100_units_hour: float = 0.012
    """100 RU/s for an hour, autoscale"""
    zone_factor: float = 1.0
    """for zone redundancy: autoscale has no surcharge"""
    cosmos_gigabyte: float = 0.25
    """storage, a month"""
    backup_gigabyte: float = 0.20
    """continuous backup of 30 days, a month"""
    function_gigabyte_second: float = 0.000026
    """on demand instances"""
    ready_gigabyte_second: float = 0.000004
    """always ready instances, also while idle"""
    ready_execution_gigabyte_second: float = 0.000016
    """always ready instances, while they work"""
    function_calls_million: float = 0.40
    """calls"""
    log_gigabyte: float = 2.76
    """ingestion"""
    private_endpoint_hour: float = 0.01
    """one private endpoint"""
    fixed: float = 12.0
    """storage account, vault, DNS zones and alerts together"""


@dataclass(frozen=True)
class Shape:
    """The deployment: parameters of infra/main.prod.bicepparam, and consequences of them."""

    always_ready: float = 2.0
    """always ready instances for requests, the same for following up and for deliveries; zone redundancy keeps two"""
    instance_gigabytes: float = 2.0
    """memory of an instance"""
    private_endpoints: float = 5.0
    """Cosmos DB, blobs, queues, tables, vault"""
    small_containers: float = 4.0
    """cursors, due, subscriptions, leases; at least a tenth of their maximum throughput is billed"""
    small_units: float = 4_000.0
    """the maximum throughput of the first three, progressThroughput"""
    gigabytes_per_1000_units: float = 100.0
    """autoscale: the maximum throughput is at least 10 RU/s for each GB"""


CONSUMPTION, PRICES, SHAPE = Consumption(), Prices(), Shape()


def units(use: Use) -> float:
    """Request units a month."""
    per_second = use.events * use.deliveries_per_event / SECONDS
    waiting = use.events * use.deliveries_per_event / max(1.0, per_second)  # about one a second for each lane at most
    polls = use.pollers * SECONDS / use.poll_seconds
    return (
        use.events * (CONSUMPTION.event_units + use.projections * CONSUMPTION.projection_units)
        + use.events * use.deliveries_per_event * CONSUMPTION.delivery_units
        + waiting * CONSUMPTION.wakeup_units
        + use.events * use.reads_per_event / use.events_per_page * CONSUMPTION.page_units
        + polls * CONSUMPTION.poll_units
    )


def stored_gigabytes(use: Use) -> float:
    """Stored data once retention removes as much as is published."""
    kept = use.events * use.retention_days / 30.4
    events = kept * (1 + use.projections) * use.event_kilobytes * CONSUMPTION.stored_overhead
    return (events + use.events * use.deliveries_per_event * CONSUMPTION.delivery_kilobytes) / 1e6


def throughput(use: Use) -> tuple[float, float]:
    """Request units a second that are billed on average, and the maximum throughput that the containers need."""
    average = units(use) / SECONDS
    maximum = max(1_000.0, average * use.peak * 3, stored_gigabytes(use) * 1_000 / SHAPE.gigabytes_per_1000_units)
    return max(average * use.peak, maximum / 10), maximum


def rows(use: Use) -> Iterator[tuple[str, float]]:
    """The items of the bill, in US dollars a month."""
    billed, _ = throughput(use)
    small = (SHAPE.small_containers - 1) * SHAPE.small_units / 10 + 100
    yield "Cosmos DB, throughput", (billed + small) / 100 * PRICES.autoscale_100_units_hour * HOURS * PRICES.zone_factor
    gigabytes = stored_gigabytes(use)
    yield "Cosmos DB, storage", gigabytes * PRICES.cosmos_gigabyte
    yield "Cosmos DB, backup of 30 days", gigabytes * PRICES.backup_gigabyte
    yield "Functions", sum(functions(use))
    yield "Application Insights", telemetry_gigabytes(use) * PRICES.log_gigabyte
    yield "private endpoints", SHAPE.private_endpoints * PRICES.private_endpoint_hour * HOURS
    yield "the rest", PRICES.fixed


def requests(use: Use) -> float:
    """Requests a month: events published one by one, pages, polls."""
    polls = use.pollers * SECONDS / use.poll_seconds
    return use.events + use.events * use.reads_per_event / use.events_per_page + polls


def functions(use: Use) -> Iterator[float]:
    """The cost of instances: always ready, their work, work on demand, timers, and calls."""
    size = SHAPE.instance_gigabytes
    kinds = (
        requests(use) * CONSUMPTION.request_milliseconds,
        use.events * CONSUMPTION.background_milliseconds,
        use.events * use.deliveries_per_event * CONSUMPTION.background_milliseconds,
    )
    for milliseconds in kinds:
        busy = milliseconds / 1_000 / SECONDS  # busy instances on average, if no calls overlap
        ready = min(busy, SHAPE.always_ready)
        yield SHAPE.always_ready * SECONDS * size * PRICES.ready_gigabyte_second
        yield ready * SECONDS * size * PRICES.ready_execution_gigabyte_second
        yield max(0.0, busy - ready) * SECONDS * size * PRICES.function_gigabyte_second
    yield CONSUMPTION.timer_calls * CONSUMPTION.timer_seconds * size * PRICES.function_gigabyte_second
    calls = requests(use) + use.events * (1 + use.deliveries_per_event) + CONSUMPTION.timer_calls
    yield calls / 1e6 * PRICES.function_calls_million


def telemetry_gigabytes(use: Use) -> float:
    """Ingestion of Application Insights: every call, up to the maximum of each instance."""
    calls = requests(use) + use.events * (1 + use.deliveries_per_event) + CONSUMPTION.timer_calls
    instances = 3 * SHAPE.always_ready + 1
    most = CONSUMPTION.telemetry_items_per_second * instances * SECONDS
    return min(calls, most) * CONSUMPTION.telemetry_kilobytes / 1e6


def inputs(*groups: Use | Consumption | Prices | Shape) -> Iterator[str]:
    """The inputs, a line for each group."""
    for group in groups:
        shown = ", ".join(f"{name} {value:g}" for name, value in asdict(group).items())
        yield f"{type(group).__name__}: {shown}"


def table(uses: list[Use]) -> Iterator[str]:
    """The lines of the table."""
    line = "{:32}" + "{:>12}" * len(uses)
    yield line.format("events a month", *(f"{use.events / 1e6:,.0f} million" for use in uses))
    yield line.format("request units, million", *(f"{units(use) / 1e6:,.0f}" for use in uses))
    yield line.format("RU/s, average", *(f"{units(use) / SECONDS:,.0f}" for use in uses))
    yield line.format("RU/s, to allow (maxThroughput)", *(f"{throughput(use)[1]:,.0f}" for use in uses))
    yield line.format("stored, GB", *(f"{stored_gigabytes(use):,.0f}" for use in uses))
    items = [list(rows(use)) for use in uses]
    for row in zip(*items, strict=True):
        yield line.format(row[0][0], *(f"${cost:,.0f}" for _, cost in row))
    totals = [sum(cost for _, cost in bill) for bill in items]
    yield line.format("together, a month", *(f"${total:,.0f}" for total in totals))
    per_million = [f"${total / use.events * 1e6:,.0f}" for total, use in zip(totals, uses, strict=True)]
    yield line.format("for a million events", *per_million)


def main() -> None:
    """Print the inputs, then the table."""
    uses = [Use(1e6), Use(10e6), Use(100e6)]
    for line in (*inputs(uses[0], CONSUMPTION, PRICES, SHAPE), "", *table(uses)):
        print(line)


if __name__ == "__main__":
    main()
