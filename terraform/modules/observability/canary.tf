# The canary of CloudWatch Synthetics, for the profile that is built to the letter. Made as a stack of CloudFormation:
# the provider's own aws_synthetics_canary cannot let a canary speak IPv6 before its version 6, and the VPC has no other
# way out. The stack also takes the script as text, so that no zip has to be built.

locals {
  canary_name  = "${var.name}-ping"
  canary_count = var.canary == "synthetics" ? 1 : 0
  canary_store = "arn:${var.partition}:s3:::${local.canary_name}-${var.account_id}"
  canary_logs  = "arn:${var.partition}:logs:${var.region}:${var.account_id}:log-group:/aws/lambda/cwsyn-${local.canary_name}-*"

  # Lambda itself makes the interfaces; the last statement of the policy keeps the script from it.
  canary_network_actions = [
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
  ]

  canary_stack = var.canary != "synthetics" ? null : {
    AWSTemplateFormatVersion = "2010-09-09"
    Description              = "Asks /ping of ${var.name} as an uptime checker would"
    Resources = {
      Ping = {
        Type = "AWS::Synthetics::Canary"
        Properties = {
          Name                       = local.canary_name
          RuntimeVersion             = var.synthetics.runtime
          ExecutionRoleArn           = "arn:${var.partition}:iam::${var.account_id}:role/${local.canary_name}"
          ArtifactS3Location         = "s3://${local.canary_name}-${var.account_id}"
          StartCanaryAfterCreation   = true
          ProvisionedResourceCleanup = "AUTOMATIC" # its function goes with it
          SuccessRetentionPeriod     = 7
          FailureRetentionPeriod     = 31
          Schedule                   = { Expression = var.synthetics.schedule }
          Code                       = { Handler = "index.handler", Script = file("${path.module}/ping_canary.py") }
          RunConfig = {
            TimeoutInSeconds = 30
            MemoryInMB       = 960 # the least
            EnvironmentVariables = {
              PING_URL                   = var.synthetics.ping_url
              AWS_USE_DUALSTACK_ENDPOINT = "true" # or its results do not get out of the VPC
            }
          }
          VPCConfig = {
            SubnetIds               = var.synthetics.subnet_ids
            SecurityGroupIds        = var.synthetics.security_group_ids
            Ipv6AllowedForDualStack = true
          }
        }
      }
    }
  }
}

resource "aws_cloudformation_stack" "canary" {
  count = local.canary_count

  name          = local.canary_name
  template_body = jsonencode(local.canary_stack)

  depends_on = [aws_iam_role_policy.canary, aws_s3_bucket_policy.canary]
}

resource "aws_s3_bucket" "canary" {
  count = local.canary_count

  bucket        = "${local.canary_name}-${var.account_id}"
  force_destroy = true # logs of runs, which nobody misses
}

resource "aws_s3_bucket_public_access_block" "canary" {
  count = local.canary_count

  bucket                  = aws_s3_bucket.canary[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "canary" {
  count = local.canary_count

  bucket = aws_s3_bucket.canary[0].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "canary" {
  count = local.canary_count

  bucket = aws_s3_bucket.canary[0].id

  rule {
    id     = "runs"
    status = "Enabled"

    filter {}

    expiration {
      days = 7
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

data "aws_iam_policy_document" "canary_bucket" {
  count = local.canary_count

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.canary_store, "${local.canary_store}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "canary" {
  count = local.canary_count

  bucket = aws_s3_bucket.canary[0].id
  policy = data.aws_iam_policy_document.canary_bucket[0].json

  depends_on = [aws_s3_bucket_public_access_block.canary]
}

data "aws_iam_policy_document" "canary_trust" {
  count = local.canary_count

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "canary" {
  count = local.canary_count

  name               = local.canary_name
  description        = "What the canary ${local.canary_name} may do"
  assume_role_policy = data.aws_iam_policy_document.canary_trust[0].json
}

# The rights that CloudWatch's user guide asks for, as narrow as AWS has them.
data "aws_iam_policy_document" "canary" {
  count = local.canary_count

  statement {
    sid       = "KeepRuns"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${local.canary_store}/*"]
  }

  statement {
    sid       = "FindBucket"
    actions   = ["s3:GetBucketLocation"]
    resources = [local.canary_store]
  }

  statement {
    sid       = "ListBuckets"
    actions   = ["s3:ListAllMyBuckets"]
    resources = ["*"]
  }

  # Synthetics adds a random part to the name of the group.
  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
    resources = [local.canary_logs]
  }

  statement {
    sid       = "Measure"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = ["CloudWatchSynthetics"]
    }
  }

  statement {
    sid       = "LambdaMakesInterfaces"
    actions   = local.canary_network_actions
    resources = ["*"]
  }

  statement {
    sid       = "TheScriptDoesNot"
    effect    = "Deny"
    actions   = local.canary_network_actions
    resources = ["*"]

    condition {
      test     = "ArnLike"
      variable = "lambda:SourceFunctionArn"
      values   = ["arn:*:lambda:*:*:function:cwsyn-${local.canary_name}-*"]
    }
  }
}

resource "aws_iam_role_policy" "canary" {
  count = local.canary_count

  name   = "work"
  role   = aws_iam_role.canary[0].id
  policy = data.aws_iam_policy_document.canary[0].json
}
