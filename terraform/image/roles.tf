# Three roles: of the machine that builds, of Image Builder while it bakes, and of Image Builder while it cleans up.
#
# The latter two say what AWS's own policies for such roles say (EC2ImageBuilderExecutionPolicy and
# EC2ImageBuilderLifecycleExecutionPolicy, as of July 2026), without what serves containers, Windows, disk images,
# keys of our own, other accounts and regions, Inspector and inventories, and narrowed to what has our name.

locals {
  # Image Builder marks by it what it makes.
  made_here  = { "aws:RequestTag/CreatedBy" = "EC2 Image Builder" }
  made_there = { "aws:ResourceTag/CreatedBy" = "EC2 Image Builder" }

  ec2_arn    = "arn:${local.partition}:ec2:${var.region}:${local.account}"
  images_arn = "arn:${local.partition}:ec2:${var.region}::image/*"
  # Snapshots that EC2 makes have no account in their ARN.
  snapshots_arn = "arn:${local.partition}:ec2:${var.region}::snapshot/*"

  log_arns = flatten([
    for name in ["/aws/imagebuilder/${local.image}", "/aws/imagebuilder/pipeline/${local.image}"] : [
      "arn:${local.partition}:logs:${var.region}:${local.account}:log-group:${name}",
      "arn:${local.partition}:logs:${var.region}:${local.account}:log-group:${name}:*",
    ]
  ])

  write_logs = {
    Sid      = "Log"
    Effect   = "Allow"
    Action   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
    Resource = local.log_arns
  }
}

data "aws_iam_policy_document" "trust" {
  for_each = toset(["ec2", "imagebuilder"])

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["${each.key}.amazonaws.com"]
    }
  }
}

# The machine.

resource "aws_iam_role" "builder" {
  name               = "${var.name}-image-builder"
  description        = "What the machines that build and test the image may do"
  assume_role_policy = data.aws_iam_policy_document.trust["ec2"].json
}

resource "aws_iam_instance_profile" "builder" {
  name = aws_iam_role.builder.name
  role = aws_iam_role.builder.name
}

resource "aws_iam_role_policy" "builder" {
  name = "work"
  role = aws_iam_role.builder.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      # Image Builder gives its orders through Systems Manager.
      {
        Sid    = "TakeOrders"
        Effect = "Allow"
        Action = [
          "ssm:UpdateInstanceInformation",
          "ssmmessages:CreateControlChannel",
          "ssmmessages:CreateDataChannel",
          "ssmmessages:OpenControlChannel",
          "ssmmessages:OpenDataChannel",
        ]
        Resource = "*"
      },
      {
        Sid      = "ReadDocuments"
        Effect   = "Allow"
        Action   = "imagebuilder:GetComponent"
        Resource = "${local.builder_arn}:component/${local.image}-*"
      },
      # The program that carries them out comes from a bucket of AWS's.
      {
        Sid      = "ReadArchiveAndTools"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = ["${local.bucket_arn}/archives/*", "${local.bucket_arn}/records/*", "arn:${local.partition}:s3:::ec2imagebuilder*"]
      },
      {
        Sid      = "KeepLogsAndRecords"
        Effect   = "Allow"
        Action   = "s3:PutObject"
        Resource = ["${local.bucket_arn}/logs/*", "${local.bucket_arn}/records/*"]
      },
      local.write_logs,
    ]
  })
}

# Image Builder, while it bakes. Its own role, which it takes if it is given none, writes SSM parameters below
# imagebuilder/ alone, and ours is not.

resource "aws_iam_role" "pipeline" {
  name               = "${var.name}-image-pipeline"
  description        = "What Image Builder may do to bake the image"
  assume_role_policy = data.aws_iam_policy_document.trust["imagebuilder"].json
}

