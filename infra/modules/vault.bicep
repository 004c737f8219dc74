metadata description = 'The vault that holds the two keys of the service; their values come from whoever deploys, never from here.'

@description('The name of the vault.')
@minLength(3)
@maxLength(24)
param vaultName string

@description('The Azure region.')
param location string

@description('Tags.')
param tags object

@description('Whether it is reached from outside of the virtual network.')
param publicAccess bool

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  name: vaultName
  location: location
  tags: tags
  properties: {
    tenantId: subscription().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    enablePurgeProtection: true
    softDeleteRetentionInDays: 90
    publicNetworkAccess: publicAccess ? 'Enabled' : 'Disabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: publicAccess ? 'Allow' : 'Deny'
    }
  }
}

@description('The resource id of the vault.')
output vaultId string = vault.id

@description('The name of the vault.')
output vaultName string = vault.name

@description('Where the vault answers, with a slash at its end.')
output vaultUri string = vault.properties.vaultUri
