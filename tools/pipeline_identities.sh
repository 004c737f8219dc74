#!/usr/bin/env bash
# Creates the identities that GitHub's workflows sign in as, and the variables by which the workflows find them:
#
#     REPOSITORY=your-org/events LOCATION=norwayeast tools/pipeline_identities.sh dev test prod
#
# It works in the subscription that `az` has selected, and needs the right to assign roles there (docs/deploying.md).
set -euo pipefail
: "${REPOSITORY:?the repository on GitHub, such as your-org/events}" "${LOCATION:?an Azure region}"
[ $# -gt 0 ] || { echo "Name the environments: dev test prod" >&2; exit 2; }

GROUP=rg-events-pipeline
SUBSCRIPTION=$(az account show --query id --output tsv)
TENANT=$(az account show --query tenantId --output tsv)

# The deploying identity may assign these roles and no others: those of infra/modules/roles.bicep.
ROLES=b7e6dc6d-f1e8-4753-8033-0f276bb0955b,974c5e8b-45b9-4653-ba55-5f855dd0fb88,0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3,4633458b-17de-408a-b874-0445c86b69e6,3913510d-42f4-4e42-8a64-420c390055eb
CONDITION="((!(ActionMatches{'Microsoft.Authorization/roleAssignments/write'})) OR (@Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {$ROLES})) AND ((!(ActionMatches{'Microsoft.Authorization/roleAssignments/delete'})) OR (@Resource[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {$ROLES}))"
PLAN="Events deployment plan $SUBSCRIPTION"  # names of roles are unique in a tenant

# federate NAME: an identity that GitHub's environment of this name signs in as.
federate() {
  az identity create --resource-group "$GROUP" --name "github-events-$1" --location "$LOCATION"
  az identity federated-credential create --resource-group "$GROUP" --identity-name "github-events-$1" \
    --name github --issuer https://token.actions.githubusercontent.com \
    --subject "repo:$REPOSITORY:environment:$1" --audiences api://AzureADTokenExchange
  gh api --method PUT "repos/$REPOSITORY/environments/$1"
  gh variable set AZURE_CLIENT_ID --repo "$REPOSITORY" --env "$1" --body "$(id_of "$1" clientId)"
  gh variable set AZURE_TENANT_ID --repo "$REPOSITORY" --env "$1" --body "$TENANT"
  gh variable set AZURE_SUBSCRIPTION_ID --repo "$REPOSITORY" --env "$1" --body "$SUBSCRIPTION"
  gh variable set AZURE_LOCATION --repo "$REPOSITORY" --env "$1" --body "$LOCATION"
}

id_of() {
  az identity show --resource-group "$GROUP" --name "github-events-$1" --query "$2" --output tsv
}

# assign NAME ROLE...: a role in the subscription.
assign() {
  az role assignment create --assignee-object-id "$(id_of "$1" principalId)" \
    --assignee-principal-type ServicePrincipal --scope "/subscriptions/$SUBSCRIPTION" --role "${@:2}"
}

az group create --name "$GROUP" --location "$LOCATION"
az role definition create --role-definition "{
  \"Name\": \"$PLAN\",
  \"Description\": \"Reads everything, and asks what a deployment would change.\",
  \"Actions\": [\"*/read\", \"Microsoft.Resources/deployments/whatIf/action\", \"Microsoft.Resources/deployments/validate/action\"],
  \"AssignableScopes\": [\"/subscriptions/$SUBSCRIPTION\"]
}"
for environment in "$@"; do
  federate "$environment"
  assign "$environment" Contributor
  assign "$environment" 'Locks Contributor'
  assign "$environment" 'Role Based Access Control Administrator' --condition "$CONDITION" --condition-version 2.0
  federate "$environment-plan"
  assign "$environment-plan" "$PLAN"
done
