metadata description = 'The storage account of the Functions host: its locks, the queue of deliveries, and the package.'

@description('The name of the account.')
@minLength(3)
@maxLength(24)
param accountName string

@description('The Azure region.')
param location string

@description('Tags.')
param tags object

@description('Whether its copies are spread over availability zones.')
param zoneRedundant bool

@description('Whether it is reached from outside of the virtual network.')
param publicAccess bool

var queueNames = ['deliveries', 'deliveries-poison']

resource account 'Microsoft.Storage/storageAccounts@2025-01-01' = {
  name: accountName
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS' }
  properties: {
    allowSharedKeyAccess: false
    allowBlobPublicAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: publicAccess ? 'Enabled' : 'Disabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: publicAccess ? 'Allow' : 'Deny'
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-01-01' = {
  parent: account
  name: 'default'
}

resource packages 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-01-01' = {
  parent: blobs
  name: 'packages'
  properties: { publicAccess: 'None' }
}

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2025-01-01' = {
  parent: account
  name: 'default'
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-01-01' = [
  for each in queueNames: {
    parent: queueService
    name: each
  }
]

@description('The resource id of the account.')
output accountId string = account.id

@description('The name of the account.')
output accountName string = account.name

@description('Where blobs are.')
output blobEndpoint string = account.properties.primaryEndpoints.blob

@description('Where queues are.')
output queueEndpoint string = account.properties.primaryEndpoints.queue

@description('Where tables are.')
output tableEndpoint string = account.properties.primaryEndpoints.table

@description('Where the package of the app is put.')
output deploymentContainerUrl string = '${account.properties.primaryEndpoints.blob}${packages.name}'
