"""Every trigger of the service. Each hands its request to one handler of events_core; nothing is decided here."""

from typing import List  # noqa: UP035 - the worker does not take the built-in type for one that can be repeated

import azure.functions as func

from events_core.app import current
from events_core.http import deliveries, feeds, operations, publishing, subscriptions
from events_core.http.edge import Edge
from events_core.operations.background import Background
from events_core.operations.health import HealthChecks

serve, background, checks = Edge(current), Background(current), HealthChecks(current)
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)  # callers authenticate with their own tokens

# The host tries the functions in the order of their names, and the first whose route and method match answers.

# -- Feeds ------------------------------------------------------------------------------------------------------------


@app.function_name("app_feed")
@app.route("events/api/v1/app/{org}/{app}", methods=["GET"])
async def app_feed(req: func.HttpRequest) -> func.HttpResponse:
    """The events of one app, for its owner."""
    return await serve(feeds.app_feed, req)


@app.function_name("app_party_feed")
@app.route("events/api/v1/app/party", methods=["GET"])
async def app_party_feed(req: func.HttpRequest) -> func.HttpResponse:
    """The app events about one party, for end users and their systems."""
    return await serve(feeds.party_feed, req)


@app.function_name("app_party_feed_by_post")
@app.route("events/api/v1/app/party", methods=["POST"])
async def app_party_feed_by_post(req: func.HttpRequest) -> func.HttpResponse:
    """The same with the parameters in the body, so that a person's number is in no URL."""
    return await serve(feeds.party_feed_by_post, req)


@app.function_name("org_feed")
@app.route("events/api/v1/app/{org}", methods=["GET"])
async def org_feed(req: func.HttpRequest) -> func.HttpResponse:
    """The events of all apps of an org, for their owner."""
    return await serve(feeds.org_feed, req)


@app.function_name("party_feed_by_post")
@app.route("events/api/v1/party", methods=["POST"])
async def party_feed_by_post(req: func.HttpRequest) -> func.HttpResponse:
    """The party feed with the parameters in the body."""
    return await serve(feeds.party_feed_by_post, req)


@app.function_name("resource_feed")
@app.route("events/api/v1/events", methods=["GET"])
async def resource_feed(req: func.HttpRequest) -> func.HttpResponse:
    """The events of any resource."""
    return await serve(feeds.resource_feed, req)


@app.function_name("instance_feed")
@app.route("events/instanceeventsforinstance/{partyId}/{instanceGuid}", methods=["POST"])
async def instance_feed_without_login(req: func.HttpRequest) -> func.HttpResponse:
    """What happened to one instance, without login, for apps that allow it."""
    return await serve(feeds.instance_feed, req)


# -- Publishing -------------------------------------------------------------------------------------------------------


@app.function_name("publish_app_event")
@app.route("events/api/v1/app", methods=["POST"])
async def publish_app_event(req: func.HttpRequest) -> func.HttpResponse:
    """An app publishes an event of one of its instances."""
    return await serve(publishing.publish_app, req)


@app.function_name("publish_events")
@app.route("events/api/v1/events", methods=["POST"])
async def publish_events(req: func.HttpRequest) -> func.HttpResponse:
    """Anyone who may publishes events of any resource."""
    return await serve(publishing.publish_events, req)


@app.function_name("erase_event")
@app.route("events/api/v1/events/{id}", methods=["DELETE"])
async def erase_event(req: func.HttpRequest) -> func.HttpResponse:
    """Replace an event by a tombstone in every stream."""
    return await serve(publishing.erase_event, req)


# -- Subscriptions ----------------------------------------------------------------------------------------------------


@app.function_name("create_subscription")
@app.route("events/api/v1/subscriptions", methods=["POST"])
async def create_subscription(req: func.HttpRequest) -> func.HttpResponse:
    """Have events pushed to an endpoint."""
    return await serve(subscriptions.create, req)


@app.function_name("list_subscriptions")
@app.route("events/api/v1/subscriptions", methods=["GET"])
async def list_subscriptions(req: func.HttpRequest) -> func.HttpResponse:
    """The caller's subscriptions."""
    return await serve(subscriptions.list_own, req)


