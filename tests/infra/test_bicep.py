"""The Bicep files are well-formed and agree with the code and the Functions host."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import function_app
from events_core.adapters.cosmos.containers import CONTAINERS, Container
from events_core.adapters.gauges import MESSAGE
from events_core.operations.gauges import Gauges
from events_core.settings import _REQUIRED_WHEN_DEPLOYED, VARIABLES
from local.host import ROOT, functions_of
from tests.infra.bicep import File, faults, nodes, properties, text, unquoted, wrong_values
from tests.support import documents

INFRA = ROOT / "infra"
FILES = sorted(INFRA.rglob("*.bicep"))
MAIN = File.read(INFRA / "main.bicep")
PARAMETERS = sorted(INFRA.glob("*.bicepparam"))


# -- Well-formed ------------------------------------------------------------------------------------------------------


def test_no_file_has_a_fault() -> None:
    """Syntax, symbols, types, modules with their parameters, and descriptions are right."""
    assert [fault for path in FILES for fault in faults(path)] == []


def test_every_environment_gives_the_required_parameters() -> None:
    """No parameter is missing, unknown or outside its limits."""
    assert [fault for path in PARAMETERS for fault in wrong_values(File.read(path), MAIN)] == []


def test_there_are_three_environments() -> None:
    """Each allowed environment has a file of parameters. The file without an environment in its name is azd's."""
    assert {path.name.split(".")[1] for path in PARAMETERS if path.name != "main.bicepparam"} == {
        *MAIN.parameters["environmentName"].allowed
    }


def test_production_is_private_and_zone_redundant() -> None:
    """So is `test`, where changes are tried before production."""
    for name in ("test", "prod"):
        given = File.read(INFRA / f"main.{name}.bicepparam").declared("variable")
        assert [text(given[name].named_children[1]) for name in ("zoneRedundant", "privateNetwork")] == ["true", "true"]


PLANTED = {
    "a quote is left open": ("storage", "'StorageV2'", "'StorageV2", "syntax"),
    "a brace is left out": ("vault", "sku: {", "sku: ", "syntax"),
    "a symbol is misspelt": ("cosmos", "tier: backupTier", "tier: backupTeir", "backupTeir is not declared"),
    "a loop's variable is misspelt": ("storage", "name: each\n", "name: eech\n", "eech is not declared"),
    "a function is misspelt": ("main", "uniqueString(", "uniqeString(", "the function uniqeString is not known"),
    "a parameter is not used": ("cosmos", "Redundant: zoneRedundant", "Redundant: true", "zoneRedundant is not used"),
    "a variable is not used": ("functions", "? readyFor : []", "? [] : []", "readyFor is not used"),
    "a type has no version": ("identity", "@2023-01-31", "", "is no type with a version"),
    "a version is no date": ("identity", "@2023-01-31", "@2023-1-31", "is no type with a version"),
    "a version is a day that there is not": ("identity", "@2023-01-31", "@2023-02-31", "is no type with a version"),
    "a version is yet to come": ("identity", "@2023-01-31", "@2093-01-31", "is no type with a version"),
    "a type has no namespace": ("identity", "Microsoft.ManagedIdentity/", "", "is no type with a version"),
    "a module's file is misspelt": ("main", "modules/vault.bicep", "modules/valt.bicep", "there is no valt.bicep"),
    "a module's parameter is misspelt": ("main", "backupTier: ", "backupTeir: ", "has no parameter backupTeir"),
    "a module's parameter is missing": ("main", "    backupTier: backupTier\n", "", "wants the parameter backupTier"),
    "a module's output is misspelt": (
        "main",
        "s.outputs.endpoint",
        "s.outputs.endpiont",
        "cosmos has no output endpiont",
    ),
    "a member of a list is missing": ("alerts", "    severity: 2\n", "", "severity is missing"),
    "a member of a list is misspelt": ("alerts", "    over: 300", "    above: 300", "over is missing"),
    "a member of a list is not used": ("endpoints", "group: 'Sql',", "group: 'Sql', kind: 'x',", "kind is not used"),
    "a module has no scope": ("main", "  scope: group\n", "", "has no scope, and is of a resourceGroup"),
    "a resource has no name": ("vault", "  name: vaultName\n", "", "vault has no name"),
    "a resource is nowhere": ("vault", "  location: location\n", "", "vault has no location"),
    "a property is misspelt": (
        "cosmos",
        "disableLocalAuth:",
        "disableLocalAuthh:",
        "has no property disableLocalAuthh",
    ),
    "a property within is misspelt": (
        "functions",
        "maximumInstanceCount:",
        "maxInstanceCount:",
        "has no property maxInst",
    ),
    "a property of another type is used": ("vault", "enableSoftDelete:", "httpsOnly:", "has no property httpsOnly"),
    "a resource type is misspelt": ("network", "virtualNetworks@", "virtualNetwork@", "is not in the list of resource"),
    "a property of an alert is misspelt": ("alerts", "windowSize:", "windowsSize:", "has no property windowsSize"),
    "a parameter is not described": ("network", "@description('Tags.')\n", "", "the parameter tags is not described"),
}


