metadata description = 'The storage account of the Functions host, with its locks, the queue of deliveries, and the package.'

@description('The name of the account.')
@minLength(3)
@maxLength(24)
param accountName string

@description('The Azure region.')
param location string

@description('Tags.')
param tags object

@description('Whether copies use several availability zones.')
param zoneRedundant bool

@description('Whether the account is reachable from outside the virtual network.')
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

@description('The URL of the blob service.')
output blobEndpoint string = account.properties.primaryEndpoints.blob

@description('The URL of the queue service.')
output queueEndpoint string = account.properties.primaryEndpoints.queue

@description('The URL of the table service.')
output tableEndpoint string = account.properties.primaryEndpoints.table

@description('The URL of the blob container for the package of the app.')
output deploymentContainerUrl string = '${account.properties.primaryEndpoints.blob}${packages.name}'
