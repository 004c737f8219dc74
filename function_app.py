"""Every trigger of the service. Each trigger calls one function of events_core; no decision is made here."""

from typing import List  # noqa: UP035 - the worker reads List[str], and not list[str], as several messages

import azure.functions as func

from events_core.app import current
from events_core.http import deliveries, feeds, operations, publishing, subscriptions
from events_core.http.edge import Edge
from events_core.http.unrouted import UnroutedRequests
from events_core.operations.background import Background
from events_core.operations.health import HealthChecks

serve, background, checks = Edge(current), Background(current), HealthChecks(current)
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)  # callers authenticate with their own tokens
unrouted = UnroutedRequests(app, serve)

# The host tries the functions in the order of their names and calls the first whose route and method match.

# -- Feeds ------------------------------------------------------------------------------------------------------------


@app.function_name("app_feed")
@app.route("events/api/v1/app/{org}/{app}", methods=["GET", "HEAD"])
async def app_feed(req: func.HttpRequest) -> func.HttpResponse:
    """Serve the events of one app to its owner."""
    return await serve(feeds.app_feed, req)


@app.function_name("app_party_feed")
@app.route("events/api/v1/app/party", methods=["GET", "HEAD"])
async def app_party_feed(req: func.HttpRequest) -> func.HttpResponse:
    """Serve the app events about one party to end users and their systems."""
    return await serve(feeds.party_feed, req)


@app.function_name("app_party_feed_by_post")
@app.route("events/api/v1/app/party", methods=["POST"])
async def app_party_feed_by_post(req: func.HttpRequest) -> func.HttpResponse:
    """Serve the party feed with its parameters in the body, so that no URL holds a person number."""
    return await serve(feeds.party_feed_by_post, req)


@app.function_name("org_feed")
@app.route("events/api/v1/app/{org}", methods=["GET", "HEAD"])
async def org_feed(req: func.HttpRequest) -> func.HttpResponse:
    """Serve the events of all apps of an org to their owner."""
    return await serve(feeds.org_feed, req)


@app.function_name("party_feed_by_post")
@app.route("events/api/v1/party", methods=["POST"])
async def party_feed_by_post(req: func.HttpRequest) -> func.HttpResponse:
    """Serve the party feed with its parameters in the body, under its shorter route."""
    return await serve(feeds.party_feed_by_post, req)


@app.function_name("resource_feed")
@app.route("events/api/v1/events", methods=["GET", "HEAD"])
async def resource_feed(req: func.HttpRequest) -> func.HttpResponse:
    """Serve the events of any resource."""
    return await serve(feeds.resource_feed, req)


@app.function_name("instance_feed")
@app.route("events/instanceeventsforinstance/{partyId}/{instanceGuid}", methods=["POST"])
async def instance_feed_without_login(req: func.HttpRequest) -> func.HttpResponse:
    """Serve the events of one instance without login, for the apps that allow it."""
    return await serve(feeds.instance_feed, req)


# -- Publishing -------------------------------------------------------------------------------------------------------


@app.function_name("publish_app_event")
@app.route("events/api/v1/app", methods=["POST"])
async def publish_app_event(req: func.HttpRequest) -> func.HttpResponse:
    """Publish an app's event about one of its instances."""
    return await serve(publishing.publish_app, req)


@app.function_name("publish_events")
@app.route("events/api/v1/events", methods=["POST"])
async def publish_events(req: func.HttpRequest) -> func.HttpResponse:
    """Publish events of any resource."""
    return await serve(publishing.publish_events, req)


@app.function_name("erase_event")
@app.route("events/api/v1/events/{id}", methods=["DELETE"])
async def erase_event(req: func.HttpRequest) -> func.HttpResponse:
    """Replace an event with a tombstone in every stream."""
    return await serve(publishing.erase_event, req)


@app.function_name("erase_event_by_parameter")
@app.route("events/api/v1/events", methods=["DELETE"])
async def erase_event_by_parameter(req: func.HttpRequest) -> func.HttpResponse:
    """Replace an event whose id no path can hold with a tombstone."""
    return await serve(publishing.erase_event, req)


# -- Subscriptions ----------------------------------------------------------------------------------------------------


@app.function_name("create_subscription")
@app.route("events/api/v1/subscriptions", methods=["POST"])
async def create_subscription(req: func.HttpRequest) -> func.HttpResponse:
    """Create a subscription, which pushes events to an endpoint."""
    return await serve(subscriptions.create, req)


@app.function_name("list_subscriptions")
@app.route("events/api/v1/subscriptions", methods=["GET", "HEAD"])
async def list_subscriptions(req: func.HttpRequest) -> func.HttpResponse:
    """List the caller's subscriptions."""
    return await serve(subscriptions.list_own, req)


