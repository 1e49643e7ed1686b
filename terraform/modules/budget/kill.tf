# Who may have the GPUs stopped, and how that comes about.

resource "aws_sns_topic" "kill" {
  #checkov:skip=CKV_AWS_26:a key that lets budgets and alarms publish costs $1 a month, and what passes here is no secret
  name         = "${var.name}-budget-kill"
  display_name = "${var.name} budget is used up"
}

data "aws_iam_policy_document" "kill" {
  statement {
    sid       = "Budget"
    actions   = ["sns:Publish"]
    resources = [local.kill_topic_arn]

    principals {
      type        = "Service"
      identifiers = ["budgets.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.account_id]
    }

    # As AWS's user guide has it: which of the account's budgets speaks is not said there.
    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${var.partition}:budgets::${var.account_id}:*"]
    }
  }

  statement {
    sid       = "Alarm"
    actions   = ["sns:Publish"]
    resources = [local.kill_topic_arn]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.account_id]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [local.cap_alarm_arn]
    }
  }
}

resource "aws_sns_topic_policy" "kill" {
  arn    = local.kill_topic_arn
  policy = data.aws_iam_policy_document.kill.json
}

resource "aws_lambda_permission" "kill" {
  statement_id  = "budget"
  action        = "lambda:InvokeFunction"
  function_name = module.function["budget-killer"].function_name
  qualifier     = module.function["budget-killer"].alias_name
  principal     = "sns.amazonaws.com"
  source_arn    = local.kill_topic_arn
}

resource "aws_sns_topic_subscription" "kill" {
  topic_arn = local.kill_topic_arn
  protocol  = "lambda"
  endpoint  = local.alias_arns["budget-killer"]

  depends_on = [aws_lambda_permission.kill]
}

# What the killer could not do it tries twice more, a minute and two minutes later; then somebody has to do it by hand.
resource "aws_lambda_function_event_invoke_config" "kill" {
  function_name                = module.function["budget-killer"].function_name
  qualifier                    = module.function["budget-killer"].alias_name
  maximum_retry_attempts       = 2
  maximum_event_age_in_seconds = 21600 # the most there is: better late than never

  destination_config {
    on_failure {
      destination = var.alert_topic_arn
    }
  }

  depends_on = [module.function] # Lambda looks whether the role may publish there
}

# The provider keeps a filter that is no longer asked for: another tag, or none, takes another budget.
resource "terraform_data" "cost_tag" {
  input = var.cost_tag
}

# AWS's own count: up to a day late, but of everything, and by nobody's code but AWS's.
resource "aws_budgets_budget" "month" {
  name         = "${var.name}-month"
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_unit   = "USD"
  limit_amount = format("%.2f", var.cap_eur * var.usd_per_eur)

  dynamic "cost_filter" {
    for_each = var.cost_tag == null ? [] : [split("=", var.cost_tag)]

    content {
      name   = "TagKeyValue"
      values = [format("user:%s$%s", cost_filter.value...)]
    }
  }

  # Its own mails besides: a topic sends none before somebody has confirmed the address.
  dynamic "notification" {
    for_each = { (var.warn_percent) = var.alert_topic_arn, 100 = local.kill_topic_arn }

    content {
      comparison_operator        = "GREATER_THAN"
      notification_type          = "ACTUAL"
      threshold                  = notification.key
      threshold_type             = "PERCENTAGE"
      subscriber_sns_topic_arns  = [notification.value]
      subscriber_email_addresses = var.alert_email == null ? [] : [var.alert_email]
    }
  }

  lifecycle {
    replace_triggered_by = [terraform_data.cost_tag]
  }

  depends_on = [aws_sns_topic_policy.kill]
}
