"""The containers of the database and their indexes. A test holds infra/containers.json equal to them.

The comment beside each index says what it serves, and which method sends the query. The methods for `streams` are in
streams/queries.py, for `cursors` in streams/states.py and streams/checkpoints.py, for the others in delivery/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LARGEST_TIME_TO_LIVE = 2**31 - 1
"""The most seconds that Cosmos DB takes: 68 years."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container: its partition key path, its unique keys, its indexes and its time to live.

    `indexed` names the properties with an index, None for every property. `id` and `_ts` always have one. Each entry of
    `ordered_by` is a composite index, all of it descending. It serves a query that orders by exactly these properties,
    all descending or all ascending, and an equality filter on one of them only if the query orders by that property
    too, first. `default_ttl` is in seconds: None keeps documents for ever, -1 those without a `ttl` of their own.
    Unique keys hold within a logical partition and cannot be changed later.
    """

    name: str
    partition_key: str
    indexed: tuple[str, ...] | None = ()
    unique_keys: tuple[tuple[str, ...], ...] = ()
    default_ttl: int | None = None
    ordered_by: tuple[tuple[str, ...], ...] = ()

    @property
    def indexing_policy(self) -> dict[str, Any]:
        """The indexing policy in Cosmos DB's format."""
        paths = ["/*"] if self.indexed is None else [f"/{name}/?" for name in self.indexed]
        excluded = ['/"_etag"/?'] if self.indexed is None else ["/*"]
        policy: dict[str, Any] = {
            "indexingMode": "consistent",
            "automatic": True,
            "includedPaths": [{"path": path} for path in paths],
            "excludedPaths": [{"path": path} for path in excluded],
        }
        if self.ordered_by:
            policy["compositeIndexes"] = [
                [{"path": f"/{name}", "order": "descending"} for name in names] for names in self.ordered_by
            ]
        return policy

    @property
    def unique_key_policy(self) -> dict[str, Any] | None:
        """The unique keys in Cosmos DB's format; None if only `id` is unique."""
        if not self.unique_keys:
            return None
        return {"uniqueKeys": [{"paths": list(paths)} for paths in self.unique_keys]}


_STREAMS = Container(
    "streams",  # one document per event and stream; a partition is a segment of a stream
    "/partition",
    indexed=(
        "partition",  # every query of a segment: a partition key other than /id needs an index of its own
        "stream",  # `after=<event id>` in a stream of several segments: `with_id_anywhere`
        "seq",  # rows by position: `at`, `since`, `with_id`; the streams that have grown: `newest_after`
        "ukey",  # duplicates: `since`, `with_ukeys`; the copies of an erased event: `copies`
        "eventId",  # `after=<event id>`: `with_id`, `with_id_anywhere`; an event by source and id: `find`
        "registered",  # with `partition` and `seq`, as below
        "type",  # a filter of a page, like the five below: `page` with a condition of streams/filters.py
        "source",
        "subject",
        "alternativesubject",
        "org",
        "resource",
    ),
    unique_keys=(("/ukey",),),
    default_ttl=-1,
    ordered_by=(
        ("partition", "seq"),  # a page of any feed: `page`; the ends of a segment: `newest`, `oldest`
        ("partition", "registered", "seq"),  # `from=<time>`, and the oldest visible row: `newest_before`
    ),
)
_CURSORS = Container(
    "cursors",  # one document per stream with its bounds and checkpoints, and one for the database itself
    "/id",
    indexed=(
        "name",  # which of the given streams have a document: `listed`
        "stream",  # every resource stream: `behind`, `suspects`, `quarantined`
        "catchUpPending",  # the streams for the next sweep: `catch_up_pending`
    ),
)
_SUBSCRIPTIONS = Container(
    "subscriptions",  # one document per subscription, all in one partition
    "/partition",
    indexed=(
        "partition",  # every query
        "ukey",  # the subscription with the same consumer, endpoint and filters: `create`
        "consumer",  # the subscriptions of a consumer: `owned_by`
        "number",  # with `partition` and `consumer`, as below
    ),
    unique_keys=(("/ukey",),),
    ordered_by=(
        ("partition", "number"),  # the greatest id: `create`
        ("partition", "consumer", "number"),  # the subscriptions of a consumer: `owned_by`
    ),
)
_DELIVERIES = Container(
    "deliveries",  # one document per delivery; a partition is a segment of one subscription's stream
    "/partition",
    indexed=(
        "partition",  # every query of a segment
        "stream",  # the deliveries of one event, with `position`: `of_event`
        "replay",  # the deliveries of one lane, with `partition`: `ready`
        "state",  # `revive`, the filter of `page`, the quota of replays, and the gauge of dead deliveries: `dead`
        "position",  # the deliveries of one event: `of_event`, and `page` where it ended among them
        "next",  # deliveries with an attempt to come: `ready`
    ),
    ordered_by=(
        ("partition", "replay", "next", "position"),  # first attempts by position, then retries: `ready`, `release`
        ("partition", "position"),  # `page`
    ),
    default_ttl=-1,
)
_DUE = Container(
    "due",  # one document per lane
    "/id",
    indexed=(
        "at",  # the lanes that are due: `due`, `overdue`; with `subscription`, replays with something to do
        "since",  # the lanes in which an attempt is due: `overdue`
        "subscription",  # the lanes of a subscription: `wake_all`, and the quota of replays
        "number",  # of these, the lanes of replays
    ),
)
_LEASES = Container(
    "leases",  # how far the change feed was read; the Cosmos DB trigger's library makes queries of its own here
    "/id",
    indexed=None,
)

CONTAINERS = (_STREAMS, _CURSORS, _SUBSCRIPTIONS, _DELIVERIES, _DUE, _LEASES)
"""Every container, in no particular order. A database consists of these and nothing else."""
