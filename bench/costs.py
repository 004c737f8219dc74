"""What the service costs a month, by its inputs: `python -m bench.costs`. docs/costs.md shows what this prints.

A model, not a bill: every number that it rests on is an input below, with where it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

HOURS = 730.0
SECONDS = HOURS * 3_600


@dataclass(frozen=True)
class Use:
    """How the service is used. Assumed; put in your own."""

    events: float
    """events published a month"""
    event_kilobytes: float = 2.0
    """size of an event"""
    projections: float = 2.0
    """streams besides its resource's that an event is in: subject and org of an app's event"""
    deliveries_per_event: float = 0.5
    """subscriptions that an event matches, on average"""
    reads_per_event: float = 3.0
    """readers that an event is read by: owner, end user, their system"""
    events_per_page: float = 10.0
    """events that a page has that has any"""
    pollers: float = 500.0
    """readers that poll all the time"""
    poll_seconds: float = 60.0
    """how often each of them polls, mostly in vain"""
    retention_days: float = 90.0
    """EVENTS_RETENTION_DAYS"""
    peak: float = 2.0
    """the greatest use within an hour, of that hour's average; autoscale is billed by it"""


@dataclass(frozen=True)
class RequestUnits:
    """What operations take. Request units: docs/storage.md, estimated; the rest measured here or documented."""

    event_units: float = 31.0
    """an event, in its resource's stream and followed up alone in its page, without projections (RU)"""
    projection_units: float = 9.0
    """an event in one more stream (RU)"""
    delivery_units: float = 30.0
    """a delivery: recorded, its lane made due, its attempt recorded (RU)"""
    wakeup_units: float = 60.0
    """what a wake-up asks besides, 16 requests (RU)"""
    page_units: float = 14.0
    """a page of ten events (RU)"""
    poll_units: float = 5.0
    """an empty page (RU)"""
    removal_units: float = 9.0
    """an event in one stream, removed by retention (RU)"""
    stored_overhead: float = 1.3
    """stored bytes of an event's own, index and document included"""
    delivery_kilobytes: float = 1.2
    """a delivery's document with its index, kept for 30 days"""
    request_milliseconds: float = 25.0
    """how long a request keeps an instance busy, alone"""
    background_milliseconds: float = 150.0
    """how long following up an event or making a delivery does, alone"""
    timer_seconds: float = 1.0
    """the least that a call of a timer is billed for"""
    timer_calls: float = 525_600.0 + 262_800.0 + 43_800.0
    """calls of timers a month: every five seconds, every ten, and every minute"""
    telemetry_items_per_second: float = 5.0
    """items that an instance sends at most, by host.json"""
    telemetry_kilobytes: float = 0.8
    """a request in Application Insights"""


@dataclass(frozen=True)
class Prices:
    """US dollars, list prices of a European region as known in November 2026; check them for yours."""

    autoscale_100_units_hour: float = 0.012
    """100 RU/s for an hour, autoscale"""
    zone_factor: float = 1.0
    """for zone redundancy: autoscale is spared the surcharge"""
    cosmos_gigabyte: float = 0.25
    """stored, a month"""
    backup_gigabyte: float = 0.20
    """continuous backup of 30 days, a month"""
    function_gigabyte_second: float = 0.000026
    """on demand"""
    ready_gigabyte_second: float = 0.000004
    """always ready, idle or not"""
    ready_execution_gigabyte_second: float = 0.000016
    """always ready, at work"""
    function_calls_million: float = 0.40
    """calls"""
    log_gigabyte: float = 2.76
    """taken in"""
    private_endpoint_hour: float = 0.01
    """each"""
    fixed: float = 12.0
    """storage account, vault, names, alerts: together"""


@dataclass(frozen=True)
class Shape:
    """How it is deployed: the parameters of infra/main.prod.bicepparam, and what follows from them."""

    always_ready: float = 2.0
    """instances ready for requests, following up and delivering, each; with zone redundancy Azure keeps two at least"""
    instance_gigabytes: float = 2.0
    """memory of an instance"""
    private_endpoints: float = 5.0
    """Cosmos DB, blobs, queues, tables, vault"""
    small_containers: float = 4.0
    """cursors, due, subscriptions, leases: a tenth of their greatest throughput is billed at least"""
    small_units: float = 4_000.0
    """the greatest throughput of the first three, progressThroughput"""
    gigabytes_per_1000_units: float = 100.0
    """autoscale: greatest throughput is at least 10 RU/s for each GB"""


CHARGES, PRICES, SHAPE = RequestUnits(), Prices(), Shape()