@app.function_name("get_subscription")
@app.route("events/api/v1/subscriptions/{id}", methods=["GET"])
async def get_subscription(req: func.HttpRequest) -> func.HttpResponse:
    """One subscription, and how its validation stands."""
    return await serve(subscriptions.get, req)


@app.function_name("change_subscription")
@app.route("events/api/v1/subscriptions/{id}", methods=["PATCH"])
async def change_subscription(req: func.HttpRequest) -> func.HttpResponse:
    """Pause a subscription, or resume it."""
    return await serve(subscriptions.change, req)


@app.function_name("delete_subscription")
@app.route("events/api/v1/subscriptions/{id}", methods=["DELETE"])
async def delete_subscription(req: func.HttpRequest) -> func.HttpResponse:
    """End a subscription."""
    return await serve(subscriptions.delete, req)


@app.function_name("validate_subscription")
@app.route("events/api/v1/subscriptions/validate/{id}", methods=["PUT"])
async def validate_subscription(req: func.HttpRequest) -> func.HttpResponse:
    """The platform vouches for an endpoint."""
    return await serve(subscriptions.validate, req)


@app.function_name("rotate_secret")
@app.route("events/api/v1/subscriptions/{id}/rotate-secret", methods=["POST"])
async def rotate_secret(req: func.HttpRequest) -> func.HttpResponse:
    """A new secret to sign with."""
    return await serve(subscriptions.rotate_secret, req)


@app.function_name("list_deliveries")
@app.route("events/api/v1/subscriptions/{id}/deliveries", methods=["GET"])
async def list_deliveries(req: func.HttpRequest) -> func.HttpResponse:
    """What became of each event that a subscription matches."""
    return await serve(deliveries.list_of_subscription, req)


@app.function_name("replay_deliveries")
@app.route("events/api/v1/subscriptions/{id}/replay", methods=["POST"])
async def replay_deliveries(req: func.HttpRequest) -> func.HttpResponse:
    """Send again what a subscription matches."""
    return await serve(deliveries.replay_events, req)


@app.function_name("trace_event")
@app.route("events/api/v1/events/{id}/trace", methods=["GET"])
async def trace_event(req: func.HttpRequest) -> func.HttpResponse:
    """What happened to an event."""
    return await serve(deliveries.trace, req)


# -- Older routes -----------------------------------------------------------------------------------------------------


@app.function_name("legacy_app_feed")
@app.route("events/instanceevents/{org}/{app}", methods=["GET"])
async def legacy_app_feed(req: func.HttpRequest) -> func.HttpResponse:
    """Older route of the app feed."""
    return await serve(feeds.app_feed, req, successor="/events/api/v1/app/{org}/{app}")


@app.function_name("legacy_org_feed")
@app.route("events/instanceevents/{org}", methods=["GET"])
async def legacy_org_feed(req: func.HttpRequest) -> func.HttpResponse:
    """Older route of the org feed."""
    return await serve(feeds.org_feed, req, successor="/events/api/v1/app/{org}")


@app.function_name("legacy_party_feed")
@app.route("events/instanceeventsforparty", methods=["GET"])
async def legacy_party_feed(req: func.HttpRequest) -> func.HttpResponse:
    """Older route of the party feed."""
    return await serve(feeds.party_feed, req, successor="/events/api/v1/app/party")


@app.function_name("legacy_publish")
@app.route("events", methods=["POST"])
async def legacy_publish(req: func.HttpRequest) -> func.HttpResponse:
    """Older route of publishing."""
    return await serve(publishing.publish_events, req, successor="/events/api/v1/events")


# -- Operating --------------------------------------------------------------------------------------------------------


@app.function_name("health")
@app.route("health", methods=["GET"])
async def health(req: func.HttpRequest) -> func.HttpResponse:
    """Whether the store and the settings are right."""
    return operations.health_response(await checks.alive())


