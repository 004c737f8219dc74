metadata description = 'The function app on Flex Consumption, with Python, connections by identity, and scaling per function.'

@description('The name of the app.')
@minLength(2)
@maxLength(60)
param appName string

@description('The Azure region.')
param location string

@description('Tags.')
param tags object

@description('Whether instances use several availability zones.')
param zoneRedundant bool

@description('The number of always ready instances for requests, the same for following up, and the same for deliveries.')
@minValue(0)
param alwaysReady int

@description('The maximum number of instances.')
@minValue(1)
@maxValue(40)
param maximumInstances int

@description('The number of concurrent requests of an instance.')
@minValue(2)
param requestsPerInstance int

@description('The resource id of the subnet of the app. Empty for none.')
param subnetId string

@description('The resource id of the identity of the app.')
param identityId string

@description('The client id of the identity of the app.')
param identityClientId string

@description('The URL of the blob container for the package.')
param deploymentContainerUrl string

@description('The connection string of Application Insights.')
param insightsConnectionString string

@description('Further settings of the app, by name.')
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

@description('The URL of the app.')
output url string = 'https://${app.properties.defaultHostName}'
