"""The Bicep files: values that would hurt if they were wrong, in security, data, cost or alerts."""

from __future__ import annotations

import re
from typing import Any

import pytest

from events_core.adapters.cosmos.containers import CONTAINERS
from events_core.cloudevent.reading import MAX_BATCH_BYTES
from local.host import ROOT
from tests.infra.bicep import File, at, properties, text, unquoted

INFRA = ROOT / "infra"
FILES = sorted(INFRA.rglob("*.bicep"))
MAIN = File.read(INFRA / "main.bicep")
PARAMETERS = sorted(INFRA.glob("*.bicepparam"))
ACCOUNT = "Microsoft.DocumentDB/databaseAccounts"
DATA_ROLE = f"{ACCOUNT}/sqlRoleAssignments"
STORAGE, VAULT, SITE = "Microsoft.Storage/storageAccounts", "Microsoft.KeyVault/vaults", "Microsoft.Web/sites"
SCALE = "functionAppConfig.scaleAndConcurrency"
CLOSED = "publicAccess ? 'Allow' : 'Deny'"
SWITCHED = "publicAccess ? 'Enabled' : 'Disabled'"


def body(module: str, kind: str) -> Any:
    """The body of the one resource of a type in a module."""
    (found,) = [body for _, each, body in File.read(INFRA / f"modules/{module}.bicep").resources() if each == kind]
    return found


VALUES = [
    # Correctness: cursors and duplicates rely on them.
    ("cosmos", ACCOUNT, "consistencyPolicy.defaultConsistencyLevel", "'Strong'"),
    ("cosmos", ACCOUNT, "enableMultipleWriteLocations", "false"),
    # Loss of data.
    ("cosmos", ACCOUNT, "backupPolicy.type", "'Continuous'"),
    ("cosmos", ACCOUNT, "backupPolicy.continuousModeProperties.tier", "backupTier"),
    ("cosmos", ACCOUNT, "locations.0.isZoneRedundant", "zoneRedundant"),
    ("cosmos", "Microsoft.Authorization/locks", "level", "'CanNotDelete'"),
    ("vault", VAULT, "enableSoftDelete", "true"),
    ("vault", VAULT, "enablePurgeProtection", "true"),
    ("vault", VAULT, "softDeleteRetentionInDays", "90"),
    # Access.
    ("cosmos", ACCOUNT, "disableLocalAuth", "true"),
    ("cosmos", ACCOUNT, "disableKeyBasedMetadataWriteAccess", "true"),
    ("cosmos", ACCOUNT, "minimalTlsVersion", "'Tls12'"),
    ("cosmos", ACCOUNT, "publicNetworkAccess", SWITCHED),
    ("cosmos", DATA_ROLE, "roleDefinitionId", "'${account.id}/sqlRoleDefinitions/${contributor}'"),
    ("cosmos", DATA_ROLE, "principalId", "principalId"),
    ("cosmos", DATA_ROLE, "scope", "'${account.id}/dbs/${databaseName}'"),
    ("storage", STORAGE, "allowSharedKeyAccess", "false"),
    ("storage", STORAGE, "allowBlobPublicAccess", "false"),
    ("storage", STORAGE, "defaultToOAuthAuthentication", "true"),
    ("storage", STORAGE, "minimumTlsVersion", "'TLS1_2'"),
    ("storage", STORAGE, "supportsHttpsTrafficOnly", "true"),
    ("storage", STORAGE, "publicNetworkAccess", SWITCHED),
    ("storage", STORAGE, "networkAcls.defaultAction", CLOSED),
    ("storage", f"{STORAGE}/blobServices/containers", "publicAccess", "'None'"),
    ("vault", VAULT, "enableRbacAuthorization", "true"),
    ("vault", VAULT, "publicNetworkAccess", SWITCHED),
    ("vault", VAULT, "networkAcls.defaultAction", CLOSED),
    ("monitoring", "Microsoft.Insights/components", "DisableLocalAuth", "true"),
    ("functions", SITE, "httpsOnly", "true"),
    ("functions", SITE, "siteConfig.minTlsVersion", "'1.2'"),
    ("functions", SITE, "virtualNetworkSubnetId", "empty(subnetId) ? null : subnetId"),
    ("functions", SITE, "functionAppConfig.deployment.storage.authentication.type", "'UserAssignedIdentity'"),
    # Alerts.
    ("monitoring", "Microsoft.Insights/components", "WorkspaceResourceId", "workspace.id"),
    ("monitoring", "Microsoft.Insights/actionGroups", "enabled", "true"),
    # Cost and availability.
    ("functions", "Microsoft.Web/serverfarms", "zoneRedundant", "zoneRedundant"),
    ("functions", SITE, "siteConfig.healthCheckPath", "'/health'"),
    ("functions", SITE, f"{SCALE}.instanceMemoryMB", "2048"),
    ("functions", SITE, f"{SCALE}.maximumInstanceCount", "maximumInstances"),
    ("functions", SITE, f"{SCALE}.triggers.http.perInstanceConcurrency", "requestsPerInstance"),
]
"""Properties of resources whose wrong value would hurt: module, type, property, value."""