@app.function_name("health_ready")
@app.route("health/ready", methods=["GET"])
async def health_ready(req: func.HttpRequest) -> func.HttpResponse:
    """Whether everything that the service depends on answers."""
    return operations.health_response(await checks.ready())


@app.function_name("openapi")
@app.route("events/api/v1/openapi.json", methods=["GET"])
async def openapi(req: func.HttpRequest) -> func.HttpResponse:
    """The API's description, OpenAPI 3.1."""
    return await serve(operations.openapi, req)


@app.function_name("docs")
@app.route("events/api/v1/docs", methods=["GET"])
async def docs(req: func.HttpRequest) -> func.HttpResponse:
    """The API's documentation, a page."""
    return await serve(operations.docs, req)


@app.function_name("zz_fallback")
@app.route("{*path}")
async def fallback(req: func.HttpRequest) -> func.HttpResponse:
    """Whatever no route takes: 404, or 405 with the methods that the path has."""
    return await serve(operations.fallback, req)


# -- Without a request ------------------------------------------------------------------------------------------------

# What is due is in the store: a message is a wake-up, and nothing is lost with it.
QUEUE, QUEUES = "deliveries", "AzureWebJobsStorage"
Messages = List[str]  # noqa: UP006 - see its import


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
    start_from_beginning=True,  # type: ignore[arg-type]  # the library means a boolean and says a time
)
@app.queue_output(arg_name="wakeups", queue_name=QUEUE, connection=QUEUES)
@app.retry("exponential_backoff", "-1", minimum_interval="00:00:01", maximum_interval="00:01:00")
async def follow_up(documents: func.DocumentList, wakeups: func.Out[Messages]) -> None:
    """Whenever events were appended: bring them to their subjects, orgs and subscriptions.

    Without retries a failed batch is lost.
    """
    wakeups.set(await background.follow_up(documents))


@app.function_name("sweep")
@app.timer_trigger(arg_name="timer", schedule="*/10 * * * * *")
@app.queue_output(arg_name="wakeups", queue_name=QUEUE, connection=QUEUES)
async def sweep(timer: func.TimerRequest, wakeups: func.Out[Messages]) -> None:
    """Every ten seconds: follow the streams that are marked as owed."""
    wakeups.set(await background.sweep())


@app.function_name("compare")
@app.timer_trigger(arg_name="timer", schedule="0 30 3 * * *")
@app.queue_output(arg_name="wakeups", queue_name=QUEUE, connection=QUEUES)
async def compare(timer: func.TimerRequest, wakeups: func.Out[Messages]) -> None:
    """Every night: find and follow the streams that nobody was told of."""
    wakeups.set(await background.compare())


@app.function_name("deliver")
@app.queue_trigger(arg_name="message", queue_name=QUEUE, connection=QUEUES)
@app.queue_output(arg_name="wakeups", queue_name=QUEUE, connection=QUEUES)
async def deliver(message: func.QueueMessage, wakeups: func.Out[Messages]) -> None:
    """Whenever a subscription has something due: validate its endpoint, and deliver."""
    wakeups.set(await background.deliver(message.get_body().decode(errors="replace")))


@app.function_name("sweep_deliveries")
@app.timer_trigger(arg_name="timer", schedule="*/5 * * * * *")
@app.queue_output(arg_name="wakeups", queue_name=QUEUE, connection=QUEUES)
async def sweep_deliveries(timer: func.TimerRequest, wakeups: func.Out[Messages]) -> None:
    """Every five seconds: find the subscriptions that have something due and that nobody was told of."""
    wakeups.set(await background.sweep_deliveries())


@app.function_name("measure")
@app.timer_trigger(arg_name="timer", schedule="30 * * * * *")
async def measure(timer: func.TimerRequest) -> None:
    """Every minute: report what alerts read."""
    await background.measure()


@app.function_name("retention")
@app.timer_trigger(arg_name="timer", schedule="0 30 2 * * *")
async def retention(timer: func.TimerRequest) -> None:
    """Every night: remove the events and deliveries that are older than they are kept."""
    await background.retention()