def test_every_planted_error_is_found(tmp_path: Path) -> None:
    """The fault names the file and says what is wrong."""
    missed = []
    for planted, (name, was, is_now, said) in PLANTED.items():
        folder = tmp_path / planted
        shutil.copytree(INFRA, folder)
        path = folder / ("main.bicep" if name == "main" else f"modules/{name}.bicep")
        source = path.read_text()
        assert was in source, planted
        path.write_text(source.replace(was, is_now, 1))
        found = faults(path)
        if not any(said in fault for fault in found) or not all(fault.startswith(path.name) for fault in found):
            missed.append((planted, found))
    assert missed == []


WRONG_VALUES = [
    ("param location", "param locatoin", "there is no parameter locatoin"),
    ("param location = 'norwayeast'\n", "", "the parameter location is missing"),
    ("= 'prod'", "= 'production'", "environmentName is none of dev, test, prod"),
    ("= 'Continuous30Days'", "= 'Continuous3Days'", "backupTier is none of Continuous7Days, Continuous30Days"),
    ("= 'https://platform.prod.example'", "= 'https'", "baseUrl is below minLength"),
    ("param maxThroughput = 4000", "param maxThroughput = 400", "maxThroughput is below minValue"),
    ("param maxThroughput = 4000", "param maxThroughput = '4000'", "maxThroughput is no int"),
    ("param alwaysReady = 1", "param alwaysReady = 21", "alwaysReady is above maxValue"),
    ("param zoneRedundant = true", "param zoneRedundant = 'yes'", "zoneRedundant is no bool"),
    ("= 'norwayeast'", "= 'norwayeast'\nparam prefix = 'events-of-ours'", "prefix is above maxLength"),
]


def test_every_wrong_parameter_is_found(tmp_path: Path) -> None:
    """The fault names the parameter."""
    source = (INFRA / "main.prod.bicepparam").read_text()
    path = tmp_path / "main.prod.bicepparam"
    missed = []
    for was, is_now, said in WRONG_VALUES:
        assert was in source
        path.write_text(source.replace(was, is_now, 1))
        if not any(said in fault for fault in wrong_values(File.read(path), MAIN)):
            missed.append(said)
    assert missed == []


# -- Agreement with the code ------------------------------------------------------------------------------------------


def as_deployed(container: Container) -> dict[str, Any]:
    """A container as the resource provider expects it."""
    resource: dict[str, Any] = {
        "id": container.name,
        "partitionKey": {"paths": [container.partition_key], "kind": "Hash", "version": 2},
        "indexingPolicy": container.indexing_policy,
    }
    if container.unique_key_policy is not None:
        resource["uniqueKeyPolicy"] = container.unique_key_policy
    if container.default_ttl is not None:
        resource["defaultTtl"] = container.default_ttl
    return resource


def test_the_containers_are_those_of_the_code() -> None:
    """Partition keys and unique keys can never be changed after the first deployment."""
    assert json.loads((INFRA / "containers.json").read_text()) == [as_deployed(container) for container in CONTAINERS]
    assert "loadJsonContent('../containers.json')" in (INFRA / "modules/cosmos.bicep").read_text()


def settings() -> set[str]:
    """The names of the app's settings."""
    functions = File.read(INFRA / "modules/functions.bicep")
    connections = functions.declared("variable")["connections"].named_children[1]
    own = MAIN.declared("variable")["settings"].named_children[1]
    return {*properties(connections), *properties(own), "EVENTS_PDP_SUBSCRIPTION_KEY", "EVENTS_PLATFORM_CERTIFICATE"}


def test_the_app_gets_known_settings_and_every_required_one() -> None:
    """The service reads each setting of its own, and a deployment has each that it cannot start without."""
    ours = {name for name in settings() if name.startswith("EVENTS_")}
    assert ours - {*VARIABLES.values()} == {"EVENTS_COSMOS__credential"}
    required = {VARIABLES[field] for field in _REQUIRED_WHEN_DEPLOYED if field in VARIABLES}
    assert required | {VARIABLES["cosmos_account_endpoint"]} <= ours


