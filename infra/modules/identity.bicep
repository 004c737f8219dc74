metadata description = 'The identity under which the service reaches everything; there are no keys.'

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

@description('What roles are assigned to.')
output principalId string = identity.properties.principalId

@description('What connections name.')
output clientId string = identity.properties.clientId
