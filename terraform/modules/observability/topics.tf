# Where alarms go: `alerts` is mail for the working day, `page` wakes somebody.
#
# Neither topic has a KMS key. The key that AWS manages (alias/aws/sns) lets no alarm and no budget publish, and one of
# our own costs $1 a month, a twentieth of the budget. SNS keeps messages on encrypted disks in any case, and ours hold
# names of alarms and figures: no prompt, no reply, no token.

locals {
  # Terraform refuses to count by what is secret; whether there is a URL is none.
  has_pager = nonsensitive(var.pagerduty_url != null)

  # Put together from what is known, so that a plan shows policies and actions in full.
  topic_arns = {
    for key, topic in { alerts = aws_sns_topic.alerts, page = aws_sns_topic.page } :
    key => "arn:${var.partition}:sns:${var.region}:${var.account_id}:${topic.name}"
  }
}

resource "aws_sns_topic" "alerts" {
  #checkov:skip=CKV_AWS_26:no key lets alarms publish for nothing, see above
  name         = "${var.name}-alerts"
  display_name = "${var.name} alerts"
}

resource "aws_sns_topic" "page" {
  #checkov:skip=CKV_AWS_26:no key lets alarms publish for nothing, see above
  name         = "${var.name}-page"
  display_name = "${var.name} page"
}

# A topic without a policy lets the whole account in; with one of these, only the services that it names. A role of this
# account needs a right of its own: the killer of the budget alone has one, for `alerts`, to say that it failed.
data "aws_iam_policy_document" "alarms" {
  for_each = local.topic_arns

  statement {
    sid       = "Alarms"
    actions   = ["sns:Publish"]
    resources = [each.value]

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
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${var.partition}:cloudwatch:${var.region}:${var.account_id}:alarm:${var.name}-*"]
    }
  }
}

data "aws_iam_policy_document" "alerts" {
  source_policy_documents = [data.aws_iam_policy_document.alarms["alerts"].json]

  statement {
    sid       = "Budgets"
    actions   = ["sns:Publish"]
    resources = [local.topic_arns.alerts]

    principals {
      type        = "Service"
      identifiers = ["budgets.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${var.partition}:budgets::${var.account_id}:*"]
    }
  }
}

resource "aws_sns_topic_policy" "alerts" {
  arn    = local.topic_arns.alerts
  policy = data.aws_iam_policy_document.alerts.json
}

resource "aws_sns_topic_policy" "page" {
  arn    = local.topic_arns.page
  policy = data.aws_iam_policy_document.alarms["page"].json
}

resource "aws_sns_topic_subscription" "mail" {
  for_each = var.alert_email == null ? {} : local.topic_arns

  topic_arn = each.value
  protocol  = "email"
  endpoint  = var.alert_email
}

resource "aws_sns_topic_subscription" "pagerduty" {
  count = local.has_pager ? 1 : 0

  topic_arn              = local.topic_arns.page
  protocol               = "https"
  endpoint               = var.pagerduty_url
  endpoint_auto_confirms = true
}
