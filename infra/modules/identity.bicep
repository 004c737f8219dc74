metadata description = 'The identity that the service uses for every connection. There are no keys.'

@description('The name of the identity.')
param name string

@description('The Azure region.')
param location string

@description('Tags.')
param tags object

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: name
  location: location
  tags: tags
}

@description('The resource id of the identity.')
output identityId string = identity.id

@description('The principal id, for role assignments.')
output principalId string = identity.properties.principalId

@description('The client id, for connections.')
output clientId string = identity.properties.clientId