@app.function_name("get_subscription")
@app.route("events/api/v1/subscriptions/{id}", methods=["GET", "HEAD"])
async def get_subscription(req: func.HttpRequest) -> func.HttpResponse:
    """Return a subscription and the state of its validation."""
    return await serve(subscriptions.get, req)


@app.function_name("change_subscription")
@app.route("events/api/v1/subscriptions/{id}", methods=["PATCH"])
async def change_subscription(req: func.HttpRequest) -> func.HttpResponse:
    """Pause, resume or move a subscription."""
    return await serve(subscriptions.change, req)


@app.function_name("delete_subscription")
@app.route("events/api/v1/subscriptions/{id}", methods=["DELETE"])
async def delete_subscription(req: func.HttpRequest) -> func.HttpResponse:
    """End a subscription."""
    return await serve(subscriptions.delete, req)


@app.function_name("validate_subscription")
@app.route("events/api/v1/subscriptions/validate/{id}", methods=["PUT"])
async def validate_subscription(req: func.HttpRequest) -> func.HttpResponse:
    """Mark an endpoint as validated on behalf of the platform."""
    return await serve(subscriptions.validate, req)


@app.function_name("rotate_secret")
@app.route("events/api/v1/subscriptions/{id}/rotate-secret", methods=["POST"])
async def rotate_secret(req: func.HttpRequest) -> func.HttpResponse:
    """Replace the secret that signs the deliveries of a subscription."""
    return await serve(subscriptions.rotate_secret, req)


@app.function_name("list_deliveries")
@app.route("events/api/v1/subscriptions/{id}/deliveries", methods=["GET", "HEAD"])
async def list_deliveries(req: func.HttpRequest) -> func.HttpResponse:
    """List the deliveries of a subscription."""
    return await serve(deliveries.list_of_subscription, req)


@app.function_name("replay_deliveries")
@app.route("events/api/v1/subscriptions/{id}/replay", methods=["POST"])
async def replay_deliveries(req: func.HttpRequest) -> func.HttpResponse:
    """Send the events of a subscription again."""
    return await serve(deliveries.replay_events, req)


@app.function_name("send_test_event")
@app.route("events/api/v1/subscriptions/{id}/test", methods=["POST"])
async def send_test_event(req: func.HttpRequest) -> func.HttpResponse:
    """Send a test event to the endpoint of a subscription."""
    return await serve(deliveries.send_test, req)


@app.function_name("trace_event")
@app.route("events/api/v1/events/{id}/trace", methods=["GET", "HEAD"])
async def trace_event(req: func.HttpRequest) -> func.HttpResponse:
    """Return what happened to an event."""
    return await serve(deliveries.trace, req)


@app.function_name("trace_event_by_parameter")
@app.route("events/api/v1/trace", methods=["GET", "HEAD"])
async def trace_event_by_parameter(req: func.HttpRequest) -> func.HttpResponse:
    """Return what happened to an event whose id no path can hold."""
    return await serve(deliveries.trace, req)


# -- Deprecated routes ------------------------------------------------------------------------------------------------


@app.function_name("legacy_app_feed")
@app.route("events/instanceevents/{org}/{app}", methods=["GET", "HEAD"])
async def legacy_app_feed(req: func.HttpRequest) -> func.HttpResponse:
    """Serve the app feed under its deprecated route."""
    return await serve(feeds.app_feed, req)


@app.function_name("legacy_org_feed")
@app.route("events/instanceevents/{org}", methods=["GET", "HEAD"])
async def legacy_org_feed(req: func.HttpRequest) -> func.HttpResponse:
    """Serve the org feed under its deprecated route."""
    return await serve(feeds.org_feed, req)


@app.function_name("legacy_party_feed")
@app.route("events/instanceeventsforparty", methods=["GET", "HEAD"])
async def legacy_party_feed(req: func.HttpRequest) -> func.HttpResponse:
    """Serve the party feed under its deprecated route."""
    return await serve(feeds.party_feed, req)


@app.function_name("legacy_publish")
@app.route("events", methods=["POST"])
async def legacy_publish(req: func.HttpRequest) -> func.HttpResponse:
    """Publish events under the deprecated route."""
    return await serve(publishing.publish_events, req)


# -- Operations -------------------------------------------------------------------------------------------------------


@app.function_name("health")
@app.route("health", methods=["GET", "HEAD"])
async def health(req: func.HttpRequest) -> func.HttpResponse:
    """Check the settings and the store."""
    return operations.health_response(await checks.alive())


