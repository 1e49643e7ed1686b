# What the stage Bake may do: look at all of terraform/image, change what a change of the image's sources changes there,
# and start a build. A change of anything else there, of roles, network or machine, is refused, and is the owner's to
# apply by hand. tests/infra/test_bake_rights.py holds this against the calls that Terraform makes.

locals {
  image             = "${var.name}-gpu-node"
  image_bucket_arn  = "arn:${var.partition}:s3:::${var.name}-image-${var.account_id}-${var.region}"
  image_roles_arn   = "${local.roles_arn}-image-*"
  image_profile_arn = "arn:${var.partition}:iam::${var.account_id}:instance-profile/${var.name}-image-*"

  keep_state = [
    {
      Sid      = "ReadAndWriteState"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject"]
      Resource = ["${local.bucket_arns.state}/${local.state_key}", "${local.bucket_arns.state}/${local.state_key}.tflock"]
    },
    {
      Sid      = "Unlock"
      Effect   = "Allow"
      Action   = "s3:DeleteObject"
      Resource = "${local.bucket_arns.state}/${local.state_key}.tflock"
    },
    # Without it S3 does not say that there is no state yet.
    {
      Sid      = "FindState"
      Effect   = "Allow"
      Action   = "s3:ListBucket"
      Resource = local.bucket_arns.state
    },
  ]

  apply_image = [
    # To plan: a look at everything.
    {
      Sid    = "LookAround"
      Effect = "Allow"
      Action = [
        "ec2:DescribeImages",
        "ec2:DescribeInstanceTypeOfferings",
        "ec2:DescribeInternetGateways",
        "ec2:DescribeNetworkAcls",
        "ec2:DescribeRouteTables",
        "ec2:DescribeSecurityGroupRules",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcAttribute",
        "ec2:DescribeVpcs",
        "logs:DescribeLogGroups",
      ]
      Resource = "*"
    },
    {
      Sid      = "LookAtLogs"
      Effect   = "Allow"
      Action   = "logs:ListTagsForResource"
      Resource = [for name in ["", "pipeline/"] : "arn:${var.partition}:logs:${local.here}:log-group:/aws/imagebuilder/${name}${local.image}"]
    },
    {
      Sid      = "LookAtRoles"
      Effect   = "Allow"
      Action   = ["iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies"]
      Resource = local.image_roles_arn
    },
    {
      Sid      = "LookAtTheBuildersRole"
      Effect   = "Allow"
      Action   = "iam:GetInstanceProfile"
      Resource = local.image_profile_arn
    },
    {
      Sid    = "LookAtTheBucket"
      Effect = "Allow"
      Action = [
        "s3:GetAccelerateConfiguration",
        "s3:GetBucketAcl",
        "s3:GetBucketCORS",
        "s3:GetBucketLogging",
        "s3:GetBucketObjectLockConfiguration",
        "s3:GetBucketOwnershipControls",
        "s3:GetBucketPolicy",
        "s3:GetBucketPublicAccessBlock",
        "s3:GetBucketRequestPayment",
        "s3:GetBucketTagging",
        "s3:GetBucketVersioning",
        "s3:GetBucketWebsite",
        "s3:GetEncryptionConfiguration",
        "s3:GetLifecycleConfiguration",
        "s3:GetReplicationConfiguration",
        "s3:ListBucket",
      ]
      Resource = local.image_bucket_arn
    },
    {
      Sid    = "LookAtImageBuilder"
      Effect = "Allow"
      Action = [
        "imagebuilder:GetComponent",
        "imagebuilder:GetDistributionConfiguration",
        "imagebuilder:GetImagePipeline",
        "imagebuilder:GetImageRecipe",
        "imagebuilder:GetInfrastructureConfiguration",
        "imagebuilder:GetLifecyclePolicy",
      ]
      Resource = local.image_builder_arns
    },
    # To apply: another archive, another document, and what names them.
    {
      Sid      = "ReplaceTheArchive"
      Effect   = "Allow"
      Action   = ["s3:DeleteObject", "s3:GetObject", "s3:GetObjectTagging", "s3:PutObject", "s3:PutObjectTagging"]
      Resource = "${local.image_bucket_arn}/archives/*"
    },
    {
      Sid    = "ReplaceTheRecipe"
      Effect = "Allow"
      Action = [
        "imagebuilder:CreateComponent",
        "imagebuilder:CreateImagePipeline",
        "imagebuilder:CreateImageRecipe",
        "imagebuilder:DeleteComponent",
        "imagebuilder:DeleteImagePipeline",
        "imagebuilder:DeleteImageRecipe",
        "imagebuilder:TagResource",
        "imagebuilder:UpdateDistributionConfiguration",
      ]
      Resource = local.image_builder_arns
    },
    # A recipe names what it is built on, an image of AWS's own.
    {
      Sid      = "BuildOnAnImageOfAws"
      Effect   = "Allow"
      Action   = "imagebuilder:GetImage"
      Resource = "arn:${var.partition}:imagebuilder:${var.region}:aws:image/*"
    },
    {
      Sid       = "HandImageBuilderItsRole"
      Effect    = "Allow"
      Action    = "iam:PassRole"
      Resource  = "${local.roles_arn}-image-pipeline"
      Condition = { StringEquals = { "iam:PassedToService" = "imagebuilder.amazonaws.com" } }
    },
  ]

  image_builder_arns = [
    "${local.image_arn}:component/${local.image}-*",
    "${local.image_arn}:distribution-configuration/${local.image}",
    "${local.image_arn}:image-pipeline/${local.image}",
    "${local.image_arn}:image-recipe/${local.image}/*",
    "${local.image_arn}:infrastructure-configuration/${local.image}",
    "${local.image_arn}:lifecycle-policy/${local.image}",
  ]

  bake_image = [
    {
      Sid      = "Bake"
      Effect   = "Allow"
      Action   = "imagebuilder:StartImagePipelineExecution"
      Resource = "${local.image_arn}:image-pipeline/${local.image}"
    },
    {
      Sid    = "FollowTheBuild"
      Effect = "Allow"
      Action = [
        "imagebuilder:CancelImageCreation",
        "imagebuilder:GetImage",
        "imagebuilder:ListImageBuildVersions",
        "imagebuilder:ListWorkflowExecutions",
        "imagebuilder:TagResource",
      ]
      Resource = "${local.image_arn}:image/${local.image}/*"
    },
    {
      Sid      = "ReadWhichIsPublished"
      Effect   = "Allow"
      Action   = "ssm:GetParameter"
      Resource = "${local.parameter_arn}/${var.name}/latest_ami_id"
    },
  ]
}