def units(use: Use) -> float:
    """Request units a month."""
    copies = 1 + use.projections
    per_second = use.events * use.deliveries_per_event / SECONDS
    waiting = use.events * use.deliveries_per_event / max(1.0, per_second)  # at most about one a second and lane
    polls = use.pollers * SECONDS / use.poll_seconds
    return (
        use.events * (CHARGES.event_units + use.projections * CHARGES.projection_units)
        + use.events * use.deliveries_per_event * CHARGES.delivery_units
        + waiting * CHARGES.wakeup_units
        + use.events * use.reads_per_event / use.events_per_page * CHARGES.page_units
        + polls * CHARGES.poll_units
        + use.events * copies * CHARGES.removal_units
    )


def stored_gigabytes(use: Use) -> float:
    """What is stored once as much is removed as is published."""
    kept = use.events * use.retention_days / 30.4
    events = kept * (1 + use.projections) * use.event_kilobytes * CHARGES.stored_overhead
    return (events + use.events * use.deliveries_per_event * CHARGES.delivery_kilobytes) / 1e6


def throughput(use: Use) -> tuple[float, float]:
    """Request units a second that are billed on average, and the greatest that has to be allowed."""
    average = units(use) / SECONDS
    greatest = max(1_000.0, average * use.peak * 3, stored_gigabytes(use) * 1_000 / SHAPE.gigabytes_per_1000_units)
    return max(average * use.peak, greatest / 10), greatest


def rows(use: Use) -> Iterator[tuple[str, float]]:
    """Each item of the bill, in US dollars a month."""
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
    """Requests a month: publishing one by one, pages, polls."""
    polls = use.pollers * SECONDS / use.poll_seconds
    return use.events + use.events * use.reads_per_event / use.events_per_page + polls


def functions(use: Use) -> Iterator[float]:
    """What instances cost: those that are ready, their work, what is beyond it, timers, and calls."""
    size = SHAPE.instance_gigabytes
    kinds = (
        requests(use) * CHARGES.request_milliseconds,
        use.events * CHARGES.background_milliseconds,
        use.events * use.deliveries_per_event * CHARGES.background_milliseconds,
    )
    for milliseconds in kinds:
        busy = milliseconds / 1_000 / SECONDS  # instances at work on average, were each call alone
        ready = min(busy, SHAPE.always_ready)
        yield SHAPE.always_ready * SECONDS * size * PRICES.ready_gigabyte_second
        yield ready * SECONDS * size * PRICES.ready_execution_gigabyte_second
        yield max(0.0, busy - ready) * SECONDS * size * PRICES.function_gigabyte_second
    yield CHARGES.timer_calls * CHARGES.timer_seconds * size * PRICES.function_gigabyte_second
    calls = requests(use) + use.events * (1 + use.deliveries_per_event) + CHARGES.timer_calls
    yield calls / 1e6 * PRICES.function_calls_million


def telemetry_gigabytes(use: Use) -> float:
    """What Application Insights takes in: every call, but at most so many a second of each instance."""
    calls = requests(use) + use.events * (1 + use.deliveries_per_event) + CHARGES.timer_calls
    instances = 3 * SHAPE.always_ready + 1
    most = CHARGES.telemetry_items_per_second * instances * SECONDS
    return min(calls, most) * CHARGES.telemetry_kilobytes / 1e6


def inputs(*groups: object) -> Iterator[str]:
    """Every input by its name."""
    for group in groups:
        shown = ", ".join(f"{each.name} {getattr(group, each.name):g}" for each in fields(group))  # type: ignore[arg-type]
        yield f"{type(group).__name__}: {shown}"


def table(uses: list[Use]) -> Iterator[str]:
    """The table, a line each."""
    line = "{:32}" + "{:>12}" * len(uses)
    yield line.format("events a month", *(f"{use.events / 1e6:,.0f} million" for use in uses))
    yield line.format("request units, million", *(f"{units(use) / 1e6:,.0f}" for use in uses))
    yield line.format("RU/s, average", *(f"{units(use) / SECONDS:,.0f}" for use in uses))
    yield line.format("RU/s, to allow (maxThroughput)", *(f"{throughput(use)[1]:,.0f}" for use in uses))
    yield line.format("stored, GB", *(f"{stored_gigabytes(use):,.0f}" for use in uses))
    items = [list(rows(use)) for use in uses]
    for row in zip(*items, strict=True):
        yield line.format(row[0][0], *(f"${cost:,.0f}" for _, cost in row))
    totals = [sum(cost for _, cost in each) for each in items]
    yield line.format("together, a month", *(f"${total:,.0f}" for total in totals))
    each = [f"${total / use.events * 1e6:,.0f}" for total, use in zip(totals, uses, strict=True)]
    yield line.format("for a million events", *each)


def main() -> None:
    """The inputs, then the table."""
    uses = [Use(1e6), Use(10e6), Use(100e6)]
    for line in (*inputs(uses[0], CHARGES, PRICES, SHAPE), "", *table(uses)):
        print(line)


if __name__ == "__main__":
    main()
