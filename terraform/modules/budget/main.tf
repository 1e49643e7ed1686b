# What is spent, and what happens when it is too much. cost-publisher says every 15 minutes what the month has cost; when
# that reaches the cap, or AWS Budgets finds so, budget-killer stops every GPU and blocks the next start.

locals {
  # Put together from what is known, so that a plan shows in full who may do what, and who calls whom.
  kill_topic_arn = "arn:${var.partition}:sns:${var.region}:${var.account_id}:${aws_sns_topic.kill.name}"
  cap_alarm_arn  = "arn:${var.partition}:cloudwatch:${var.region}:${var.account_id}:alarm:${var.name}-spend-cap"
  alias_arns = {
    for key, function in module.function :
    key => "arn:${var.partition}:lambda:${var.region}:${var.account_id}:function:${function.function_name}:${function.alias_name}"
  }

  functions = {
    cost-publisher = {
      description = "Says every 15 minutes what the month has cost"
      timeout     = 3
      environment = merge(
        {
          TLFIF_BUCKET               = var.bucket
          TLFIF_BUDGET_EUR           = tostring(var.cap_eur)
          TLFIF_FIXED_USD_PER_MONTH  = tostring(var.fixed_usd_per_month)
          TLFIF_GPU_USD_PER_HOUR     = tostring(var.gpu_usd_per_hour)
          TLFIF_GPU_TYPE             = var.gpu_type
          TLFIF_FALLBACK_EUR_PER_USD = format("%.6f", 1 / var.usd_per_eur)
          TLFIF_BILL_HOURS           = tostring(var.bill_hours)
        },
        var.cost_tag == null ? {} : { TLFIF_COST_TAG = var.cost_tag },
      )
      policy = data.aws_iam_policy_document.publisher.json
    }
    budget-killer = {
      description = "Stops every GPU and blocks the next start"
      timeout     = 60 # it looks until no start can land any more
      environment = {
        TLFIF_BUCKET     = var.bucket
        TLFIF_BUDGET_EUR = tostring(var.cap_eur)
        TLFIF_GPU_TAG    = "${var.gpu_tag.name}=${var.gpu_tag.value}"
      }
      policy = data.aws_iam_policy_document.killer.json
    }
  }
}

# Both outside the VPC: Cost Explorer has IPv4 alone, and the killer is to need as little as possible.
module "function" {
  source   = "../function"
  for_each = local.functions

  name               = "${var.name}-${each.key}"
  description        = each.value.description
  handler            = "router_lambda.${replace(each.key, "-", "_")}.handler"
  package            = var.package
  architecture       = var.architecture
  timeout            = each.value.timeout
  environment        = each.value.environment
  policy_json        = each.value.policy
  log_retention_days = var.log_retention_days
}

data "aws_iam_policy_document" "publisher" {
  # Neither has a narrower resource for what is asked: all costs of the account, and a metric.
  statement {
    sid       = "AskForCosts"
    actions   = ["ce:GetCostAndUsage", "cloudwatch:GetMetricStatistics"]
    resources = ["*"]
  }

  statement {
    sid       = "KeepSpend"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${var.bucket_arn}/guard/spend.json"]
  }
}

data "aws_iam_policy_document" "killer" {
  statement {
    sid       = "FindGpus"
    actions   = ["ec2:DescribeInstances"]
    resources = ["*"] # EC2 knows no narrower one
  }

  statement {
    sid       = "StopGpus"
    actions   = ["ec2:StopInstances"]
    resources = [var.instances_arn]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${var.gpu_tag.name}"
      values   = [var.gpu_tag.value]
    }
  }

  statement {
    sid       = "Block"
    actions   = ["s3:PutObject"]
    resources = ["${var.bucket_arn}/guard/block.json"]
  }

  # Lambda does so in the function's name when the last try has failed.
  statement {
    sid       = "SayThatItFailed"
    actions   = ["sns:Publish"]
    resources = [var.alert_topic_arn]
  }
}

resource "aws_cloudwatch_event_rule" "publish" {
  name                = "${var.name}-cost-publisher"
  description         = "The month's spend is published"
  schedule_expression = var.schedule
}

resource "aws_cloudwatch_event_target" "publish" {
  rule      = aws_cloudwatch_event_rule.publish.name
  target_id = "cost-publisher"
  arn       = local.alias_arns["cost-publisher"]

  # By then the next one is due.
  retry_policy {
    maximum_event_age_in_seconds = 900
    maximum_retry_attempts       = 2
  }
}

resource "aws_lambda_permission" "publish" {
  statement_id  = "schedule"
  action        = "lambda:InvokeFunction"
  function_name = module.function["cost-publisher"].function_name
  qualifier     = module.function["cost-publisher"].alias_name
  principal     = "events.amazonaws.com"
  source_arn    = "arn:${var.partition}:events:${var.region}:${var.account_id}:rule/${aws_cloudwatch_event_rule.publish.name}"
}