def test_properties_that_could_hurt_have_their_values() -> None:
    """A deliberate change of one changes the list too."""
    found = [(*key, at(body(*key[:2]), f"properties.{key[2]}")) for *key, _ in VALUES]
    assert [given for given, wanted in zip(found, VALUES, strict=True) if given != wanted] == []
    assert at(body("storage", STORAGE), "sku.name") == "zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS'"


def test_no_file_holds_a_secret() -> None:
    """The deployment gives the keys; the parameters are secure and empty by default."""
    for path in (INFRA / "main.bicep", INFRA / "modules/vault.bicep"):
        secure = re.findall(r"@secure\(\)\nparam (\w+) string = ''", path.read_text())
        assert secure == ["secretKey", "subjectKey", "pdpSubscriptionKey"]
    for path in PARAMETERS:
        for name, variable in (("secretKey", "SECRET_KEY"), ("subjectKey", "SUBJECT_KEY")):
            assert f"param {name} = readEnvironmentVariable('{variable}', '')" in path.read_text()


def test_the_app_reads_the_secrets_that_are_put_into_the_vault() -> None:
    """The settings are references that the platform resolves by the secret's name."""
    main, vault = (INFRA / "main.bicep").read_text(), (INFRA / "modules/vault.bicep").read_text()
    assert "var secrets = '@Microsoft.KeyVault(SecretUri=${vault.outputs.vaultUri}secrets'" in main
    read = re.findall(r"(EVENTS_\w+_KEY): '\$\{secrets\}/([\w-]+)\)'", main)
    assert dict(read) == {
        "EVENTS_SECRET_KEY": "secret-key",
        "EVENTS_SUBJECT_KEY": "subject-key",
        "EVENTS_PDP_SUBSCRIPTION_KEY": "pdp-subscription-key",
    }
    put = re.findall(r"vaults/secrets@.*?name: '([\w-]+)'", vault, re.DOTALL)
    assert sorted(put) == sorted(dict(read).values())


def test_the_app_reads_a_certificate_only_where_a_parameter_names_one() -> None:
    """The parameter is empty by default: a reference to a secret that is not there would be a bad setting."""
    main = (INFRA / "main.bicep").read_text()
    assert "\nparam platformCertificate string = ''\n" in main
    reference = "{ EVENTS_PLATFORM_CERTIFICATE: '${secrets}/${platformCertificate})' }"
    assert f"\nvar certificate = empty(platformCertificate) ? {{}} : {reference}\n" in main
    assert "settings: union(settings, pdpKey, certificate, furtherSettings)" in main
    assert main.count("EVENTS_PLATFORM_CERTIFICATE") == 1


