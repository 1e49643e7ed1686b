output "kill_topic_arn" {
  description = "Topic that has every GPU stopped; whoever may publish there may do that."
  value       = local.kill_topic_arn
}

output "functions" {
  description = "Both functions by their short names: name, alias, ARNs, role and log group, see the module function."
  value       = module.function
}

output "function_names" {
  description = "Names of both functions by their short names."
  value       = { for key, function in module.function : key => function.function_name }
}

output "budget_name" {
  description = "Name of the budget in AWS Budgets."
  value       = aws_budgets_budget.month.name
}

output "alarm_names" {
  description = "Names of the alarms on the spend by their short names."
  value       = { for key, alarm in aws_cloudwatch_metric_alarm.spend : key => alarm.alarm_name }
}

output "alarm_metrics" {
  description = "How many metrics the alarms look at, each of which AWS bills as one alarm."
  value       = length(local.alarms)
}
