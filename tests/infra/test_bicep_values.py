"""The Bicep files: values that matter are what we want. Whoever changes one has to say so here."""

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
DEPLOYMENT = "properties.functionAppConfig.deployment.storage"
DATA_ROLE = f"{ACCOUNT}/sqlRoleAssignments"
NAMES, ENDPOINT = "Microsoft.Network/privateDnsZones", "Microsoft.Network/privateEndpoints"
LINKED, NAMED = "properties.privateLinkServiceConnections.0", "properties.privateDnsZoneConfigs.0"
NETWORK = "Microsoft.Network/virtualNetworks"
SCALE = "properties.functionAppConfig.scaleAndConcurrency"
BY_IDENTITY = "userAssignedIdentityResourceId"
CLOSED = "publicAccess ? 'Allow' : 'Deny'"
SWITCHED = "publicAccess ? 'Enabled' : 'Disabled'"


def body(module: str, kind: str) -> Any:
    """The body of the one resource of a type in a module."""
    (found,) = [body for _, each, body in File.read(INFRA / f"modules/{module}.bicep").resources() if each == kind]
    return found


@pytest.mark.parametrize(
    ("module", "kind", "path", "value"),
    [
        ("cosmos", ACCOUNT, "properties.consistencyPolicy.defaultConsistencyLevel", "'Strong'"),
        ("cosmos", ACCOUNT, "properties.enableMultipleWriteLocations", "false"),
        ("cosmos", ACCOUNT, "properties.disableLocalAuth", "true"),
        ("cosmos", ACCOUNT, "properties.disableKeyBasedMetadataWriteAccess", "true"),
        ("cosmos", ACCOUNT, "properties.minimalTlsVersion", "'Tls12'"),
        ("cosmos", ACCOUNT, "properties.backupPolicy.type", "'Continuous'"),
        ("cosmos", ACCOUNT, "properties.publicNetworkAccess", SWITCHED),
        ("cosmos", "Microsoft.Authorization/locks", "properties.level", "'CanNotDelete'"),
        ("cosmos", ACCOUNT, "kind", "'GlobalDocumentDB'"),
        ("cosmos", ACCOUNT, "properties.databaseAccountOfferType", "'Standard'"),
        ("cosmos", ACCOUNT, "properties.locations.0.locationName", "location"),
        ("cosmos", ACCOUNT, "properties.locations.0.failoverPriority", "0"),
        ("cosmos", ACCOUNT, "properties.locations.0.isZoneRedundant", "zoneRedundant"),
        ("cosmos", ACCOUNT, "properties.backupPolicy.continuousModeProperties.tier", "backupTier"),
        ("cosmos", ACCOUNT, "properties.enableBurstCapacity", "true"),
        ("cosmos", ACCOUNT, "properties.enablePartitionMerge", "false"),
        ("cosmos", f"{ACCOUNT}/sqlDatabases", "properties.resource", "{ id: databaseName }"),
        ("cosmos", f"{ACCOUNT}/sqlDatabases/containers", "properties.resource", "each"),
        ("cosmos", DATA_ROLE, "properties.roleDefinitionId", "'${account.id}/sqlRoleDefinitions/${contributor}'"),
        ("cosmos", DATA_ROLE, "properties.principalId", "principalId"),
        ("cosmos", DATA_ROLE, "properties.scope", "'${account.id}/dbs/${databaseName}'"),
        ("cosmos", DATA_ROLE, "dependsOn", "[database]"),
        ("endpoints", f"{NAMES}", "location", "'global'"),
        ("endpoints", f"{NAMES}/virtualNetworkLinks", "location", "'global'"),
        ("endpoints", f"{NAMES}/virtualNetworkLinks", "parent", "zones[index]"),
        ("endpoints", f"{NAMES}/virtualNetworkLinks", "properties.registrationEnabled", "false"),
        ("endpoints", f"{NAMES}/virtualNetworkLinks", "properties.virtualNetwork", "{ id: networkId }"),
        ("endpoints", ENDPOINT, "properties.subnet", "{ id: subnetId }"),
        ("endpoints", ENDPOINT, f"{LINKED}.name", "target.name"),
        ("endpoints", ENDPOINT, f"{LINKED}.properties.privateLinkServiceId", "target.id"),
        ("endpoints", ENDPOINT, f"{LINKED}.properties.groupIds", "[target.group]"),
        ("endpoints", f"{ENDPOINT}/privateDnsZoneGroups", "parent", "endpoints[index]"),
        ("endpoints", f"{ENDPOINT}/privateDnsZoneGroups", f"{NAMED}.name", "target.name"),
        (
            "endpoints",
            f"{ENDPOINT}/privateDnsZoneGroups",
            f"{NAMED}.properties",
            "{ privateDnsZoneId: zones[index].id }",
        ),
        ("storage", "Microsoft.Storage/storageAccounts", "properties.allowSharedKeyAccess", "false"),
        ("storage", "Microsoft.Storage/storageAccounts", "properties.allowBlobPublicAccess", "false"),
        ("storage", "Microsoft.Storage/storageAccounts", "properties.minimumTlsVersion", "'TLS1_2'"),
        ("storage", "Microsoft.Storage/storageAccounts", "properties.publicNetworkAccess", SWITCHED),
        ("vault", "Microsoft.KeyVault/vaults", "properties.enableRbacAuthorization", "true"),
        ("vault", "Microsoft.KeyVault/vaults", "properties.enablePurgeProtection", "true"),
        ("monitoring", "Microsoft.Insights/components", "properties.DisableLocalAuth", "true"),
        ("storage", "Microsoft.Storage/storageAccounts", "properties.defaultToOAuthAuthentication", "true"),
        ("storage", "Microsoft.Storage/storageAccounts", "properties.supportsHttpsTrafficOnly", "true"),
        ("storage", "Microsoft.Storage/storageAccounts", "properties.networkAcls.defaultAction", CLOSED),
        ("storage", "Microsoft.Storage/storageAccounts", "kind", "'StorageV2'"),
        ("storage", "Microsoft.Storage/storageAccounts", "sku.name", "zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS'"),
        ("storage", "Microsoft.Storage/storageAccounts/blobServices/containers", "properties.publicAccess", "'None'"),
        ("vault", "Microsoft.KeyVault/vaults", "properties.enableSoftDelete", "true"),
        ("vault", "Microsoft.KeyVault/vaults", "properties.softDeleteRetentionInDays", "90"),
        ("vault", "Microsoft.KeyVault/vaults", "properties.publicNetworkAccess", SWITCHED),
        ("vault", "Microsoft.KeyVault/vaults", "properties.networkAcls.defaultAction", CLOSED),
        ("vault", "Microsoft.KeyVault/vaults", "properties.tenantId", "subscription().tenantId"),
        ("vault", "Microsoft.KeyVault/vaults", "properties.sku.family", "'A'"),
        ("vault", "Microsoft.KeyVault/vaults", "properties.sku.name", "'standard'"),
        ("monitoring", "Microsoft.OperationalInsights/workspaces", "properties.sku", "{ name: 'PerGB2018' }"),
        ("monitoring", "Microsoft.Insights/components", "kind", "'web'"),
        ("monitoring", "Microsoft.Insights/components", "properties.Application_Type", "'web'"),
        ("monitoring", "Microsoft.Insights/actionGroups", "location", "'global'"),
        ("monitoring", "Microsoft.Insights/actionGroups", "properties.groupShortName", "'events'"),
        ("network", NETWORK, "properties.addressSpace", "{ addressPrefixes: [addressPrefix] }"),
        ("network", NETWORK, "properties.subnets.0.properties.addressPrefix", "cidrSubnet(addressPrefix, 25, 0)"),
        ("network", NETWORK, "properties.subnets.1.properties.addressPrefix", "cidrSubnet(addressPrefix, 25, 1)"),
        ("monitoring", "Microsoft.Insights/components", "properties.WorkspaceResourceId", "workspace.id"),
        ("monitoring", "Microsoft.Insights/actionGroups", "properties.enabled", "true"),
        ("functions", "Microsoft.Web/serverfarms", "kind", "'functionapp'"),
        ("functions", "Microsoft.Web/serverfarms", "sku.tier", "'FlexConsumption'"),
        ("functions", "Microsoft.Web/serverfarms", "sku.name", "'FC1'"),
        ("functions", "Microsoft.Web/serverfarms", "properties.reserved", "true"),
        ("functions", "Microsoft.Web/serverfarms", "properties.zoneRedundant", "zoneRedundant"),
        ("functions", "Microsoft.Web/sites", "kind", "'functionapp,linux'"),
        ("functions", "Microsoft.Web/sites", "identity.type", "'UserAssigned'"),
        ("functions", "Microsoft.Web/sites", "identity.userAssignedIdentities", "{ '${identityId}': {} }"),
        ("functions", "Microsoft.Web/sites", "properties.serverFarmId", "plan.id"),
        ("functions", "Microsoft.Web/sites", "properties.keyVaultReferenceIdentity", "identityId"),
        ("functions", "Microsoft.Web/sites", "properties.virtualNetworkSubnetId", "empty(subnetId) ? null : subnetId"),
        ("functions", "Microsoft.Web/sites", f"{DEPLOYMENT}.type", "'blobContainer'"),
        ("functions", "Microsoft.Web/sites", f"{DEPLOYMENT}.value", "deploymentContainerUrl"),
        ("functions", "Microsoft.Web/sites", f"{DEPLOYMENT}.authentication.{BY_IDENTITY}", "identityId"),
        ("functions", "Microsoft.Web/sites", "properties.functionAppConfig.runtime.name", "'python'"),
        ("functions", "Microsoft.Web/sites", f"{SCALE}.instanceMemoryMB", "2048"),
        ("functions", "Microsoft.Web/sites", f"{SCALE}.maximumInstanceCount", "maximumInstances"),
        ("functions", "Microsoft.Web/sites", f"{SCALE}.triggers.http.perInstanceConcurrency", "requestsPerInstance"),
        ("functions", "Microsoft.Web/sites/config", "name", "'appsettings'"),
        ("functions", "Microsoft.Web/sites/config", "properties", "union(connections, settings)"),
        ("functions", "Microsoft.Web/sites", "properties.httpsOnly", "true"),
        ("functions", "Microsoft.Web/sites", "properties.siteConfig.minTlsVersion", "'1.2'"),
        ("functions", "Microsoft.Web/sites", "properties.siteConfig.healthCheckPath", "'/health'"),
        ("functions", "Microsoft.Web/sites", "properties.functionAppConfig.runtime.version", "'3.13'"),
        ("functions", "Microsoft.Web/sites", f"{DEPLOYMENT}.authentication.type", "'UserAssignedIdentity'"),
    ],
)
def test_values_that_matter_are_what_we_want(module: str, kind: str, path: str, value: str) -> None:
    """Whoever changes one has to say so here."""
    assert at(body(module, kind), path) == value


