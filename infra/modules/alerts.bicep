metadata description = 'Alerts on the gauges that the service writes each minute, on other log lines, on failed requests, and on throttling.'

@description('The part that the names of all resources share.')
param name string

@description('The Azure region.')
param location string

@description('Tags.')
param tags object

@description('The resource id of the workspace that holds the logs.')
param workspaceId string

@description('The resource id of the Cosmos DB account.')
param cosmosAccountId string

@description('The resource id of the action group.')
param actionGroupId string

var gauges = 'AppTraces | where Message has "gauges" | extend line = parse_json(Message) | where line.message == "gauges"'
var rules = [
  {
    name: 'unprojected'
    says: 'Events wait to be brought to their subjects, orgs and subscriptions: does follow_up run, is the store throttled?'
    severity: 1
    query: '${gauges} | project TimeGenerated, value = todouble(line.oldest_unprojected_seconds)'
    over: 300
  }
  {
    name: 'undelivered'
    says: 'Deliveries are due and not made: does deliver run, is the decision point up?'
    severity: 2
    query: '${gauges} | project TimeGenerated, value = todouble(line.oldest_undelivered_seconds)'
    over: 600
  }
  {
    name: 'dead-letters'
    says: 'Deliveries were given up: their subscribers have to mend their endpoints and replay.'
    severity: 3
    query: '${gauges} | sort by TimeGenerated asc | project TimeGenerated, dead = toint(line.dead_letters) | extend rise = dead - prev(dead) | where rise > 0 | summarize value = sum(rise)'
    over: 0
  }
  {
    name: 'parked'
    says: 'Events are held back from a stream or a subscription: find the reason in the log, then run replay-parked.'
    severity: 2
    query: '${gauges} | project TimeGenerated, value = todouble(line.parked)'
    over: 0
  }
  {
    name: 'stream-holes'
    says: 'A document is missing in a stream, and its readers stop before it.'
    severity: 0
    query: '${gauges} | project TimeGenerated, value = todouble(line.stream_holes)'
    over: 0
  }
  {
    name: 'certificate'
    says: 'The platform certificate ends in less than 21 days, and Register refuses the service after that: import a new one.'
    severity: 2
    query: '${gauges} | where isnotnull(line.certificate_days_left) | project TimeGenerated, value = 21 - todouble(line.certificate_days_left)'
    over: 0
  }
  {
    name: 'hole-met'
    says: 'A reader met a hole in a stream.'
    severity: 0
    query: 'AppTraces | where Message has "A stream has a hole" | summarize value = count()'
    over: 0
  }
  {
    name: 'failed-requests'
    says: 'Requests are answered with 5xx: health and the logs say why.'
    severity: 1
    query: 'AppRequests | where toint(ResultCode) >= 500 | summarize value = sum(ItemCount)'
    over: 10
  }
]

resource alert 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for each in rules: {
    name: 'alert-${name}-${each.name}'
    location: location
    tags: tags
    properties: {
      description: each.says
      severity: each.severity
      enabled: true
      scopes: [workspaceId]
      evaluationFrequency: 'PT5M'
      windowSize: 'PT15M'
      autoMitigate: true
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: each.query
            timeAggregation: 'Maximum'
            metricMeasureColumn: 'value'
            operator: 'GreaterThan'
            threshold: each.over
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      actions: { actionGroups: [actionGroupId] }
    }
  }
]

resource silence 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'alert-${name}-silence'
  location: location
  tags: tags
  properties: {
    description: 'The service has not measured itself for a quarter of an hour: it does not run, or its store does not answer.'
    severity: 0
    enabled: true
    scopes: [workspaceId]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    autoMitigate: true
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: gauges
          timeAggregation: 'Count'
          operator: 'LessThan'
          threshold: 1
          failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
        }
      ]
    }
    actions: { actionGroups: [actionGroupId] }
  }
}

// A question that fails once may be an outage. One in each quarter of an hour, four times in a row, is a fault.
resource undecidable 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'alert-${name}-undecidable'
  location: location
  tags: tags
  properties: {
    description: 'The decision point has failed on single questions for an hour: find the resource in the log, it may have no policy.'
    severity: 2
    enabled: true
    scopes: [workspaceId]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT15M'
    autoMitigate: true
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: 'AppTraces | where Message has "question undecidable"'
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
          failingPeriods: { numberOfEvaluationPeriods: 4, minFailingPeriodsToAlert: 4 }
        }
      ]
    }
    actions: { actionGroups: [actionGroupId] }
  }
}

resource throttling 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: 'alert-${name}-throttling'
  location: 'global'
  tags: tags
  properties: {
    description: 'Cosmos DB answers 429: the greatest throughput is too low, or one stream is too busy.'
    severity: 2
    enabled: true
    scopes: [cosmosAccountId]
    evaluationFrequency: 'PT1M'
    windowSize: 'PT5M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'throttled'
          criterionType: 'StaticThresholdCriterion'
          metricName: 'TotalRequests'
          metricNamespace: 'Microsoft.DocumentDB/databaseAccounts'
          dimensions: [{ name: 'StatusCode', operator: 'Include', values: ['429'] }]
          operator: 'GreaterThan'
          threshold: 100
          timeAggregation: 'Count'
        }
      ]
    }
    actions: [{ actionGroupId: actionGroupId }]
  }
}
