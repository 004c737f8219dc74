using 'main.bicep'

param environmentName = 'prod'
param location = 'norwayeast'
param baseUrl = 'https://platform.prod.example'
param pdpUrl = 'https://platform.prod.example/authorization/api/v1/decision'
param registerUrl = 'https://platform.prod.example/register/api'
param tokenIssuers = [
  { issuer: 'https://platform.prod.example/authentication/api/v1/openid/' }
]
param platformTokenIssuers = {
  platform: { jwks_uri: 'https://platform.prod.example/authentication/api/v1/openid/.well-known/openid-configuration/jwks' }
}
param zoneRedundant = true
param privateNetwork = true
param alwaysReady = 1
param maxThroughput = 4000
param progressThroughput = 4000
param backupTier = 'Continuous30Days'

// Read from environment variables, so that no file contains them. docs/deploying.md says when they are needed.
param secretKey = readEnvironmentVariable('SECRET_KEY', '')
param subjectKey = readEnvironmentVariable('SUBJECT_KEY', '')
param pdpSubscriptionKey = readEnvironmentVariable('PDP_SUBSCRIPTION_KEY', '')
