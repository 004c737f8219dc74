"""List the property names of the resource types in infra/, taken from the models of the azure-mgmt packages.

    pip install --target models azure-mgmt-cosmosdb azure-mgmt-web azure-mgmt-storage azure-mgmt-keyvault \
        azure-mgmt-monitor azure-mgmt-network azure-mgmt-privatedns azure-mgmt-loganalytics \
        azure-mgmt-applicationinsights azure-mgmt-msi azure-mgmt-authorization 'azure-mgmt-resource<24'
    python tools/azure_properties.py models > infra/properties.json

The script reads the packages without importing them, so this project does not require them. The names of a type are
those of its model and of every model inside it, at any depth.
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
_UNESCAPED_DOT = re.compile(r"(?<!\\)\.")


@dataclass
class Model:
    """A model: its base classes, the JSON names of its members, and every word in the types of its members."""

    bases: tuple[str, ...] = ()
    names: set[str] = field(default_factory=set)
    mentioned: set[str] = field(default_factory=set)


def models_of(folder: Path) -> dict[str, Model]:
    """Every model of a package. Of several versions, the newest one counts."""
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
            for entry in ast.literal_eval(statement.value).values():
                model.names.update(name.replace("\\.", ".") for name in _UNESCAPED_DOT.split(entry["key"]))
                model.mentioned.update(_WORD.findall(entry["type"]))
    return model


def _add_field(model: Model, statement: ast.AnnAssign, value: ast.expr) -> None:
    """Add a member of a newer model. Its JSON name is the attribute's unless another one is given."""
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) in ("rest_field", "rest_discriminator")):
        return
    given = [ast.literal_eval(keyword.value) for keyword in value.keywords if keyword.arg == "name"]
    model.names.add(given[0] if given else ast.unparse(statement.target))
    model.mentioned.update(_WORD.findall(ast.unparse(statement.annotation)))


def names_of(models: dict[str, Model], name: str) -> set[str]:
    """The names of a model and of all models inside it, base classes included, and subclasses of models inside."""
    subclasses: dict[str, list[str]] = {}
    for subclass, model in models.items():
        for base in model.bases:
            subclasses.setdefault(base, []).append(subclass)
    names: set[str] = set()
    seen: set[str] = set()
    left = [name]
    while left:
        current = left.pop()
        if current in seen or current not in models:
            continue
        seen.add(current)
        for ancestor in _ancestors(models, current):
            names |= models[ancestor].names
            left += models[ancestor].mentioned
        left += subclasses.get(current, []) if current != name else []
    return names


def _ancestors(models: dict[str, Model], name: str) -> Iterator[str]:
    """A model and its base classes."""
    if name in models:
        yield name
        for base in models[name].bases:
            yield from _ancestors(models, base)


def main(packages: Path) -> None:
    """Print the names of every type as JSON."""
    listed = {}
    for kind, (package, model) in TYPES.items():
        names = names_of(models_of(packages / "azure/mgmt" / package), model)
        if not names:
            sys.exit(f"{kind}: there is no {model} in {package}")
        listed[kind] = sorted(names)
    print(json.dumps(listed, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
