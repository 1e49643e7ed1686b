# What an instance may do. Each has a role of its own, so that it can stop itself and no other.

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "gpu" {
  count = var.instances

  name               = "${var.name}-gpu-${count.index}"
  description        = "What the worker, the CloudWatch agent and the SSM agent on a GPU may do"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_instance_profile" "gpu" {
  count = var.instances

  name = aws_iam_role.gpu[count.index].name
  role = aws_iam_role.gpu[count.index].name
}

resource "aws_iam_role_policy" "work" {
  count = var.instances

  name = "work"
  role = aws_iam_role.gpu[count.index].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "WriteReplies"
          Effect   = "Allow"
          Action   = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"]
          Resource = "${var.bucket_arn}/replies/*"
        },
        # Without it S3 says of a reply that is not there that it may not be read.
        {
          Sid      = "TellAbsentFromForbidden"
          Effect   = "Allow"
          Action   = "s3:ListBucket"
          Resource = var.bucket_arn
        },
        {
          Sid      = "Log"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
          Resource = "${aws_cloudwatch_log_group.worker.arn}:*"
        },
        {
          Sid       = "Measure"
          Effect    = "Allow"
          Action    = "cloudwatch:PutMetricData"
          Resource  = "*"
          Condition = { StringEquals = { "cloudwatch:namespace" = "TLFIF/GPU" } }
        },
        # For a shell through Session Manager: there is no SSH.
        {
          Sid    = "Shell"
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
      ],
      [for arn in var.certificate_arn[*] : {
        Sid      = "TakeTheCertificate"
        Effect   = "Allow"
        Action   = "acm:ExportCertificate"
        Resource = arn
      }],
    )
  })
}

# Credentials that were carried off the instance stop nothing.
resource "aws_iam_role_policy" "stop" {
  count = var.instances

  name = "stop"
  role = aws_iam_role.gpu[count.index].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "StopItself"
      Effect    = "Allow"
      Action    = "ec2:StopInstances"
      Resource  = aws_instance.gpu[count.index].arn
      Condition = { ArnEquals = { "ec2:SourceInstanceARN" = aws_instance.gpu[count.index].arn } }
    }]
  })
}