resource "aws_iam_role_policy" "pipeline" {
  name = "work"
  role = aws_iam_role.pipeline.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "Look"
          Effect   = "Allow"
          Resource = "*"
          Action = [
            "ec2:DescribeImages",
            "ec2:DescribeInstanceAttribute",
            "ec2:DescribeInstanceStatus",
            "ec2:DescribeInstanceTypeOfferings",
            "ec2:DescribeInstanceTypes",
            "ec2:DescribeInstances",
            "ec2:DescribeSnapshots",
            "ec2:DescribeSubnets",
            "ec2:DescribeTags",
            "ssm:DescribeInstanceInformation",
            "ssm:GetCommandInvocation",
            "ssm:ListCommandInvocations",
          ]
        },
        {
          Sid      = "LaunchFromImages"
          Effect   = "Allow"
          Action   = "ec2:RunInstances"
          Resource = [local.images_arn, local.snapshots_arn, "${local.ec2_arn}:network-interface/*"]
        },
        {
          Sid       = "LaunchInOurNetwork"
          Effect    = "Allow"
          Action    = "ec2:RunInstances"
          Resource  = ["${local.ec2_arn}:security-group/*", "${local.ec2_arn}:subnet/*"]
          Condition = { StringEquals = { "aws:ResourceTag/Name" = local.image } }
        },
        {
          Sid       = "LaunchMarked"
          Effect    = "Allow"
          Action    = "ec2:RunInstances"
          Resource  = ["${local.ec2_arn}:instance/*", "${local.ec2_arn}:volume/*"]
          Condition = { StringEquals = local.made_here }
        },
        {
          Sid       = "LaunchWithTheBuildersRole"
          Effect    = "Allow"
          Action    = "iam:PassRole"
          Resource  = "arn:${local.partition}:iam::${local.account}:role/${var.name}-image-builder"
          Condition = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
        },
        {
          Sid       = "StopAndEnd"
          Effect    = "Allow"
          Action    = ["ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances"]
          Resource  = "${local.ec2_arn}:instance/*"
          Condition = { StringEquals = local.made_there }
        },
        {
          Sid      = "Order"
          Effect   = "Allow"
          Action   = "ssm:SendCommand"
          Resource = "arn:${local.partition}:ssm:${var.region}::document/AWS-RunShellScript"
        },
        {
          Sid       = "OrderMarked"
          Effect    = "Allow"
          Action    = "ssm:SendCommand"
          Resource  = "${local.ec2_arn}:instance/*"
          Condition = { StringEquals = local.made_there }
        },
        {
          Sid       = "TakeTheImage"
          Effect    = "Allow"
          Action    = "ec2:CreateImage"
          Resource  = "${local.ec2_arn}:instance/*"
          Condition = { StringEquals = local.made_there }
        },
        {
          Sid       = "MakeTheImage"
          Effect    = "Allow"
          Action    = "ec2:CreateImage"
          Resource  = [local.images_arn, local.snapshots_arn]
          Condition = { StringEquals = local.made_here }
        },
        {
          Sid      = "DistributeTheImage"
          Effect   = "Allow"
          Action   = "ec2:CopyImage"
          Resource = [local.images_arn, local.snapshots_arn]
        },
        {
          Sid       = "NameTheImageOrDropIt"
          Effect    = "Allow"
          Action    = ["ec2:DeregisterImage", "ec2:ModifyImageAttribute"]
          Resource  = local.images_arn
          Condition = { StringEquals = local.made_there }
        },
        {
          Sid       = "MarkWhatIsMade"
          Effect    = "Allow"
          Action    = "ec2:CreateTags"
          Resource  = ["${local.ec2_arn}:*/*", local.images_arn, local.snapshots_arn]
          Condition = { StringEquals = merge(local.made_here, { "ec2:CreateAction" = ["CreateImage", "RunInstances"] }) }
        },
        {
          Sid       = "MarkSnapshots"
          Effect    = "Allow"
          Action    = "ec2:CreateTags"
          Resource  = local.snapshots_arn
          Condition = { StringEquals = local.made_here }
        },
        {
          Sid      = "TagTheImage"
          Effect   = "Allow"
          Action   = "ec2:CreateTags"
          Resource = local.images_arn
        },
        {
          Sid      = "PublishTheImage"
          Effect   = "Allow"
          Action   = ["ssm:GetParameter", "ssm:GetParameters", "ssm:PutParameter"]
          Resource = local.ami_parameter_arn
        },
        local.write_logs,
      ],
      [for topic in var.notify_topic_arn[*] : {
        Sid      = "Tell"
        Effect   = "Allow"
        Action   = "sns:Publish"
        Resource = topic
      }],
      [for schedule in var.schedule[*] : {
        Sid      = "BakeOnSchedule"
        Effect   = "Allow"
        Action   = ["imagebuilder:StartImagePipelineExecution", "imagebuilder:TagResource"]
        Resource = "${local.builder_arn}:image-pipeline/${local.image}"
      }],
    )
  })
}

# Image Builder, while it cleans up.

resource "aws_iam_role" "lifecycle" {
  name               = "${var.name}-image-lifecycle"
  description        = "What Image Builder may do to delete old images"
  assume_role_policy = data.aws_iam_policy_document.trust["imagebuilder"].json
}

resource "aws_iam_role_policy" "lifecycle" {
  name = "work"
  role = aws_iam_role.lifecycle.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Look"
        Effect   = "Allow"
        Action   = ["ec2:DescribeImages", "tag:GetResources"]
        Resource = "*"
      },
      {
        Sid       = "LookAtOurs"
        Effect    = "Allow"
        Action    = "ec2:DescribeImageAttribute"
        Resource  = local.images_arn
        Condition = { StringEquals = local.made_there }
      },
      # By the tag that the distribution gives: other images of Image Builder's are not ours.
      {
        Sid       = "DeleteOurs"
        Effect    = "Allow"
        Action    = "ec2:DeregisterImage"
        Resource  = local.images_arn
        Condition = { StringEquals = merge(local.made_there, { "aws:ResourceTag/project" = var.name }) }
      },
      {
        Sid       = "DeleteSnapshots"
        Effect    = "Allow"
        Action    = "ec2:DeleteSnapshot"
        Resource  = local.snapshots_arn
        Condition = { StringEquals = local.made_there }
      },
      {
        Sid      = "ForgetOurs"
        Effect   = "Allow"
        Action   = "imagebuilder:DeleteImage"
        Resource = "${local.builder_arn}:image/${local.image}/*"
      },
    ]
  })
}
