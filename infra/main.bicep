metadata description = 'The events component in a resource group of its own: Cosmos DB, Functions on Flex Consumption, and what they need. No shared key anywhere.'

targetScope = 'subscription'

@description('Which environment this is; part of every name.')
@allowed(['dev', 'test', 'prod'])
param environmentName string

@description('What every name begins with: 2 to 8 lower-case letters and digits.')
@minLength(2)
@maxLength(8)
param prefix string = 'events'

@description('The Azure region of everything.')
@minLength(3)
param location string

@description('Tags of the resource group and of everything in it.')
param tags object = {}

@description('The public base of absolute links, such as https://platform.example, without a slash at its end.')
@minLength(9)
param baseUrl string

@description('Where XACML JSON decision requests are posted.')
@minLength(9)
param pdpUrl string

@description('The Entra scope of the token that is sent to the decision point; empty when it wants none.')
param pdpScope string = ''

@description('Whether the decision point wants a subscription key, which is then read from the vault.')
param pdpNeedsSubscriptionKey bool = false

@description('The base of the Register API.')
@minLength(9)
param registerUrl string

@description('The Entra scope of the token for Register; empty when it wants none.')
param registerScope string = ''

@description('Issuers of bearer tokens: objects with issuer, and jwks_uri and audience where they are wanted.')
param tokenIssuers array

@description('Key sets of PlatformAccessTokens: by iss, an object with jwks_uri.')
param platformTokenIssuers object = {}

@description('The domain that the sources of apps are under; empty for any.')
param appsDomain string = ''

@description('How many days events are kept.')
@minValue(1)
@maxValue(36500)
param retentionDays int = 90

@description('The greatest throughput that the busiest containers scale up to, in request units a second.')
@minValue(1000)
@maxValue(1000000)
param maxThroughput int = 4000

@description('The same of cursors, due and subscriptions, which following up and delivering ask: a fifth of it, or more.')
@minValue(1000)
@maxValue(1000000)
param progressThroughput int = 4000

@description('Whether Cosmos DB, the plan and storage are spread over availability zones.')
param zoneRedundant bool = true

@description('How many instances are always ready for requests, for following up and for delivering, each.')
@minValue(0)
@maxValue(20)
param alwaysReady int = 1

@description('The most instances that the app scales out to; every one more is another writer of busy streams.')
@minValue(1)
@maxValue(40)
param maximumInstances int = 40

@description('How many requests an instance has at once; group commit needs more than one.')
@minValue(2)
@maxValue(100)
param requestsPerInstance int = 32

@description('Whether everything is reached through private endpoints in a virtual network of its own.')
param privateNetwork bool = true

@description('The addresses of that network.')
param addressPrefix string = '10.20.0.0/22'

@description('How long Cosmos DB can be restored to any moment.')
@allowed(['Continuous7Days', 'Continuous30Days'])
param backupTier string = 'Continuous30Days'

@description('The key under which secrets of webhooks are stored, base64 of 32 bytes. Once; empty leaves it as it stands.')
@secure()
param secretKey string = ''

@description('The key that names subjects and seals cursors, base64 of 32 bytes. Once and never again; empty leaves it as it stands.')
@secure()
param subjectKey string = ''

@description('The subscription key of the decision point, if it wants one. Empty leaves it as it stands.')
@secure()
param pdpSubscriptionKey string = ''

@description('Further settings of the service by their names, such as EVENTS_ANONYMOUS_APPS; they come last and count.')
param furtherSettings object = {}

@description('The name of a Cosmos DB account that was restored and is to be used from now on; empty for the one of this deployment.')
@maxLength(44)
param cosmosAccountName string = ''

@description('Whom alerts are mailed to; empty for nobody.')
param alertAddresses array = []

var name = '${prefix}-${environmentName}'
var suffix = uniqueString(subscription().id, name, location)
var everyTag = union(tags, { component: 'events', environment: environmentName, 'azd-env-name': environmentName })

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${name}'
  location: location
  tags: everyTag
}

module identity 'modules/identity.bicep' = {
  scope: group
  params: {
    name: 'id-${name}'
    location: location
    tags: everyTag
  }
}

module monitoring 'modules/monitoring.bicep' = {
  scope: group
  params: {
    name: name
    location: location
    tags: everyTag
    alertAddresses: alertAddresses
  }
}

module network 'modules/network.bicep' = if (privateNetwork) {
  scope: group
  params: {
    name: 'vnet-${name}'
    location: location
    tags: everyTag
    addressPrefix: addressPrefix
  }
}

