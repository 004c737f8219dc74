metadata description = 'Logs, Application Insights with Entra authentication, and the receivers of alerts.'

@description('The part that the names of all resources share.')
param name string

@description('The Azure region.')
param location string

@description('Tags.')
param tags object

@description('Mail addresses that get alerts.')
param alertAddresses array

@description('Days to keep logs.')
@minValue(30)
@maxValue(730)
param retentionDays int = 90

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: 'log-${name}'
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: retentionDays
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-${name}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

resource actions 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${name}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'events'
    enabled: true
    emailReceivers: [
      for (address, index) in alertAddresses: {
        name: 'mail-${index}'
        emailAddress: address
        useCommonAlertSchema: true
      }
    ]
  }
}

@description('The name of the Application Insights component.')
output insightsName string = insights.name

@description('The connection string of Application Insights. It contains no secret, since local authentication is off.')
output connectionString string = insights.properties.ConnectionString

@description('The resource id of the action group, for alerts of other modules.')
output actionGroupId string = actions.id

@description('The resource id of the workspace that holds the logs.')
output workspaceId string = workspace.id
