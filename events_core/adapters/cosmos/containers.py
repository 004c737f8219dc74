"""Every container of the database as data: what infra/ creates, and what tests create for themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

THIRTY_DAYS = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Container:
    """One container: its partition key path, and what its documents are unique and found by.

    `indexed` names the properties that queries use; None indexes everything, as Cosmos DB does by itself. `id` and
    `_ts` are always indexed. Each of `ordered_by` names properties that a query orders by together, the greatest first;
    it serves a query that holds some of them equal only if those come first, in the query's order too. `default_ttl` is
    in seconds: None keeps documents for ever, -1 those without a `ttl` of their own. Unique keys hold within a logical
    partition, and can never be changed.
    """

    name: str
    partition_key: str
    indexed: tuple[str, ...] | None = ()
    unique_keys: tuple[tuple[str, ...], ...] = ()
    default_ttl: int | None = None
    ordered_by: tuple[tuple[str, ...], ...] = ()

    @property
    def indexing_policy(self) -> dict[str, Any]:
        """The policy as Cosmos DB takes it; a partition key path other than `/id` has to be named like any other."""
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
        """The policy as Cosmos DB takes it, None when nothing but `id` is unique."""
        if not self.unique_keys:
            return None
        return {"uniqueKeys": [{"paths": list(paths)} for paths in self.unique_keys]}


_STREAM_FILTERS = ("type", "source", "subject", "alternativesubject", "org", "resource")

CONTAINERS = (
    Container(
        "streams",
        "/partition",
        indexed=("partition", "stream", "seq", "ukey", "eventId", "registered", *_STREAM_FILTERS),
        unique_keys=(("/ukey",),),
        ordered_by=(("partition", "registered", "seq"),),
    ),
    Container("cursors", "/id", indexed=("name", "stream", "floor", "catchUpPending")),
    Container(
        "subscriptions", "/partition", indexed=("partition", "ukey", "consumer", "number"), unique_keys=(("/ukey",),)
    ),
    Container(
        "deliveries",
        "/partition",
        indexed=("partition", "stream", "replay", "state", "position", "nextAttempt"),
        default_ttl=-1,
    ),
    Container("due", "/id", indexed=("at",)),
    # The library behind the Cosmos DB trigger makes its own queries here.
    Container("leases", "/id", indexed=None),
)
"""Every container, in no particular order. A database is complete with these and nothing else."""