module cosmos 'modules/cosmos.bicep' = {
  scope: group
  params: {
    accountName: empty(cosmosAccountName) ? 'cosmos-${name}-${suffix}' : cosmosAccountName
    location: location
    tags: everyTag
    zoneRedundant: zoneRedundant
    maxThroughput: maxThroughput
    progressThroughput: progressThroughput
    backupTier: backupTier
    publicAccess: !privateNetwork
    principalId: identity.outputs.principalId
  }
}

module storage 'modules/storage.bicep' = {
  scope: group
  params: {
    accountName: take('st${prefix}${environmentName}${suffix}', 24)
    location: location
    tags: everyTag
    zoneRedundant: zoneRedundant
    publicAccess: !privateNetwork
  }
}

module vault 'modules/vault.bicep' = {
  scope: group
  params: {
    vaultName: take('kv-${name}-${suffix}', 24)
    location: location
    tags: everyTag
    publicAccess: !privateNetwork
    secretKey: secretKey
    subjectKey: subjectKey
    pdpSubscriptionKey: pdpSubscriptionKey
  }
}

module roles 'modules/roles.bicep' = {
  scope: group
  params: {
    principalId: identity.outputs.principalId
    storageAccountName: storage.outputs.accountName
    vaultName: vault.outputs.vaultName
    insightsName: monitoring.outputs.insightsName
  }
}

module endpoints 'modules/endpoints.bicep' = if (privateNetwork) {
  scope: group
  params: {
    name: name
    location: location
    tags: everyTag
    networkId: network!.outputs.networkId
    subnetId: network!.outputs.endpointsSubnetId
    cosmosAccountId: cosmos.outputs.accountId
    storageAccountId: storage.outputs.accountId
    vaultId: vault.outputs.vaultId
  }
}

module alerts 'modules/alerts.bicep' = {
  scope: group
  params: {
    name: name
    location: location
    tags: everyTag
    workspaceId: monitoring.outputs.workspaceId
    cosmosAccountId: cosmos.outputs.accountId
    actionGroupId: monitoring.outputs.actionGroupId
  }
}

var secrets = '@Microsoft.KeyVault(SecretUri=${vault.outputs.vaultUri}secrets'
var settings = {
  AzureWebJobsStorage__blobServiceUri: storage.outputs.blobEndpoint
  AzureWebJobsStorage__queueServiceUri: storage.outputs.queueEndpoint
  AzureWebJobsStorage__tableServiceUri: storage.outputs.tableEndpoint
  EVENTS_COSMOS__accountEndpoint: cosmos.outputs.endpoint
  EVENTS_COSMOS_DATABASE: cosmos.outputs.databaseName
  EVENTS_BASE_URL: baseUrl
  EVENTS_PDP_URL: pdpUrl
  EVENTS_PDP_SCOPE: pdpScope
  EVENTS_REGISTER_URL: registerUrl
  EVENTS_REGISTER_SCOPE: registerScope
  EVENTS_TOKEN_ISSUERS: string(tokenIssuers)
  EVENTS_PLATFORM_TOKEN_ISSUERS: string(platformTokenIssuers)
  EVENTS_APPS_DOMAIN: appsDomain
  EVENTS_RETENTION_DAYS: string(retentionDays)
  EVENTS_SECRET_KEY: '${secrets}/secret-key)'
  EVENTS_SUBJECT_KEY: '${secrets}/subject-key)'
  // Nothing larger is taken by any route, and the host reads a body before anybody asks for a token.
  FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: '2097152'
  EVENTS_MAX_WAITERS: string(requestsPerInstance / 2)
}
var pdpKey = pdpNeedsSubscriptionKey ? { EVENTS_PDP_SUBSCRIPTION_KEY: '${secrets}/pdp-subscription-key)' } : {}

module functions 'modules/functions.bicep' = {
  scope: group
  params: {
    appName: 'func-${name}-${suffix}'
    location: location
    tags: everyTag
    zoneRedundant: zoneRedundant
    alwaysReady: alwaysReady
    maximumInstances: maximumInstances
    requestsPerInstance: requestsPerInstance
    subnetId: privateNetwork ? network!.outputs.appSubnetId : ''
    identityId: identity.outputs.identityId
    identityClientId: identity.outputs.clientId
    deploymentContainerUrl: storage.outputs.deploymentContainerUrl
    insightsConnectionString: monitoring.outputs.connectionString
    settings: union(settings, pdpKey, furtherSettings)
  }
  dependsOn: [roles]
}

@description('The name of the function app, which the deployment of its package needs.')
output functionAppName string = functions.outputs.appName

@description('Where the function app answers.')
output functionAppUrl string = functions.outputs.url

@description('The resource group of it all.')
output resourceGroupName string = group.name
