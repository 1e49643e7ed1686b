# Who is told when an execution fails: by mail, since Slack is told by the builds themselves, and those may not have run.

locals {
  topic_name = "${var.name}-delivery"
  topic_arn  = "arn:${var.partition}:sns:${local.here}:${local.topic_name}"
  rule_name  = "${var.name}-delivery-failed"
}

resource "aws_sns_topic" "failed" {
  #checkov:skip=CKV_AWS_26:AWS's own key for SNS lets no rule publish, and another one costs $1 a month
  name         = local.topic_name
  display_name = "${var.name} delivery"
}

data "aws_iam_policy_document" "failed" {
  statement {
    sid       = "FailedExecutions"
    actions   = ["sns:Publish"]
    resources = [local.topic_arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = ["arn:${var.partition}:events:${local.here}:rule/${local.rule_name}"]
    }
  }
}

resource "aws_sns_topic_policy" "failed" {
  arn    = aws_sns_topic.failed.arn
  policy = data.aws_iam_policy_document.failed.json
}

resource "aws_sns_topic_subscription" "mail" {
  count = var.alert_email == null ? 0 : 1

  topic_arn = aws_sns_topic.failed.arn
  protocol  = "email"
  endpoint  = var.alert_email
}

resource "aws_cloudwatch_event_rule" "failed" {
  name        = local.rule_name
  description = "An execution of the pipeline ${var.name} failed"

  event_pattern = jsonencode({
    source        = ["aws.codepipeline"]
    "detail-type" = ["CodePipeline Pipeline Execution State Change"]
    resources     = [local.pipeline_arn]
    detail        = { state = ["FAILED"] }
  })
}

resource "aws_cloudwatch_event_target" "mail" {
  rule      = aws_cloudwatch_event_rule.failed.name
  target_id = "mail"
  arn       = aws_sns_topic.failed.arn

  input_transformer {
    input_paths    = { execution = "$.detail.execution-id", at = "$.time" }
    input_template = "\"The pipeline ${var.name} failed at <at>: execution <execution>. Which stage, and why: ${local.console_url}/view . What to do: docs/runbook.md in the repository.\""
  }

  # Until the policy stands, a first failure would reach nobody.
  depends_on = [aws_sns_topic_policy.failed]
}
