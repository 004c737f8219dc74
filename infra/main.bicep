metadata description = 'The events component in its own resource group: Cosmos DB, Functions on Flex Consumption, and the resources they need. Nothing uses a shared key.'

targetScope = 'subscription'

@description('The environment. It is part of every name.')
@allowed(['dev', 'test', 'prod'])
param environmentName string

@description('The beginning of every name: 2 to 8 lower-case letters and digits.')
@minLength(2)
@maxLength(8)
param prefix string = 'events'

@description('The Azure region of all resources.')
@minLength(3)
param location string

@description('Tags of the resource group and its resources.')
param tags object = {}

@description('The public base URL of links, such as https://platform.example, without a slash at the end.')
@minLength(9)
param baseUrl string

@description('The URL of the decision point, for XACML JSON requests by POST.')
@minLength(9)
param pdpUrl string

@description('The Entra scope of the token for the decision point. Empty if it needs no token.')
param pdpScope string = ''

@description('Whether the decision point needs a subscription key. The app reads the key from the vault.')
param pdpNeedsSubscriptionKey bool = false

@description('The base URL of the Register API.')
@minLength(9)
param registerUrl string

@description('The Entra scope of the token for Register. Empty if it needs no token.')
param registerScope string = ''

@description('Issuers of bearer tokens: objects with issuer, and optionally jwks_uri and audience.')
param tokenIssuers array

@description('Key sets of PlatformAccessTokens: for each iss, an object with jwks_uri. * is for all others, with {iss} in its URL.')
param platformTokenIssuers object = {}

@description('The domain of the sources of app events. Empty allows any domain.')
param appsDomain string = ''

@description('The name of the certificate in the vault that signs the PlatformAccessToken for Register. Import it into the vault first. Empty for none.')
param platformCertificate string = ''

@description('Days to keep events.')
@minValue(2)
@maxValue(36500)
param retentionDays int = 90

@description('The maximum throughput of each of the busiest containers, in request units a second.')
@minValue(1000)
@maxValue(1000000)
param maxThroughput int = 4000

@description('The maximum throughput of each of the containers cursors, due and subscriptions, which following up and deliveries use. At least a fifth of maxThroughput.')
@minValue(1000)
@maxValue(1000000)
param progressThroughput int = 4000

@description('Whether Cosmos DB, the plan and the storage account use several availability zones.')
param zoneRedundant bool = true

@description('The number of always ready instances for requests, the same for following up, and the same for deliveries.')
@minValue(0)
@maxValue(20)
param alwaysReady int = 1

@description('The maximum number of instances. Each instance is one more writer of a busy stream.')
@minValue(1)
@maxValue(40)
param maximumInstances int = 40

@description('The number of concurrent requests of an instance. Group commit needs more than one.')
@minValue(2)
@maxValue(100)
param requestsPerInstance int = 32

@description('Whether the app reaches all resources through private endpoints in its own virtual network.')
param privateNetwork bool = true

@description('The address range of the virtual network.')
param addressPrefix string = '10.20.0.0/22'

@description('How far back Cosmos DB can be restored to a point in time.')
@allowed(['Continuous7Days', 'Continuous30Days'])
param backupTier string = 'Continuous30Days'

@description('The key that encrypts webhook secrets, base64 of 32 bytes. Give it once. Empty keeps the stored value.')
@secure()
param secretKey string = ''

@description('The key that names subjects and seals cursors, base64 of 32 bytes. Give it once and never change it. Empty keeps the stored value.')
@secure()
param subjectKey string = ''

@description('The subscription key of the decision point, if it needs one. Empty keeps the stored value.')
@secure()
param pdpSubscriptionKey string = ''

@description('Further settings of the service by name, such as EVENTS_ANONYMOUS_APPS. They override all others.')
param furtherSettings object = {}

@description('The name of a restored Cosmos DB account to use from now on. Empty for the account of this deployment.')
@maxLength(44)
param cosmosAccountName string = ''

@description('Mail addresses that get alerts. Empty for none.')
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
  // No route accepts a larger body, and the host reads a body before the app checks the token.
  FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: '2097152'
  EVENTS_MAX_WAITERS: string(requestsPerInstance / 2)
}
// Only for a certificate that is there: a reference to a missing secret would arrive as its own text, a bad setting.
var certificate = empty(platformCertificate) ? {} : { EVENTS_PLATFORM_CERTIFICATE: '${secrets}/${platformCertificate})' }
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
    settings: union(settings, pdpKey, certificate, furtherSettings)
  }
  dependsOn: [roles]
}

@description('The name of the function app, for the deployment of its package.')
output functionAppName string = functions.outputs.appName

@description('The URL of the function app.')
output functionAppUrl string = functions.outputs.url

@description('The name of the resource group.')
output resourceGroupName string = group.name