def test_at_most_half_of_the_requests_may_wait() -> None:
    """The long-poll slots follow the number of requests an instance serves."""
    assert "EVENTS_MAX_WAITERS: string(requestsPerInstance / 2)" in (INFRA / "main.bicep").read_text()


def test_busy_containers_have_a_throughput_of_their_own() -> None:
    """1,000 RU/s would limit events and deliveries, and the containers that every page asks."""
    cosmos = File.read(INFRA / "modules/cosmos.bicep").declared("variable")["throughput"].named_children[1]
    events, progress = "maxThroughput", "progressThroughput"
    given = {name: text(node) for name, node in properties(cosmos).items()}
    assert given == {
        "streams": events,
        "deliveries": events,
        "cursors": progress,
        "due": progress,
        "subscriptions": progress,
    }
    assert {container.name for container in CONTAINERS} == {*given, "leases"}
    container = body("cosmos", f"{ACCOUNT}/sqlDatabases/containers")
    assert at(container, "properties.options.autoscaleSettings") == "{ maxThroughput: throughput[?each.id] ?? 1000 }"


def test_each_key_is_stored_under_its_own_name() -> None:
    """A deployment without a key leaves the stored one as it is."""
    vault = File.read(INFRA / "modules/vault.bicep")
    secrets = {name: body for name, kind, body in vault.resources() if kind == "Microsoft.KeyVault/vaults/secrets"}
    assert {at(body, "name"): at(body, "properties") for body in secrets.values()} == {
        "'secret-key'": "{ value: secretKey }",
        "'subject-key'": "{ value: subjectKey }",
        "'pdp-subscription-key'": "{ value: pdpSubscriptionKey }",
    }
    for name, body in secrets.items():
        value = (at(body, "properties.value") or "").strip()
        assert f"= if (!empty({value})) " + "{" in text(vault.declared("resource")[name])


def test_alerts_are_mailed_to_every_address() -> None:
    """The mails have the common alert schema."""
    receivers = at(body("monitoring", "Microsoft.Insights/actionGroups"), "properties.emailReceivers") or ""
    assert "for (address, index) in alertAddresses" in receivers
    for member in ("name: 'mail-${index}'", "emailAddress: address", "useCommonAlertSchema: true"):
        assert member in receivers


def test_the_host_limits_the_size_of_bodies() -> None:
    """The host reads a body before the service checks the token."""
    settings = properties(MAIN.declared("variable")["settings"].named_children[1])
    assert int(unquoted(settings["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"])) == 2 * MAX_BATCH_BYTES


def test_deployments_with_a_password_are_off() -> None:
    """FTP and the publishing profile are off."""
    kind = "Microsoft.Web/sites/basicPublishingCredentialsPolicies"
    bodies = [each for _, found, each in File.read(INFRA / "modules/functions.bicep").resources() if found == kind]
    assert {at(policy, "name"): at(policy, "properties.allow") for policy in bodies} == {
        "'ftp'": "false",
        "'scm'": "false",
    }


