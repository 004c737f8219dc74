metadata description = 'A private endpoint and a private DNS zone for each service that the app uses.'

@description('The part that the names of all resources share.')
param name string

@description('The Azure region.')
param location string

@description('Tags.')
param tags object

@description('The resource id of the virtual network that resolves the names.')
param networkId string

@description('The resource id of the subnet of the endpoints.')
param subnetId string

@description('The resource id of the Cosmos DB account.')
param cosmosAccountId string

@description('The resource id of the storage account.')
param storageAccountId string

@description('The resource id of the vault.')
param vaultId string

var targets = [
  { name: 'cosmos', id: cosmosAccountId, group: 'Sql', zone: 'privatelink.documents.azure.com' }
  { name: 'blob', id: storageAccountId, group: 'blob', zone: 'privatelink.blob.${environment().suffixes.storage}' }
  { name: 'queue', id: storageAccountId, group: 'queue', zone: 'privatelink.queue.${environment().suffixes.storage}' }
  { name: 'table', id: storageAccountId, group: 'table', zone: 'privatelink.table.${environment().suffixes.storage}' }
  { name: 'vault', id: vaultId, group: 'vault', zone: 'privatelink.vaultcore.azure.net' }
]

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for target in targets: {
    name: target.zone
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (target, index) in targets: {
    parent: zones[index]
    name: 'link-${name}'
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: { id: networkId }
    }
  }
]

resource endpoints 'Microsoft.Network/privateEndpoints@2024-05-01' = [
  for target in targets: {
    // An endpoint cannot change its target, so a restored account gets a new endpoint.
    name: 'pe-${name}-${target.name}-${uniqueString(target.id)}'
    location: location
    tags: tags
    properties: {
      subnet: { id: subnetId }
      privateLinkServiceConnections: [
        {
          name: target.name
          properties: {
            privateLinkServiceId: target.id
            groupIds: [target.group]
          }
        }
      ]
    }
  }
]

resource groups 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01' = [
  for (target, index) in targets: {
    parent: endpoints[index]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: target.name
          properties: { privateDnsZoneId: zones[index].id }
        }
      ]
    }
  }
]