def test_what_is_secret_is_in_no_file() -> None:
    """It is given by whoever deploys, marked as secure on its way, and has no default but nothing."""
    for path in (INFRA / "main.bicep", INFRA / "modules/vault.bicep"):
        secure = re.findall(r"@secure\(\)\nparam (\w+) string = ''", path.read_text())
        assert secure == ["secretKey", "subjectKey", "pdpSubscriptionKey"]
    for path in PARAMETERS:
        for name, variable in (("secretKey", "SECRET_KEY"), ("subjectKey", "SUBJECT_KEY")):
            assert f"param {name} = readEnvironmentVariable('{variable}', '')" in path.read_text()


def test_what_the_app_reads_from_the_vault_is_what_is_put_there() -> None:
    """By its name, in the way that the platform resolves."""
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


def test_half_of_the_requests_may_wait() -> None:
    """And no more, whatever their number is set to."""
    assert "EVENTS_MAX_WAITERS: string(requestsPerInstance / 2)" in (INFRA / "main.bicep").read_text()


def test_the_busy_containers_can_be_given_what_they_need() -> None:
    """Those of events and deliveries, and those that each page asks, which with 1,000 RU/s would be the limit."""
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
    assert {each.name for each in CONTAINERS} == {*given, "leases"}
    container = body("cosmos", f"{ACCOUNT}/sqlDatabases/containers")
    assert at(container, "properties.options.autoscaleSettings") == "{ maxThroughput: throughput[?each.id] ?? 1000 }"


