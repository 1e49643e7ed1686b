output "alert_topic_arn" {
  description = "Topic of what can wait for the morning; the budget publishes there too."
  value       = local.topic_arns.alerts

  # Who publishes before the policy stands is refused.
  depends_on = [aws_sns_topic_policy.alerts]
}

output "page_topic_arn" {
  description = "Topic of what wakes somebody."
  value       = local.topic_arns.page

  depends_on = [aws_sns_topic_policy.page]
}

output "dashboard_name" {
  description = "Name of the dashboard."
  value       = aws_cloudwatch_dashboard.this.dashboard_name
}

output "dashboard_url" {
  description = "Where the dashboard is to be seen, for who is signed in to the account."
  value       = "https://${var.region}.console.aws.amazon.com/cloudwatch/home?region=${var.region}#dashboards/dashboard/${aws_cloudwatch_dashboard.this.dashboard_name}"
}

output "alarm_names" {
  description = "Names of the alarms by their short names."
  value       = { for key, alarm in aws_cloudwatch_metric_alarm.this : key => alarm.alarm_name }
}

output "alarm_metrics" {
  description = "How many metrics the alarms look at, each of which AWS bills as one alarm."
  value       = sum([for alarm in local.alarms : length(alarm.metrics)])
}
