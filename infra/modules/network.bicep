metadata description = 'A virtual network with a subnet for the app and one for private endpoints.'

@description('The name of the network.')
param name string

@description('The Azure region.')
param location string

@description('Tags.')
param tags object

@description('The address range of the network, a /24 or larger.')
param addressPrefix string

resource network 'Microsoft.Network/virtualNetworks@2024-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [addressPrefix] }
    subnets: [
      {
        name: 'app'
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 25, 0)
          delegations: [
            {
              name: 'functions'
              properties: { serviceName: 'Microsoft.App/environments' }
            }
          ]
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 25, 1)
          privateEndpointNetworkPolicies: 'Enabled'
        }
      }
    ]
  }
}

@description('The resource id of the network.')
output networkId string = network.id

@description('The resource id of the subnet of the app.')
output appSubnetId string = network.properties.subnets[0].id

@description('The resource id of the subnet of private endpoints.')
output endpointsSubnetId string = network.properties.subnets[1].id