def test_the_identity_has_the_roles_it_needs_and_no_other() -> None:
    """It uses the data of one storage account, reads the secrets of one vault and sends telemetry."""
    roles = File.read(INFRA / "modules/roles.bicep")
    ids = {name: text(node.named_children[1]) for name, node in roles.declared("variable").items()}
    assert ids["vaultSecretsUser"] == "'4633458b-17de-408a-b874-0445c86b69e6'"
    assert ids["metricsPublisher"] == "'3913510d-42f4-4e42-8a64-420c390055eb'"
    on_storage = properties(roles.declared("variable")["storageRoles"].named_children[1])
    assert {name: unquoted(node) for name, node in on_storage.items()} == {
        "blobDataOwner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
        "queueDataContributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
        "tableDataContributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    }
    bodies = {name: body for name, kind, body in roles.resources() if kind == "Microsoft.Authorization/roleAssignments"}
    given = {name: (at(body, "scope"), at(body, "properties.roleDefinitionId")) for name, body in bodies.items()}
    assert given == {
        name: (scope, f"subscriptionResourceId('Microsoft.Authorization/roleDefinitions', {role})")
        for name, scope, role in (
            ("onStorage", "storage", "role.value"),
            ("onVault", "vault", "vaultSecretsUser"),
            ("onInsights", "insights", "metricsPublisher"),
        )
    }
    for body in bodies.values():
        assert (at(body, "properties.principalId"), at(body, "properties.principalType")) == (
            "principalId",
            "'ServicePrincipal'",
        )


ALERTS = {
    "alert": ("'Maximum'", "'GreaterThan'", "each.over", "each.query", "'PT5M'", 1),
    "silence": ("'Count'", "'LessThan'", "1", "gauges", "'PT5M'", 1),
    "undecidable": (
        "'Count'",
        "'GreaterThan'",
        "0",
        """'AppTraces | where Message has "question undecidable"'""",
        "'PT15M'",
        4,
    ),
}
"""The aggregation, operator, threshold and query of each alert, how often it looks, and how many windows must fail."""


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_on_a_query_is_enabled_and_notifies(name: str) -> None:
    """It looks at quarters of an hour, also before the tables exist. Undecidable questions count after four of them."""
    (body,) = [body for found, _, body in File.read(INFRA / "modules/alerts.bicep").resources() if found == name]
    aggregation, operator, threshold, query, frequency, windows = ALERTS[name]
    wanted = {
        "enabled": "true",
        "scopes": "[workspaceId]",
        "evaluationFrequency": frequency,
        "windowSize": "'PT15M'",
        "autoMitigate": "true",
        "skipQueryValidation": "true",
        "actions.actionGroups": "[actionGroupId]",
        "criteria.allOf.0.query": query,
        "criteria.allOf.0.timeAggregation": aggregation,
        "criteria.allOf.0.operator": operator,
        "criteria.allOf.0.threshold": threshold,
        "criteria.allOf.0.metricMeasureColumn": "'value'" if name == "alert" else None,
        "criteria.allOf.0.failingPeriods": (
            f"{{ numberOfEvaluationPeriods: {windows}, minFailingPeriodsToAlert: {windows} }}"
        ),
    }
    assert {path: at(body, f"properties.{path}") for path in wanted} == wanted


def test_the_alert_on_throttling_is_enabled_and_notifies() -> None:
    """The account counts the requests that it answers with 429."""
    (body,) = [
        body for found, _, body in File.read(INFRA / "modules/alerts.bicep").resources() if found == "throttling"
    ]
    wanted = {
        "enabled": "true",
        "scopes": "[cosmosAccountId]",
        "evaluationFrequency": "'PT1M'",
        "windowSize": "'PT5M'",
        "actions": "[{ actionGroupId: actionGroupId }]",
        "criteria.allOf.0.criterionType": "'StaticThresholdCriterion'",
        "criteria.allOf.0.metricName": "'TotalRequests'",
        "criteria.allOf.0.metricNamespace": f"'{ACCOUNT}'",
        "criteria.allOf.0.dimensions": "[{ name: 'StatusCode', operator: 'Include', values: ['429'] }]",
        "criteria.allOf.0.operator": "'GreaterThan'",
        "criteria.allOf.0.threshold": "100",
        "criteria.allOf.0.timeAggregation": "'Count'",
    }
    assert {path: at(body, f"properties.{path}") for path in wanted} == wanted
    kind = "'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'"
    assert kind in text(body)
    assert at(body, "location") == "'global'"


def test_no_template_reads_the_key_of_an_account() -> None:
    """Every connection uses an identity."""
    for path in FILES:
        assert not re.search(r"listKeys|AccountKey|primaryMasterKey|connectionStrings", path.read_text()), path.name


def test_an_instance_serves_enough_requests_to_commit_groups() -> None:
    """With one request at a time no two events would ever be committed together."""
    (default,) = [node for name, node in MAIN.declared("parameter").items() if name == "requestsPerInstance"]
    assert 16 <= int(text(default.named_children[2])) <= 32
