metadata description = 'The function app on Flex Consumption: Python, connections by identity, functions that scale by themselves.'

@description('The name of the app.')
@minLength(2)
@maxLength(60)
param appName string

@description('The Azure region.')
param location string

@description('Tags.')
param tags object

@description('Whether instances are spread over availability zones.')
param zoneRedundant bool

@description('How many instances are always ready for requests, for following up and for delivering, each.')
@minValue(0)
param alwaysReady int

@description('The most instances.')
@minValue(1)
@maxValue(40)
param maximumInstances int

@description('How many requests an instance has at once.')
@minValue(2)
param requestsPerInstance int

@description('The subnet of the app; empty for none.')
param subnetId string

@description('The resource id of the identity of the app.')
param identityId string

@description('The client id of that identity.')
param identityClientId string

@description('Where the package is put.')
param deploymentContainerUrl string

@description('Where telemetry is sent to.')
param insightsConnectionString string

@description('The settings that are this deployment’s own, by name.')
param settings object

var connections = {
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  EVENTS_COSMOS__credential: 'managedidentity'
  EVENTS_COSMOS__clientId: identityClientId
  EVENTS_CLIENT_ID: identityClientId
  APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
}
var readyFor = ['http', 'function:follow_up', 'function:deliver']
var readied = alwaysReady > 0 ? readyFor : []

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: 'plan-${appName}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    tier: 'FlexConsumption'
    name: 'FC1'
  }
  properties: {
    reserved: true
    zoneRedundant: zoneRedundant
  }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: appName
  location: location
  tags: union(tags, { 'azd-service-name': 'functions' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identityId
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      minTlsVersion: '1.2'
      healthCheckPath: '/health'
      http20Enabled: true
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: deploymentContainerUrl
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: 2048
        maximumInstanceCount: maximumInstances
        alwaysReady: [
          for each in readied: {
            name: each
            instanceCount: alwaysReady
          }
        ]
        triggers: { http: { perInstanceConcurrency: requestsPerInstance } }
      }
    }
  }
}

resource appSettings 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: app
  name: 'appsettings'
  properties: union(connections, settings)
}

resource ftp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'ftp'
  properties: { allow: false }
}

resource scm 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'scm'
  properties: { allow: false }
}

@description('The name of the app.')
output appName string = app.name

@description('Where it answers.')
output url string = 'https://${app.properties.defaultHostName}'