@app.function_name("health_ready")
@app.route("health/ready", methods=["GET", "HEAD"])
async def health_ready(req: func.HttpRequest) -> func.HttpResponse:
    """Check the settings and every dependency."""
    return operations.health_response(await checks.ready())


@app.function_name("openapi")
@app.route("events/api/v1/openapi.json", methods=["GET", "HEAD"])
async def openapi(req: func.HttpRequest) -> func.HttpResponse:
    """Serve the OpenAPI document of the API."""
    return await serve(operations.openapi, req)


@app.function_name("docs")
@app.route("events/api/v1/docs", methods=["GET", "HEAD"])
async def docs(req: func.HttpRequest) -> func.HttpResponse:
    """Serve the documentation page of the API."""
    return await serve(operations.docs, req)


@app.function_name("zz_fallback")
@app.route("{*path}")
async def fallback(req: func.HttpRequest) -> func.HttpResponse:
    """Hand on a path with doubled slashes; refuse every other request with 404 or 405."""
    return await unrouted(req)


# -- Without a request ------------------------------------------------------------------------------------------------

# A message is a wake-up. The store says what is due, so a lost message loses nothing.
QUEUE, QUEUE_CONNECTION = "deliveries", "AzureWebJobsStorage"
Messages = List[str]  # noqa: UP006 - see the import


@app.function_name("follow_up")
@app.cosmos_db_trigger(
    arg_name="documents",
    connection="EVENTS_COSMOS",
    database_name="%EVENTS_COSMOS_DATABASE%",
    container_name="streams",
    lease_container_name="leases",
    lease_container_prefix="follow_up",
    create_lease_container_if_not_exists=False,  # Entra identities may not create containers
    feed_poll_delay=500,
    max_items_per_invocation=200,
    start_from_beginning=True,  # type: ignore[arg-type]  # a boolean, though the library declares a time
)
@app.queue_output(arg_name="wakeups", queue_name=QUEUE, connection=QUEUE_CONNECTION)
# Without retries the host drops a batch whose function failed.
@app.retry("exponential_backoff", "-1", minimum_interval="00:00:01", maximum_interval="00:01:00")
async def follow_up(documents: func.DocumentList, wakeups: func.Out[Messages]) -> None:
    """Bring appended events to the streams of subjects and orgs, and to subscriptions."""
    wakeups.set(await background.follow_up(documents))


@app.function_name("sweep")
@app.timer_trigger(arg_name="timer", schedule="*/10 * * * * *")
@app.queue_output(arg_name="wakeups", queue_name=QUEUE, connection=QUEUE_CONNECTION)
async def sweep(timer: func.TimerRequest, wakeups: func.Out[Messages]) -> None:
    """Follow the streams that have a catch-up pending, every ten seconds."""
    wakeups.set(await background.sweep())


@app.function_name("compare")
@app.timer_trigger(arg_name="timer", schedule="0 30 3 * * *")
@app.queue_output(arg_name="wakeups", queue_name=QUEUE, connection=QUEUE_CONNECTION)
async def compare(timer: func.TimerRequest, wakeups: func.Out[Messages]) -> None:
    """Catch up on streams whose notification was missed, every night."""
    wakeups.set(await background.compare())


@app.function_name("deliver")
@app.queue_trigger(arg_name="message", queue_name=QUEUE, connection=QUEUE_CONNECTION)
@app.queue_output(arg_name="wakeups", queue_name=QUEUE, connection=QUEUE_CONNECTION)
async def deliver(message: func.QueueMessage, wakeups: func.Out[Messages]) -> None:
    """Serve one lane: validate its endpoint if that is due, and send its due deliveries."""
    wakeups.set(await background.deliver(message.get_body().decode(errors="replace")))


@app.function_name("sweep_deliveries")
@app.timer_trigger(arg_name="timer", schedule="*/5 * * * * *")
@app.queue_output(arg_name="wakeups", queue_name=QUEUE, connection=QUEUE_CONNECTION)
async def sweep_deliveries(timer: func.TimerRequest, wakeups: func.Out[Messages]) -> None:
    """Send wake-ups for due lanes whose wake-up was lost, every five seconds."""
    wakeups.set(await background.sweep_deliveries())


@app.function_name("measure")
@app.timer_trigger(arg_name="timer", schedule="30 * * * * *")
async def measure(timer: func.TimerRequest) -> None:
    """Report the gauges that alerts read, every minute."""
    await background.measure()


@app.function_name("retention")
@app.timer_trigger(arg_name="timer", schedule="0 30 2 * * *")
async def retention(timer: func.TimerRequest) -> None:
    """Remove events and deliveries whose retention has ended, every night."""
    await background.retention()
