# The alarms on the spend. AWS bills each as one metric, see the output alarm_metrics.

locals {
  alarms = {
    spend-warning = {
      does      = "The month has cost ${var.warn_percent} % of ${var.cap_eur} euros. Use the GPU less, or raise cap_eur: at 100 % every GPU is stopped, and none starts before the next month."
      threshold = var.cap_eur * var.warn_percent / 100
      topics    = [var.alert_topic_arn]
    }
    spend-cap = {
      does      = "The month has cost ${var.cap_eur} euros, so every GPU is being stopped. Look whether EC2 says so too; what else runs goes on costing money. Raise cap_eur and apply to go on before the next month."
      threshold = var.cap_eur
      topics    = [local.kill_topic_arn, var.alert_topic_arn]
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "spend" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value.does} More in docs/runbook.md, \"It costs too much\"."
  namespace           = "TLFIF/Cost"
  metric_name         = "CurrentSpendEUR"
  statistic           = "Maximum"
  period              = 300
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = each.value.threshold
  evaluation_periods  = 1
  datapoints_to_alarm = 1
  treat_missing_data  = "ignore" # between two figures, and without any, the last one holds
  alarm_actions       = each.value.topics

  depends_on = [aws_sns_topic_policy.kill]
}