def test_each_key_is_put_under_its_own_name() -> None:
    """And only when it is given."""
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


def test_alerts_are_mailed_to_whom_they_are_for() -> None:
    """Each address, by the common schema."""
    receivers = at(body("monitoring", "Microsoft.Insights/actionGroups"), "properties.emailReceivers") or ""
    assert "for (address, index) in alertAddresses" in receivers
    for member in ("name: 'mail-${index}'", "emailAddress: address", "useCommonAlertSchema: true"):
        assert member in receivers


def test_the_host_reads_no_larger_bodies_than_a_route_takes() -> None:
    """It reads them before anybody asks for a token."""
    settings = properties(MAIN.declared("variable")["settings"].named_children[1])
    assert int(unquoted(settings["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"])) == 2 * MAX_BATCH_BYTES


def test_nobody_deploys_with_a_password() -> None:
    """Neither by FTP nor by the publishing profile."""
    kind = "Microsoft.Web/sites/basicPublishingCredentialsPolicies"
    bodies = [each for _, found, each in File.read(INFRA / "modules/functions.bicep").resources() if found == kind]
    assert {at(each, "name"): at(each, "properties.allow") for each in bodies} == {"'ftp'": "false", "'scm'": "false"}


def test_the_identity_has_the_roles_that_it_needs_and_no_other() -> None:
    """On one storage account, one vault and one Application Insights: its data, reading secrets, sending telemetry."""
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


