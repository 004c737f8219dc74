"""The functions as the host indexes them: triggers, routes and methods; and the settings files."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import azure.functions as func
from azure.functions import meta

import function_app
from events_core.adapters.cosmos.containers import CONTAINERS
from events_core.adapters.storage_queue import QUEUE
from events_core.delivery.shares import LANES
from local.host import functions_of

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = functions_of(function_app.app)
TRIGGERS = {function.name: function.trigger for function in FUNCTIONS}
OUTPUTS = {function.name: function.outputs for function in FUNCTIONS}


def trigger(name: str) -> Mapping[str, Any]:
    """The trigger of a function as the host reads it."""
    return TRIGGERS[name]


HTTP = [name for name in TRIGGERS if trigger(name)["type"] == "httpTrigger"]
ROUTES = {
    "app_feed": ("GET", "events/api/v1/app/{org}/{app}"),
    "app_party_feed": ("GET", "events/api/v1/app/party"),
    "app_party_feed_by_post": ("POST", "events/api/v1/app/party"),
    "change_subscription": ("PATCH", "events/api/v1/subscriptions/{id}"),
    "create_subscription": ("POST", "events/api/v1/subscriptions"),
    "delete_subscription": ("DELETE", "events/api/v1/subscriptions/{id}"),
    "docs": ("GET", "events/api/v1/docs"),
    "erase_event": ("DELETE", "events/api/v1/events/{id}"),
    "erase_event_by_parameter": ("DELETE", "events/api/v1/events"),
    "get_subscription": ("GET", "events/api/v1/subscriptions/{id}"),
    "health": ("GET", "health"),
    "health_ready": ("GET", "health/ready"),
    "instance_feed": ("POST", "events/instanceeventsforinstance/{partyId}/{instanceGuid}"),
    "legacy_app_feed": ("GET", "events/instanceevents/{org}/{app}"),
    "legacy_org_feed": ("GET", "events/instanceevents/{org}"),
    "legacy_party_feed": ("GET", "events/instanceeventsforparty"),
    "legacy_publish": ("POST", "events"),
    "list_deliveries": ("GET", "events/api/v1/subscriptions/{id}/deliveries"),
    "list_subscriptions": ("GET", "events/api/v1/subscriptions"),
    "openapi": ("GET", "events/api/v1/openapi.json"),
    "org_feed": ("GET", "events/api/v1/app/{org}"),
    "party_feed_by_post": ("POST", "events/api/v1/party"),
    "publish_app_event": ("POST", "events/api/v1/app"),
    "publish_events": ("POST", "events/api/v1/events"),
    "replay_deliveries": ("POST", "events/api/v1/subscriptions/{id}/replay"),
    "resource_feed": ("GET", "events/api/v1/events"),
    "rotate_secret": ("POST", "events/api/v1/subscriptions/{id}/rotate-secret"),
    "send_test_event": ("POST", "events/api/v1/subscriptions/{id}/test"),
    "trace_event": ("GET", "events/api/v1/events/{id}/trace"),
    "trace_event_by_parameter": ("GET", "events/api/v1/trace"),
    "validate_subscription": ("PUT", "events/api/v1/subscriptions/validate/{id}"),
}


def test_each_endpoint_has_a_trigger_of_its_own() -> None:
    """Every HTTP function but the fallback serves one method and one route of the contract; with GET also HEAD."""
    for name, (method, route) in ROUTES.items():
        methods = [str(method.value) for method in trigger(name)["methods"]]
        assert (methods, trigger(name)["route"]) == (["GET", "HEAD"] if method == "GET" else [method], route)
    assert {*HTTP} == {*ROUTES, "zz_fallback"}


def test_the_fallback_is_tried_last_and_takes_every_method() -> None:
    """The host tries functions in the order of their names."""
    assert max(TRIGGERS) == "zz_fallback"
    assert trigger("zz_fallback").get("methods") is None


def test_no_function_needs_a_function_key() -> None:
    """Callers authenticate with their own tokens."""
    assert [name for name in HTTP if trigger(name)["authLevel"] != func.AuthLevel.ANONYMOUS] == []


def test_routes_have_no_prefix() -> None:
    """Routes are the paths of the contract, and none of them is the host's."""
    host = json.loads((ROOT / "host.json").read_text())
    assert host["extensions"]["http"]["routePrefix"] == ""
    assert not any(trigger(name)["route"].startswith(("/", "admin", "runtime")) for name in HTTP)


