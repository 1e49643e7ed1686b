# The real provider with keys that open nothing, and plans alone: policies are computed as they would be in an account.

provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
}

variables {
  name                = "tl-fif"
  region              = "eu-central-1"
  account_id          = "123456789012"
  cap_eur             = 20
  alert_topic_arn     = "arn:aws:sns:eu-central-1:123456789012:tl-fif-alerts"
  alert_email         = "ops@example.org"
  package             = "main.tf" # any file will do for a plan
  architecture        = "arm64"
  bucket              = "tl-fif-replies"
  bucket_arn          = "arn:aws:s3:::tl-fif-replies"
  instances_arn       = "arn:aws:ec2:eu-central-1:123456789012:instance/*"
  gpu_tag             = { name = "env", value = "tinyllama" }
  gpu_usd_per_hour    = 0.658
  fixed_usd_per_month = 15
}

run "budget" {
  command = plan

  assert {
    condition = [
      aws_budgets_budget.month.budget_type, aws_budgets_budget.month.time_unit,
      aws_budgets_budget.month.limit_amount, aws_budgets_budget.month.limit_unit,
    ] == ["COST", "MONTHLY", "22.76", "USD"]
    error_message = "A month's costs are held against 20 euros, which are 22.76 dollars."
  }

  assert {
    condition = jsonencode({
      for each in aws_budgets_budget.month.notification : each.threshold => [
        each.comparison_operator, each.notification_type, each.threshold_type, each.subscriber_sns_topic_arns, each.subscriber_email_addresses,
      ]
      }) == jsonencode({
      100 = ["GREATER_THAN", "ACTUAL", "PERCENTAGE", ["arn:aws:sns:eu-central-1:123456789012:tl-fif-budget-kill"], ["ops@example.org"]]
      75  = ["GREATER_THAN", "ACTUAL", "PERCENTAGE", ["arn:aws:sns:eu-central-1:123456789012:tl-fif-alerts"], ["ops@example.org"]]
    })
    error_message = "At 75 % of the actual costs mail is sent, at 100 % the killer is called."
  }
}

run "budget_of_a_tag" {
  command = plan

  variables {
    cap_eur     = 0.01
    cost_tag    = "project=tl-fif"
    alert_email = null
  }

  assert {
    condition = (
      one(aws_budgets_budget.month.cost_filter).name == "TagKeyValue" &&
      one(aws_budgets_budget.month.cost_filter).values == tolist(["user:project$tl-fif"]) &&
      local.functions["cost-publisher"].environment.TLFIF_COST_TAG == "project=tl-fif"
    )
    error_message = "Budget and publisher count what has the tag, and nothing else."
  }

  assert {
    condition     = aws_budgets_budget.month.limit_amount == "0.01" && aws_cloudwatch_metric_alarm.spend["spend-cap"].threshold == 0.01
    error_message = "A cap of a cent, for a try of the shutdown, stays one."
  }

  assert {
    condition     = alltrue([for each in aws_budgets_budget.month.notification : length(each.subscriber_email_addresses == null ? [] : each.subscriber_email_addresses) == 0])
    error_message = "Without an address AWS Budgets sends no mail."
  }
}

run "alarms" {
  command = plan

  assert {
    condition = jsonencode({
      for key, alarm in aws_cloudwatch_metric_alarm.spend : key => [
        "${alarm.namespace} ${alarm.metric_name} ${alarm.statistic}", alarm.comparison_operator, alarm.threshold, alarm.period,
        alarm.datapoints_to_alarm, alarm.evaluation_periods, alarm.treat_missing_data, sort(alarm.alarm_actions),
      ]
      }) == jsonencode({
      spend-cap = ["TLFIF/Cost CurrentSpendEUR Maximum", "GreaterThanOrEqualToThreshold", 20, 300, 1, 1, "ignore", [
        "arn:aws:sns:eu-central-1:123456789012:tl-fif-alerts", "arn:aws:sns:eu-central-1:123456789012:tl-fif-budget-kill",
      ]]
      spend-warning = ["TLFIF/Cost CurrentSpendEUR Maximum", "GreaterThanOrEqualToThreshold", 15, 300, 1, 1, "ignore", [
        "arn:aws:sns:eu-central-1:123456789012:tl-fif-alerts",
      ]]
    })
    error_message = "At 15 euros a warning is sent; at 20 the killer is called, and that is said."
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.spend : alarm.actions_enabled && strcontains(alarm.alarm_description, "docs/runbook.md")])
    error_message = "Both alarms are on and say what to do."
  }

  assert {
    condition     = output.alarm_metrics == length(aws_cloudwatch_metric_alarm.spend)
    error_message = "The count of alarm metrics, which the cost tool reads, is not that of the alarms."
  }
}

