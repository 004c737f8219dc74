"""The property names of the resource types that infra/ uses, from the models of the azure-mgmt packages.

    pip install --target models azure-mgmt-cosmosdb azure-mgmt-web azure-mgmt-storage azure-mgmt-keyvault \
        azure-mgmt-monitor azure-mgmt-network azure-mgmt-privatedns azure-mgmt-loganalytics \
        azure-mgmt-applicationinsights azure-mgmt-msi azure-mgmt-authorization 'azure-mgmt-resource<24'
    python tools/azure_properties.py models > infra/properties.json

The packages are read and not imported: they are no requirement of this project. A type's names are those of its model
and of every model within it, whatever is nested in what.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TYPES = {
    "Microsoft.Authorization/locks": ("resource/locks", "ManagementLockObject"),
    "Microsoft.Authorization/roleAssignments": ("authorization", "RoleAssignmentCreateParameters"),
    "Microsoft.DocumentDB/databaseAccounts": ("cosmosdb", "DatabaseAccountCreateUpdateParameters"),
    "Microsoft.DocumentDB/databaseAccounts/sqlDatabases": ("cosmosdb", "SqlDatabaseCreateUpdateParameters"),
    "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers": ("cosmosdb", "SqlContainerCreateUpdateParameters"),
    "Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments": ("cosmosdb", "SqlRoleAssignmentCreateUpdateParameters"),
    "Microsoft.Insights/actionGroups": ("monitor", "ActionGroupResource"),
    "Microsoft.Insights/components": ("applicationinsights", "ApplicationInsightsComponent"),
    "Microsoft.Insights/metricAlerts": ("monitor", "MetricAlertResource"),
    "Microsoft.Insights/scheduledQueryRules": ("monitor", "ScheduledQueryRuleResource"),
    "Microsoft.KeyVault/vaults": ("keyvault", "VaultCreateOrUpdateParameters"),
    "Microsoft.KeyVault/vaults/secrets": ("keyvault", "SecretCreateOrUpdateParameters"),
    "Microsoft.ManagedIdentity/userAssignedIdentities": ("msi", "Identity"),
    "Microsoft.Network/privateDnsZones": ("privatedns", "PrivateZone"),
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks": ("privatedns", "VirtualNetworkLink"),
    "Microsoft.Network/privateEndpoints": ("network", "PrivateEndpoint"),
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups": ("network", "PrivateDnsZoneGroup"),
    "Microsoft.Network/virtualNetworks": ("network", "VirtualNetwork"),
    "Microsoft.OperationalInsights/workspaces": ("loganalytics", "Workspace"),
    "Microsoft.Resources/resourceGroups": ("resource/resources", "ResourceGroup"),
    "Microsoft.Storage/storageAccounts": ("storage", "StorageAccountCreateParameters"),
    "Microsoft.Storage/storageAccounts/blobServices": ("storage", "BlobServiceProperties"),
    "Microsoft.Storage/storageAccounts/blobServices/containers": ("storage", "BlobContainer"),
    "Microsoft.Storage/storageAccounts/queueServices": ("storage", "QueueServiceProperties"),
    "Microsoft.Storage/storageAccounts/queueServices/queues": ("storage", "StorageQueue"),
    "Microsoft.Web/serverfarms": ("web", "AppServicePlan"),
    "Microsoft.Web/sites": ("web", "Site"),
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": ("web", "CsmPublishingCredentialsPoliciesEntity"),
    "Microsoft.Web/sites/config": ("web", "StringDictionary"),
}
_WORD = re.compile(r"\w+")


@dataclass
class Model:
    """A model: the names that its members have in JSON, and what other models its text speaks of."""

    bases: tuple[str, ...] = ()
    names: set[str] = field(default_factory=set)
    mentioned: set[str] = field(default_factory=set)


def models_of(folder: Path) -> dict[str, Model]:
    """Every model of a package, of its newest version where there are several."""
    files = sorted([*folder.rglob("_models_py3.py"), *folder.rglob("_models.py")], key=str)
    found: dict[str, Model] = {}
    for path in files:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = _model(node)
    return found


def _model(node: ast.ClassDef) -> Model:
    model = Model(tuple(ast.unparse(base).rpartition(".")[2] for base in node.bases))
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            _add_field(model, statement, statement.value)
        elif isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "_attribute_map":
            for key, kind in _mapped(statement.value):
                model.names.update(key.replace("\\.", "\0").replace(".", "\n").replace("\0", ".").split("\n"))
                model.mentioned.update(_WORD.findall(kind))
    return model


def _add_field(model: Model, statement: ast.AnnAssign, value: ast.expr) -> None:
    """A member of a newer model; without a name of its own it has the attribute's."""
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) in ("rest_field", "rest_discriminator")):
        return
    given = [ast.literal_eval(each.value) for each in value.keywords if each.arg == "name"]
    model.names.add(given[0] if given else ast.unparse(statement.target))
    model.mentioned.update(_WORD.findall(ast.unparse(statement.annotation)))


def _mapped(value: ast.expr) -> Iterator[tuple[str, str]]:
    for entry in ast.literal_eval(value).values():
        yield entry["key"], entry["type"]


def names_of(models: dict[str, Model], name: str) -> set[str]:
    """The names of a model, of what it is made from, of what is made from it, and of everything within them."""
    made_from: dict[str, list[str]] = {}
    for each, model in models.items():
        for base in model.bases:
            made_from.setdefault(base, []).append(each)
    names: set[str] = set()
    seen: set[str] = set()
    left = [name]
    while left:
        current = left.pop()
        if current in seen or current not in models:
            continue
        seen.add(current)
        for each in _ancestors(models, current):
            names |= models[each].names
            left += models[each].mentioned
        left += made_from.get(current, []) if current != name else []
    return names


def _ancestors(models: dict[str, Model], name: str) -> Iterator[str]:
    """A model, and those that it is made from."""
    if name in models:
        yield name
        for base in models[name].bases:
            yield from _ancestors(models, base)


def main(packages: Path) -> None:
    """Print the list as JSON."""
    listed = {}
    for kind, (package, model) in TYPES.items():
        names = names_of(models_of(packages / "azure/mgmt" / package), model)
        if not names:
            sys.exit(f"{kind}: there is no {model} in {package}")
        listed[kind] = sorted(names)
    print(json.dumps(listed, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
