"""Use case: send a test event to the endpoint of a subscription at once, and say what came back."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from events_core.access.identity import Caller
from events_core.common import errors
from events_core.common.clock import to_rfc3339
from events_core.delivery.delivery import Attempt
from events_core.delivery.ports import WebhookSender
from events_core.delivery.shares import ConsumerShares
from events_core.delivery.subscribe import Subscriber
from events_core.delivery.subscription import Subscription
from events_core.delivery.update import RateLimit, update_subscription
from events_core.delivery.validate import PATH
from events_core.delivery.webhook import Signing

TEST_TYPE = "platform.events.test"
WAIT_SECONDS = 5.0
"""How long a test waits for a connection."""
TESTS = RateLimit(10, 60, "A subscription gets at most 10 test events a minute.")


@dataclass(frozen=True, slots=True)
class EndpointTest:
    """Sends test events. `clock` gives microseconds since the epoch."""

    subscriber: Subscriber
    sender: WebhookSender
    shares: ConsumerShares
    signing: Signing
    clock: Callable[[], int]

    async def send(self, caller: Caller, subscription_id: int) -> Attempt:
        """Send one test event to a validated endpoint, and return the attempt. It is not repeated.

        Raises:
            EventsError: NOT_FOUND, FORBIDDEN for another consumer's subscription, CONFLICT while the endpoint is not
                validated, TOO_MANY_REQUESTS beyond ten a minute, UNAVAILABLE.
        """
        await self.subscriber.get(caller, subscription_id)
        counted = await update_subscription(self.subscriber.subscriptions, subscription_id, self._counted)
        if counted is None:
            raise errors.not_found("There is no such subscription.")
        event_id, now = str(uuid.uuid4()), self.clock()
        document = {
            "specversion": "1.0",
            "id": event_id,
            "source": f"{self.signing.base_url_for(counted)}{PATH}/{subscription_id}",
            "type": TEST_TYPE,
            "time": to_rfc3339(now),
        }
        message = self.signing.message(counted, event_id, json.dumps(document).encode(), now)
        async with self.shares.connection(counted, WAIT_SECONDS) as has_connection:
            if not has_connection:
                raise errors.unavailable("Every connection of this consumer is in use. Repeat the request.")
            return (await self.sender.send(message)).attempt

    def _counted(self, current: Subscription) -> Subscription:
        if not current.validation.validated or current.disabled:
            raise errors.conflict("The endPoint is not validated. Only a validated one gets test events.")
        return replace(current, tests=TESTS.counted(current.tests, self.clock()))
