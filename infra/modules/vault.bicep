metadata description = 'The vault that holds the keys of the service. Their values come from the deployment, never from a file.'

@description('The name of the vault.')
@minLength(3)
@maxLength(24)
param vaultName string

@description('The Azure region.')
param location string

@description('Tags.')
param tags object

@description('Whether the vault is reachable from outside the virtual network.')
param publicAccess bool

@description('The key that encrypts webhook secrets, base64 of 32 bytes. Empty keeps the stored value.')
@secure()
param secretKey string = ''

@description('The key that names subjects and seals cursors, base64 of 32 bytes. Empty keeps the stored value.')
@secure()
param subjectKey string = ''

@description('The subscription key of the decision point. Empty keeps the stored value.')
@secure()
param pdpSubscriptionKey string = ''

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

// Secrets are set through Azure Resource Manager, since the deployment may not reach the vault itself.
resource storedSecretKey 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (!empty(secretKey)) {
  parent: vault
  name: 'secret-key'
  properties: { value: secretKey }
}

resource storedSubjectKey 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (!empty(subjectKey)) {
  parent: vault
  name: 'subject-key'
  properties: { value: subjectKey }
}

resource storedPdpSubscriptionKey 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (!empty(pdpSubscriptionKey)) {
  parent: vault
  name: 'pdp-subscription-key'
  properties: { value: pdpSubscriptionKey }
}

@description('The resource id of the vault.')
output vaultId string = vault.id

@description('The name of the vault.')
output vaultName string = vault.name

@description('The URL of the vault, with a slash at the end.')
output vaultUri string = vault.properties.vaultUri