def test_the_app_is_put_where_functions_may_be_and_endpoints_elsewhere() -> None:
    """Two subnets, one of them handed to the platform."""
    (network,) = [each for _, _, each in File.read(INFRA / "modules/network.bicep").resources()]
    assert at(network, "properties.subnets.0.name") == "'app'"
    assert at(network, "properties.subnets.0.properties.delegations.0.properties") == (
        "{ serviceName: 'Microsoft.App/environments' }"
    )
    assert at(network, "properties.subnets.1.name") == "'endpoints'"
    assert at(network, "properties.subnets.2") is None


ALERTS = {
    "alert": ("'Maximum'", "'GreaterThan'", "each.over", "each.query"),
    "silence": ("'Count'", "'LessThan'", "1", "gauges"),
}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_on_a_query_is_on_and_tells_somebody(name: str) -> None:
    """Every five minutes, of a quarter of an hour; also before there is anything to query."""
    (body,) = [body for each, _, body in File.read(INFRA / "modules/alerts.bicep").resources() if each == name]
    aggregation, operator, threshold, query = ALERTS[name]
    wanted = {
        "enabled": "true",
        "scopes": "[workspaceId]",
        "evaluationFrequency": "'PT5M'",
        "windowSize": "'PT15M'",
        "autoMitigate": "true",
        "skipQueryValidation": "true",
        "actions.actionGroups": "[actionGroupId]",
        "criteria.allOf.0.query": query,
        "criteria.allOf.0.timeAggregation": aggregation,
        "criteria.allOf.0.operator": operator,
        "criteria.allOf.0.threshold": threshold,
        "criteria.allOf.0.metricMeasureColumn": "'value'" if name == "alert" else None,
        "criteria.allOf.0.failingPeriods": "{ numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }",
    }
    assert {path: at(body, f"properties.{path}") for path in wanted} == wanted


def test_the_alert_on_throttling_is_on_and_tells_somebody() -> None:
    """429, by the account's own count."""
    (body,) = [body for each, _, body in File.read(INFRA / "modules/alerts.bicep").resources() if each == "throttling"]
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


def test_no_key_is_asked_for_or_handed_out() -> None:
    """Every connection is by identity."""
    for path in FILES:
        assert not re.search(r"listKeys|AccountKey|primaryMasterKey|connectionStrings", path.read_text()), path.name


def test_requests_of_an_instance_can_be_gathered() -> None:
    """With one request at a time nothing would ever be committed together."""
    (default,) = [node for name, node in MAIN.declared("parameter").items() if name == "requestsPerInstance"]
    assert 16 <= int(text(default.named_children[2])) <= 32
