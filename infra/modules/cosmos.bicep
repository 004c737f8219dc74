metadata description = 'The Cosmos DB account, its database and every container. The service may not create them.'

@description('The name of the account.')
@minLength(3)
@maxLength(44)
param accountName string

@description('The Azure region.')
param location string

@description('Tags.')
param tags object

@description('Whether replicas use several availability zones.')
param zoneRedundant bool

@description('The maximum throughput of each of the busiest containers, in request units a second.')
@minValue(1000)
param maxThroughput int

@description('The maximum throughput of each of the containers cursors, due and subscriptions, in request units a second.')
@minValue(1000)
param progressThroughput int

@description('How far back the account can be restored to a point in time.')
@allowed(['Continuous7Days', 'Continuous30Days'])
param backupTier string

@description('Whether the account is reachable from outside the virtual network.')
param publicAccess bool

@description('The principal that reads and writes documents.')
param principalId string

@description('The name of the database.')
param databaseName string = 'events'

// A test compares this file with the containers that the code expects.
var containers = loadJsonContent('../containers.json')
var throughput = {
  streams: maxThroughput
  deliveries: maxThroughput
  cursors: progressThroughput
  due: progressThroughput
  subscriptions: progressThroughput
}
var contributor = '00000000-0000-0000-0000-000000000002'

resource account 'Microsoft.DocumentDB/databaseAccounts@2025-04-15' = {
  name: accountName
  location: location
  tags: tags
  kind: 'GlobalDocumentDB'
  properties: {
    databaseAccountOfferType: 'Standard'
    // With a weaker level, or a second write region, two events could get the same position (docs/storage.md).
    consistencyPolicy: { defaultConsistencyLevel: 'Strong' }
    enableMultipleWriteLocations: false
    locations: [
      {
        locationName: location
        failoverPriority: 0
        isZoneRedundant: zoneRedundant
      }
    ]
    disableLocalAuth: true
    disableKeyBasedMetadataWriteAccess: true
    minimalTlsVersion: 'Tls12'
    publicNetworkAccess: publicAccess ? 'Enabled' : 'Disabled'
    backupPolicy: {
      type: 'Continuous'
      continuousModeProperties: { tier: backupTier }
    }
    enableBurstCapacity: true
    enablePartitionMerge: false
  }
}

resource lock 'Microsoft.Authorization/locks@2020-05-01' = {
  scope: account
  name: 'keep'
  properties: {
    level: 'CanNotDelete'
    notes: 'It holds every event.'
  }
}

resource database 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases@2025-04-15' = {
  parent: account
  name: databaseName
  properties: {
    resource: { id: databaseName }
  }
}

resource container 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers@2025-04-15' = [
  for each in containers: {
    parent: database
    name: each.id
    properties: {
      resource: each
      options: {
        autoscaleSettings: { maxThroughput: throughput[?each.id] ?? 1000 }
      }
    }
  }
]

resource access 'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments@2025-04-15' = {
  parent: account
  name: guid(account.id, principalId, contributor)
  properties: {
    roleDefinitionId: '${account.id}/sqlRoleDefinitions/${contributor}'
    principalId: principalId
    scope: '${account.id}/dbs/${databaseName}'
  }
  dependsOn: [database]
}

@description('The resource id of the account.')
output accountId string = account.id

@description('The URL of the account.')
output endpoint string = account.properties.documentEndpoint

@description('The name of the database.')
output databaseName string = database.name