run "who_may_kill" {
  command = plan

  assert {
    condition = jsondecode(aws_sns_topic_policy.kill.policy).Statement == [
      {
        Sid       = "Budget"
        Effect    = "Allow"
        Principal = { Service = "budgets.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = "arn:aws:sns:eu-central-1:123456789012:tl-fif-budget-kill"
        Condition = {
          ArnLike      = { "aws:SourceArn" = "arn:aws:budgets::123456789012:*" }
          StringEquals = { "aws:SourceAccount" = "123456789012" }
        }
      },
      {
        Sid       = "Alarm"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = "arn:aws:sns:eu-central-1:123456789012:tl-fif-budget-kill"
        Condition = {
          ArnEquals    = { "aws:SourceArn" = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:tl-fif-spend-cap" }
          StringEquals = { "aws:SourceAccount" = "123456789012" }
        }
      },
    ]
    error_message = "This account's budgets and the alarm on the cap may call the killer, and nobody else."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.spend["spend-cap"].alarm_name == "tl-fif-spend-cap"
    error_message = "The alarm has another name than the topic lets in."
  }
}

run "the_kill_arrives" {
  command = plan

  assert {
    condition = [
      aws_sns_topic_subscription.kill.topic_arn, aws_sns_topic_subscription.kill.protocol, aws_sns_topic_subscription.kill.endpoint,
      ] == [
      "arn:aws:sns:eu-central-1:123456789012:tl-fif-budget-kill", "lambda",
      "arn:aws:lambda:eu-central-1:123456789012:function:tl-fif-budget-killer:prod",
    ]
    error_message = "The topic calls the killer by its alias."
  }

  assert {
    condition = [
      aws_lambda_permission.kill.principal, aws_lambda_permission.kill.source_arn,
      aws_lambda_permission.kill.function_name, aws_lambda_permission.kill.qualifier,
    ] == ["sns.amazonaws.com", "arn:aws:sns:eu-central-1:123456789012:tl-fif-budget-kill", "tl-fif-budget-killer", "prod"]
    error_message = "Of SNS this topic alone may call the killer, by its alias."
  }

  assert {
    condition = (
      aws_lambda_function_event_invoke_config.kill.function_name == "tl-fif-budget-killer" &&
      aws_lambda_function_event_invoke_config.kill.qualifier == "prod" &&
      aws_lambda_function_event_invoke_config.kill.maximum_retry_attempts == 2 &&
      one(one(aws_lambda_function_event_invoke_config.kill.destination_config).on_failure).destination == "arn:aws:sns:eu-central-1:123456789012:tl-fif-alerts"
    )
    error_message = "What the killer cannot do it tries twice more, and then it is said."
  }
}

run "the_spend_is_published" {
  command = plan

  assert {
    condition = (
      aws_cloudwatch_event_rule.publish.schedule_expression == "rate(15 minutes)" &&
      aws_cloudwatch_event_target.publish.arn == "arn:aws:lambda:eu-central-1:123456789012:function:tl-fif-cost-publisher:prod"
    )
    error_message = "Every 15 minutes the publisher is called, by its alias."
  }

  assert {
    condition = [
      aws_lambda_permission.publish.principal, aws_lambda_permission.publish.source_arn,
      aws_lambda_permission.publish.function_name, aws_lambda_permission.publish.qualifier,
    ] == ["events.amazonaws.com", "arn:aws:events:eu-central-1:123456789012:rule/tl-fif-cost-publisher", "tl-fif-cost-publisher", "prod"]
    error_message = "Of EventBridge this rule alone may call the publisher, by its alias."
  }

  assert {
    condition     = [for key in ["cost-publisher", "budget-killer"] : local.functions[key].timeout] == [3, 60]
    error_message = "The publisher has 3 s, the killer 60."
  }

  assert {
    condition = local.functions["cost-publisher"].environment == {
      TLFIF_BUCKET               = "tl-fif-replies"
      TLFIF_BUDGET_EUR           = "20"
      TLFIF_FIXED_USD_PER_MONTH  = "15"
      TLFIF_GPU_USD_PER_HOUR     = "0.658"
      TLFIF_GPU_TYPE             = "g4dn.xlarge"
      TLFIF_FALLBACK_EUR_PER_USD = "0.878735"
      TLFIF_BILL_HOURS           = "24"
    }
    error_message = "The publisher's settings are others than its figures."
  }

  assert {
    condition = local.functions["budget-killer"].environment == {
      TLFIF_BUCKET     = "tl-fif-replies"
      TLFIF_BUDGET_EUR = "20"
      TLFIF_GPU_TAG    = "env=tinyllama"
    }
    error_message = "The killer's settings are others than its figures."
  }

  assert {
    condition     = output.function_names == { cost-publisher = "tl-fif-cost-publisher", budget-killer = "tl-fif-budget-killer" }
    error_message = "The functions have other names."
  }
}

run "least_privilege" {
  command = plan

  assert {
    condition = jsondecode(data.aws_iam_policy_document.publisher.json).Statement == [
      { Sid = "AskForCosts", Effect = "Allow", Action = ["cloudwatch:GetMetricStatistics", "ce:GetCostAndUsage"], Resource = "*" },
      { Sid = "KeepSpend", Effect = "Allow", Action = ["s3:PutObject", "s3:GetObject"], Resource = "arn:aws:s3:::tl-fif-replies/guard/spend.json" },
    ]
    error_message = "The publisher may do more, or less, than ask for costs and keep the spend."
  }

  assert {
    condition = jsondecode(data.aws_iam_policy_document.killer.json).Statement == [
      { Sid = "FindGpus", Effect = "Allow", Action = "ec2:DescribeInstances", Resource = "*" },
      {
        Sid       = "StopGpus"
        Effect    = "Allow"
        Action    = "ec2:StopInstances"
        Resource  = "arn:aws:ec2:eu-central-1:123456789012:instance/*"
        Condition = { StringEquals = { "aws:ResourceTag/env" = "tinyllama" } }
      },
      { Sid = "Block", Effect = "Allow", Action = "s3:PutObject", Resource = "arn:aws:s3:::tl-fif-replies/guard/block.json" },
      { Sid = "SayThatItFailed", Effect = "Allow", Action = "sns:Publish", Resource = "arn:aws:sns:eu-central-1:123456789012:tl-fif-alerts" },
    ]
    error_message = "The killer may do more, or less, than stop GPUs, block their start and say that it failed."
  }
}

run "refuses_nonsense" {
  command = plan

  variables {
    name                = "TL_FIF"
    region              = "Frankfurt"
    account_id          = "1234"
    cap_eur             = 0.001
    warn_percent        = 100
    usd_per_eur         = 0
    alert_topic_arn     = "tl-fif-alerts"
    alert_email         = "nobody"
    gpu_usd_per_hour    = 0
    fixed_usd_per_month = -1
    bill_hours          = 25
    cost_tag            = "project"
    schedule            = "rate(1 hour)"
  }

  expect_failures = [
    var.name, var.region, var.account_id, var.cap_eur, var.warn_percent, var.usd_per_eur, var.alert_topic_arn, var.alert_email,
    var.gpu_usd_per_hour, var.fixed_usd_per_month, var.bill_hours, var.cost_tag, var.schedule,
  ]
}
