# How the image comes about: on which machine, what becomes of it, and which older ones go.

resource "aws_imagebuilder_infrastructure_configuration" "this" {
  name                          = local.image
  description                   = "The machines that build and test the image"
  instance_types                = [var.instance_type]
  instance_profile_name         = aws_iam_instance_profile.builder.name
  subnet_id                     = aws_subnet.builder.id
  security_group_ids            = [aws_security_group.builder.id]
  sns_topic_arn                 = var.notify_topic_arn
  terminate_instance_on_failure = true

  # Never the tag of the GPU's instances: whatever carries that is started and stopped.
  resource_tags = { project = var.name }

  instance_metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  logging {
    s3_logs {
      s3_bucket_name = aws_s3_bucket.image.id
      s3_key_prefix  = "logs"
    }
  }

  depends_on = [aws_route.out, aws_vpc_security_group_egress_rule.https]
}

resource "aws_imagebuilder_distribution_configuration" "this" {
  name        = local.image
  description = "Names and tags the image, and publishes its id as ${local.ami_parameter}"

  distribution {
    region = var.region

    ami_distribution_configuration {
      name        = "${local.image}-${local.version}-{{imagebuilder:buildDate}}"
      description = "GPU node of ${var.name} ${local.version}"

      ami_tags = {
        Name                   = "${local.image}-${local.version}"
        project                = var.name
        "${var.name}:gpu-node" = "${local.version} {{imagebuilder:buildDate}}"
        "${var.name}:archive"  = local.archive_sha256
        "${var.name}:source"   = local.source_sha256
      }
    }

    ssm_parameter_configuration {
      parameter_name = local.ami_parameter
      data_type      = "aws:ec2:image"
    }
  }
}

# Image Builder would make them itself, without an end to them.
resource "aws_cloudwatch_log_group" "this" {
  for_each = toset(["/aws/imagebuilder/${local.image}", "/aws/imagebuilder/pipeline/${local.image}"])

  name              = each.key
  retention_in_days = var.log_days
}

resource "aws_imagebuilder_image_pipeline" "this" {
  name                             = local.image
  description                      = "Bakes the GPU node of ${var.name}"
  image_recipe_arn                 = aws_imagebuilder_image_recipe.this.arn
  infrastructure_configuration_arn = aws_imagebuilder_infrastructure_configuration.this.arn
  distribution_configuration_arn   = aws_imagebuilder_distribution_configuration.this.arn
  execution_role                   = aws_iam_role.pipeline.arn

  # A list of packages that nobody reads: it takes minutes, and five more rights.
  enhanced_image_metadata_enabled = false

  image_tests_configuration {
    image_tests_enabled = true
    timeout_minutes     = 60 # the least that there is
  }

  dynamic "schedule" {
    for_each = var.schedule[*]

    content {
      schedule_expression                = schedule.value
      pipeline_execution_start_condition = "EXPRESSION_MATCH_AND_DEPENDENCY_UPDATES_AVAILABLE"
    }
  }

  # A recipe that a pipeline names cannot be deleted, and ours is replaced under the same version.
  lifecycle {
    replace_triggered_by = [aws_imagebuilder_image_recipe.this]
  }

  depends_on = [
    aws_cloudwatch_log_group.this,
    aws_iam_role_policy.builder,
    aws_iam_role_policy.pipeline,
  ]
}

# Each image has a snapshot, paid for by the GB. Builds that failed do not count, and go.
resource "aws_imagebuilder_lifecycle_policy" "this" {
  name           = local.image
  description    = "Keeps the newest ${var.keep_images}"
  execution_role = aws_iam_role.lifecycle.arn
  resource_type  = "AMI_IMAGE"

  policy_detail {
    action {
      type = "DELETE"

      include_resources {
        amis      = true
        snapshots = true
      }
    }

    filter {
      type  = "COUNT"
      value = var.keep_images
    }
  }

  resource_selection {
    recipe {
      name             = local.image
      semantic_version = local.recipe_version
    }
  }

  depends_on = [aws_iam_role_policy.lifecycle]
}