def test_the_sample_settings_disable_background_functions() -> None:
    """`func start` with the sample needs no storage."""
    values = json.loads((ROOT / "local.settings.sample.json").read_text())["Values"]
    background = {name for name in TRIGGERS if name not in HTTP}
    assert background == {"compare", "deliver", "follow_up", "measure", "retention", "sweep", "sweep_deliveries"}
    assert all(values[f"AzureWebJobs.{name}.Disabled"] == "true" for name in background)


def test_the_sample_settings_are_all_strings() -> None:
    """The host passes settings on as environment variables."""
    values = json.loads((ROOT / "local.settings.sample.json").read_text())["Values"]
    assert all(isinstance(value, str) for value in values.values())


def test_the_change_feed_triggers_following_up() -> None:
    """It starts from the beginning, polls often, and has its leases in an existing container."""
    feed = trigger("follow_up")
    assert (feed["type"], feed["connection"], feed["databaseName"]) == (
        "cosmosDBTrigger",
        "EVENTS_COSMOS",
        "%EVENTS_COSMOS_DATABASE%",
    )
    assert {feed["containerName"], feed["leaseContainerName"]} <= {container.name for container in CONTAINERS}
    assert (feed["leaseContainerPrefix"], feed["createLeaseContainerIfNotExists"]) == ("follow_up", False)
    assert (feed["feedPollDelay"], feed["maxItemsPerInvocation"], feed["startFromBeginning"]) == (500, 200, True)


def test_a_failed_batch_of_the_change_feed_is_retried_forever() -> None:
    """Without a retry policy the trigger would drop it."""
    function_app.app.functions_bindings = {}  # as in the local host, which explains it
    policies = {
        built.get_function_name(): built.get_settings_dict("retry_policy") for built in function_app.app.get_functions()
    }
    assert policies["follow_up"] == {
        "setting_name": "retry_policy",
        "strategy": "exponential_backoff",
        "max_retry_count": "-1",
        "minimum_interval": "00:00:01",
        "maximum_interval": "00:01:00",
    }


def test_functions_that_make_lanes_due_send_wakeups() -> None:
    """Another process serves the lanes; the queue uses the connection that triggers need anyway."""
    for name in ("follow_up", "sweep", "compare", "deliver", "sweep_deliveries"):
        (output,) = OUTPUTS[name]
        given = output["name"], output["queueName"], output["connection"]
        assert given == ("wakeups", "deliveries", "AzureWebJobsStorage"), name


def test_the_worker_accepts_the_types_of_parameters() -> None:
    """By the library's rules, another type would keep the function from being indexed."""
    converters: typing.Any = meta.get_binding_registry()  # type: ignore[no-untyped-call] # the library's
    for function in FUNCTIONS:
        hints = typing.get_type_hints(function.user_function)
        accepted = converters.get(function.trigger["type"]).check_input_type_annotation(hints[function.trigger["name"]])
        assert accepted is not False, function.name
        for output in function.outputs:
            assert typing.get_origin(hints[output["name"]]) is func.Out, function.name
            (value,) = typing.get_args(hints[output["name"]])
            assert converters.get(output["type"]).check_output_type_annotation(value), function.name


def test_the_queue_triggers_delivery() -> None:
    """An instance takes more messages at once than lanes have slots, so that each waits a second for a slot at most."""
    queue = trigger("deliver")
    assert (queue["type"], queue["queueName"], queue["connection"]) == (
        "queueTrigger",
        QUEUE,
        "AzureWebJobsStorage",
    )
    options = json.loads((ROOT / "host.json").read_text())["extensions"]["queues"]
    assert options["batchSize"] == 32  # the maximum of the host
    assert options["batchSize"] + options["newBatchThreshold"] > LANES
    assert options["messageEncoding"] == "none"


def test_timers_find_missed_work() -> None:
    """Pending streams are followed every ten seconds, all streams each night, due lanes served every five seconds."""
    timers = {name: trigger(name)["schedule"] for name in TRIGGERS if trigger(name)["type"] == "timerTrigger"}
    assert timers.items() >= {
        ("sweep", "*/10 * * * * *"),
        ("compare", "0 30 3 * * *"),
        ("sweep_deliveries", "*/5 * * * * *"),
    }
