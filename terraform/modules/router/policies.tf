# What the code of each function calls. Start and stop are for instances with the GPU's tag alone.

locals {
  replies = "${var.bucket_arn}/replies/*"
  guard   = "${var.bucket_arn}/guard/*"
}

data "aws_iam_policy_document" "describe" {
  statement {
    sid       = "FindGpus"
    actions   = ["ec2:DescribeInstances"]
    resources = ["*"]
  }
}

data "aws_iam_policy_document" "start" {
  source_policy_documents = [data.aws_iam_policy_document.describe.json]

  statement {
    sid       = "StartGpus"
    actions   = ["ec2:StartInstances"]
    resources = [var.instances_arn]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${var.gpu_tag.name}"
      values   = [var.gpu_tag.value]
    }
  }

  statement {
    sid       = "ReadBudget"
    actions   = ["s3:GetObject"]
    resources = [local.guard]
  }

  # Without it S3 says of an object that is not there that it may not be read.
  statement {
    sid       = "TellAbsentFromForbidden"
    actions   = ["s3:ListBucket"]
    resources = [var.bucket_arn]
  }
}

data "aws_iam_policy_document" "stop" {
  source_policy_documents = [data.aws_iam_policy_document.describe.json]

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
}

data "aws_iam_policy_document" "router" {
  source_policy_documents   = [data.aws_iam_policy_document.start.json]
  override_policy_documents = [data.aws_iam_policy_document.stop.json]

  # The right that a signed address lends to whoever holds it.
  statement {
    sid       = "LendReplies"
    actions   = ["s3:GetObject"]
    resources = [local.replies]
  }
}

data "aws_iam_policy_document" "waker" {
  source_policy_documents = [data.aws_iam_policy_document.start.json]

  statement {
    sid       = "AnswerJobs"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = [local.replies]
  }
}

data "aws_iam_policy_document" "reaper" {
  source_policy_documents = [data.aws_iam_policy_document.stop.json]
}

data "aws_iam_policy_document" "gauges" {
  source_policy_documents = [data.aws_iam_policy_document.describe.json]
}
