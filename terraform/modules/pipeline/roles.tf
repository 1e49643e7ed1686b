# A role for the pipeline and one for each project: what a stage runs is in the repository, so that whoever may push may
# do what the role of a stage may, and no more. None may touch IAM but to hand Image Builder its own role.

locals {
  # What each project does besides, by name.
  rights = {
    test   = local.keep_reports
    bake   = concat(local.keep_state, local.apply_image, local.bake_image)
    deploy = concat(local.find_functions, local.shift_aliases, local.publish_functions)
    smoke  = concat(local.keep_replies, local.find_functions, local.shift_aliases)
  }

  keep_reports = [{
    Sid      = "KeepReports"
    Effect   = "Allow"
    Action   = "s3:PutObject"
    Resource = ["${local.bucket_arns.artifacts}/coverage/*", "${local.bucket_arns.artifacts}/sbom/*"]
  }]

  keep_replies = [{
    Sid      = "KeepReplies"
    Effect   = "Allow"
    Action   = "s3:PutObject"
    Resource = ["${local.bucket_arns.artifacts}/smoke/*"]
  }]

  # The connection's ARN tells which of its two names the service goes by; its own documents ask for both.
  clone = [for service in ["codeconnections", "codestar-connections"] : {
    Sid       = "Clone${service == "codeconnections" ? "" : "ByItsOldName"}"
    Effect    = "Allow"
    Action    = "${service}:UseConnection"
    Resource  = aws_codeconnections_connection.github.arn
    Condition = { "ForAllValues:StringEquals" = { "${service}:FullRepositoryId" = [var.repository] } }
  }]

  # To deploy and to go back.

  find_functions = [{
    Sid      = "FindFunctions"
    Effect   = "Allow"
    Action   = "lambda:ListFunctions"
    Resource = "*"
  }]

  shift_aliases = [
    {
      Sid    = "ShiftAliases"
      Effect = "Allow"
      Action = [
        "lambda:GetAlias",
        "lambda:GetFunctionConfiguration",
        "lambda:ListVersionsByFunction",
        "lambda:UpdateAlias",
      ]
      Resource = local.functions_arn
    },
    {
      Sid      = "Record"
      Effect   = "Allow"
      Action   = ["ssm:GetParameter", "ssm:GetParameterHistory", "ssm:PutParameter"]
      Resource = "${local.parameter_arn}/${var.name}/deployment"
    },
  ]

  publish_functions = [
    {
      Sid      = "Publish"
      Effect   = "Allow"
      Action   = ["lambda:ListAliases", "lambda:PublishVersion", "lambda:UpdateFunctionCode"]
      Resource = local.functions_arn
    },
    # By the version, before anybody else calls it.
    {
      Sid      = "Prove"
      Effect   = "Allow"
      Action   = "lambda:InvokeFunction"
      Resource = [for name in ["authorizer", "queue-health", "router"] : "arn:${var.partition}:lambda:${local.here}:function:${var.name}-${name}:*"]
    },
    # A version: the ARN of a function itself has nothing behind its name.
    {
      Sid      = "DeleteOldVersions"
      Effect   = "Allow"
      Action   = "lambda:DeleteFunction"
      Resource = "${local.functions_arn}:*"
    },
    {
      Sid      = "Watch"
      Effect   = "Allow"
      Action   = ["cloudwatch:DescribeAlarms", "cloudwatch:GetMetricStatistics", "ec2:DescribeInstances"]
      Resource = "*"
    },
    {
      Sid      = "CompareImages"
      Effect   = "Allow"
      Action   = "ssm:GetParameter"
      Resource = "${local.parameter_arn}/${var.name}/latest_ami_id"
    },
  ]
}

# The pipeline.

data "aws_iam_policy_document" "pipeline_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["codepipeline.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.account_id]
    }
  }
}

resource "aws_iam_role" "pipeline" {
  name               = "${var.name}-delivery-pipeline"
  description        = "What the pipeline may do: take the source and start the builds"
  assume_role_policy = data.aws_iam_policy_document.pipeline_trust.json
}

resource "aws_iam_role_policy" "pipeline" {
  name = "work"
  role = aws_iam_role.pipeline.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(local.clone, [
      {
        Sid      = "HandOn"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"]
        Resource = local.handed_on
      },
      {
        Sid      = "LookAtTheBucket"
        Effect   = "Allow"
        Action   = ["s3:GetBucketAcl", "s3:GetBucketLocation", "s3:GetBucketVersioning"]
        Resource = local.bucket_arns.artifacts
      },
      {
        Sid      = "Build"
        Effect   = "Allow"
        Action   = ["codebuild:BatchGetBuilds", "codebuild:StartBuild"]
        Resource = [for name in keys(local.projects) : "arn:${var.partition}:codebuild:${local.here}:project/${var.name}-${name}"]
      },
    ])
  })
}

# The projects.

data "aws_iam_policy_document" "build_trust" {
  for_each = local.projects

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["codebuild.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = ["arn:${var.partition}:codebuild:${local.here}:project/${var.name}-${each.key}"]
    }
  }
}

resource "aws_iam_role" "build" {
  for_each = local.projects

  name               = "${var.name}-delivery-${each.key}"
  description        = "What a build of ${var.name}-${each.key} may do"
  assume_role_policy = data.aws_iam_policy_document.build_trust[each.key].json
}

resource "aws_iam_role_policy" "build" {
  for_each = local.projects

  name = "work"
  role = aws_iam_role.build[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      local.clone,
      [
        {
          Sid      = "TakeWhatIsHandedOn"
          Effect   = "Allow"
          Action   = ["s3:GetObject", "s3:GetObjectVersion"]
          Resource = local.handed_on
        },
        {
          Sid      = "Log"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = "${aws_cloudwatch_log_group.this[each.key].arn}:*"
        },
      ],
      [for parameters in [values(each.value.secret)] : {
        Sid      = "ReadItsSecrets"
        Effect   = "Allow"
        Action   = "ssm:GetParameters"
        Resource = [for parameter in parameters : "${local.parameter_arn}${parameter}"]
      } if length(parameters) > 0],
      local.rights[each.key],
    )
  })
}