def test_connections_use_the_managed_identity() -> None:
    """No connection holds a key. An app may have several identities, so the client id is given."""
    variables = File.read(INFRA / "modules/functions.bicep").declared("variable")
    given = {name: text(node) for name, node in properties(variables["connections"].named_children[1]).items()}
    assert {given[name] for name in given if name.endswith("__credential")} == {"'managedidentity'"}
    assert {given[name] for name in given if name.endswith("__clientId")} == {"identityClientId"}
    assert given["APPLICATIONINSIGHTS_AUTHENTICATION_STRING"] == "'ClientId=${identityClientId};Authorization=AAD'"


def test_every_connection_of_a_trigger_has_its_settings() -> None:
    """A connection by identity needs the address, the kind of credential and the client id."""
    functions = functions_of(function_app.app)
    bindings = [binding for function in functions for binding in (function.trigger, *function.outputs)]
    connections = {str(binding["connection"]) for binding in bindings if binding.get("connection")}
    assert connections == {"AzureWebJobsStorage", "EVENTS_COSMOS"}
    for name in connections:
        assert {f"{name}__credential", f"{name}__clientId"} <= settings()
    wanted = {f"AzureWebJobsStorage__{kind}ServiceUri" for kind in ("blob", "queue", "table")}
    assert wanted | {"EVENTS_COSMOS__accountEndpoint"} <= settings()


def test_functions_that_are_always_ready_exist() -> None:
    """`follow_up` and `deliver` are always ready, under their names in function_app.py."""
    source = (INFRA / "modules/functions.bicep").read_text()
    named = set(re.findall(r"'function:(\w+)'", source))
    assert named == {"follow_up", "deliver"}
    assert named <= {function.name for function in functions_of(function_app.app)}


def test_the_queues_are_those_of_the_functions() -> None:
    """The storage account has the queue of wake-ups and the queue for messages that the host gives up on."""
    names = File.read(INFRA / "modules/storage.bicep").declared("variable")["queueNames"]
    made = [unquoted(node) for node in nodes(names) if node.type == "string"]
    assert made == [function_app.QUEUE, f"{function_app.QUEUE}-poison"]


def test_each_gauge_has_an_alert() -> None:
    """Alerts read exactly the gauges that the service logs."""
    source = (INFRA / "modules/alerts.bicep").read_text()
    assert set(re.findall(r"line\.(\w+)", source)) - {"message"} == {gauge.name for gauge in fields(Gauges)}
    assert f'Message has "{MESSAGE}"' in source
    assert f'line.message == "{MESSAGE}"' in source


def limit_of(alert: dict[str, Any]) -> str:
    """The limit of an alert as the table shows it. What is left of a limit above 0 is a value below the limit."""
    below = re.search(r"value = (\d+) - ", text(alert["query"]))
    if below is None:
        return text(alert["over"])
    assert text(alert["over"]) == "0"
    return f"below {below[1]}"


def test_alerts_are_documented_with_their_limits() -> None:
    """The limit of each gauge stands in docs/operations.md, and each query returns the `value` to compare."""
    rules = File.read(INFRA / "modules/alerts.bicep").declared("variable")["rules"].named_children[1]
    alerts = [properties(alert) for alert in rules.named_children if alert.type == "object"]
    documented = documents.table(ROOT / "docs/operations.md", "gauge")
    assert {name: cells[1].replace("any new one", "0") for name, cells in documented.items()} == {
        match[1]: limit_of(alert) for alert in alerts if (match := re.search(r"line\.(\w+)\)", text(alert["query"])))
    }
    assert all(re.search(r"\bvalue = (\d+ - )?(todouble|sum|count)\(", text(alert["query"])) for alert in alerts)
    assert {unquoted(alert["name"]) for alert in alerts} >= {"failed-requests", "hole-met"}
    assert all(0 <= int(text(alert["severity"])) <= 4 for alert in alerts)


def test_alerts_read_messages_that_the_service_logs() -> None:
    """A message that was reworded in the code alone would silence its alert."""
    code = "".join(path.read_text() for path in (ROOT / "events_core").rglob("*.py"))
    messages = re.findall(r'Message has "([^"]+)"', (INFRA / "modules/alerts.bicep").read_text())
    assert len(messages) >= 2
    assert [message for message in messages if f'"{message}' not in code] == []


def test_log_lines_that_alerts_read_are_never_dropped() -> None:
    """Traces are not sampled, and the service logs at Information; the host's own lines about calls do not."""
    logging = json.loads((ROOT / "host.json").read_text())["logging"]
    assert "Trace" in logging["applicationInsights"]["samplingSettings"]["excludedTypes"].split(";")
    assert logging["logLevel"]["Function.*.User"] == "Information"
    assert logging["logLevel"]["Function"] == "Warning"
