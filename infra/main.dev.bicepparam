using 'main.bicep'

param environmentName = 'dev'
param location = 'norwayeast'
param baseUrl = 'https://platform.dev.example'
param pdpUrl = 'https://platform.dev.example/authorization/api/v1/decision'
param registerUrl = 'https://platform.dev.example/register/api'
param tokenIssuers = [
  { issuer: 'https://platform.dev.example/authentication/api/v1/openid/' }
]
param platformTokenIssuers = {
  platform: { jwks_uri: 'https://platform.dev.example/authentication/api/v1/openid/.well-known/openid-configuration/jwks' }
}
param zoneRedundant = false
param privateNetwork = false
param alwaysReady = 0
param maxThroughput = 1000
param progressThroughput = 1000
param backupTier = 'Continuous7Days'

// Read from environment variables, so that no file contains them. docs/deploying.md says when they are needed.
param secretKey = readEnvironmentVariable('SECRET_KEY', '')
param subjectKey = readEnvironmentVariable('SUBJECT_KEY', '')
param pdpSubscriptionKey = readEnvironmentVariable('PDP_SUBSCRIPTION_KEY', '')
