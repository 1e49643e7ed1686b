# One Lambda function: its role, its log and the alias that everybody calls it by.

locals {
  alias = "prod"

  # Lambda itself makes the interfaces; the second statement of aws_iam_role_policy.network keeps the code from it.
  network_actions = [
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
  ]
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "this" {
  name               = var.name
  description        = "What the function ${var.name} may do"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy" "work" {
  name = "work"
  role = aws_iam_role.this.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      try(jsondecode(var.policy_json).Statement, []),
      [{
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.this.arn}:*"
      }],
      [for each in [true] : {
        Sid      = "Trace"
        Effect   = "Allow"
        Action   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
        Resource = "*"
      } if var.trace],
    )
  })
}

data "aws_iam_policy_document" "network" {
  statement {
    sid       = "LambdaMakesInterfaces"
    actions   = local.network_actions
    resources = ["*"]
  }

  statement {
    sid       = "TheCodeDoesNot"
    effect    = "Deny"
    actions   = local.network_actions
    resources = ["*"]

    condition {
      test     = "ArnLike"
      variable = "lambda:SourceFunctionArn"
      values   = ["arn:*:lambda:*:*:function:${var.name}"]
    }
  }
}

resource "aws_iam_role_policy" "network" {
  count = var.vpc == null ? 0 : 1

  name   = "network"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.network.json
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_lambda_function" "this" {
  function_name    = var.name
  description      = var.description
  role             = aws_iam_role.this.arn
  handler          = var.handler
  runtime          = "python3.12"
  architectures    = [var.architecture]
  memory_size      = 512
  timeout          = var.timeout
  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  publish          = true

  environment {
    variables = var.environment
  }

  tracing_config {
    mode = var.trace ? "Active" : "PassThrough"
  }

  dynamic "vpc_config" {
    for_each = var.vpc == null ? [] : [var.vpc]

    content {
      subnet_ids                  = vpc_config.value.subnet_ids
      security_group_ids          = vpc_config.value.security_group_ids
      ipv6_allowed_for_dual_stack = true
    }
  }

  # Lambda would make the log group itself, without an end to it, and refuses a role that cannot make interfaces.
  depends_on = [
    aws_cloudwatch_log_group.this,
    aws_iam_role_policy.network,
    aws_iam_role_policy.work,
  ]
}

# Callers know the alias alone, so that a version can be put back without touching them. Terraform makes it and publishes
# versions; where it leads from then on is a deployment's to say: docs/adr/ADR-2026-11-26-alias-moved-by-deploy.md.
resource "aws_lambda_alias" "prod" {
  name             = local.alias
  description      = "The version that is called"
  function_name    = aws_lambda_function.this.function_name
  function_version = aws_lambda_function.this.version

  lifecycle {
    ignore_changes = [function_version, routing_config]
  }
}
