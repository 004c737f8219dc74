using 'main.bicep'

// For `azd` on a developer's machine. Its environment is named dev, test or prod, and `azd env set` sets the rest.
param environmentName = readEnvironmentVariable('AZURE_ENV_NAME', 'dev')
param location = readEnvironmentVariable('AZURE_LOCATION', 'norwayeast')
param baseUrl = readEnvironmentVariable('BASE_URL', 'https://platform.dev.example')
param pdpUrl = readEnvironmentVariable('PDP_URL', 'https://platform.dev.example/authorization/api/v1/decision')
param registerUrl = readEnvironmentVariable('REGISTER_URL', 'https://platform.dev.example/register/api')
param tokenIssuers = json(readEnvironmentVariable('TOKEN_ISSUERS', '[]'))
param platformTokenIssuers = json(readEnvironmentVariable('PLATFORM_TOKEN_ISSUERS', '{}'))
param zoneRedundant = false
param privateNetwork = false
param alwaysReady = 0
param maxThroughput = 1000
param progressThroughput = 1000
param backupTier = 'Continuous7Days'
param secretKey = readEnvironmentVariable('SECRET_KEY', '')
param subjectKey = readEnvironmentVariable('SUBJECT_KEY', '')
param pdpSubscriptionKey = readEnvironmentVariable('PDP_SUBSCRIPTION_KEY', '')
