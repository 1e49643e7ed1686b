# The machines that do it: one project of CodeBuild for each stage, without privileges, a network of ours or a secret that
# Terraform knows.

locals {
  machines = {
    arm64  = { type = "ARM_CONTAINER", image = "aws/codebuild/amazonlinux-aarch64-standard:3.0" }
    x86_64 = { type = "LINUX_CONTAINER", image = "aws/codebuild/amazonlinux-x86_64-standard:5.0" }
  }

  # CodeBuild puts what SSM says in the place of a parameter's name when a build begins.
  slack = local.slack_parameter == null ? {} : { TLFIF_SLACK_WEBHOOK = local.slack_parameter }

  described = {
    test = {
      does         = "Tests the commit and measures the coverage"
      architecture = var.test_architecture
      compute      = var.test_compute
      minutes      = var.test_target == "test" ? 60 : 20
      plain        = { TLFIF_TEST_TARGET = var.test_target }
      secret       = {}
    }
    bake = {
      does         = "Bakes the GPU's image, if what goes into it has changed"
      architecture = "arm64"
      compute      = "BUILD_GENERAL1_SMALL"
      minutes      = 150 # an hour for the bake, and one for somebody else's that runs already
      plain = merge(
        { for name, value in var.image_variables : "TF_VAR_${name}" => value },
        {
          TF_IN_AUTOMATION   = "1"
          TF_VAR_name        = var.name
          TF_VAR_region      = var.region
          TLFIF_MAX_BAKE_EUR = tostring(var.max_bake_eur)
          TLFIF_STATE_BUCKET = local.buckets.state
        },
      )
      secret = {}
    }
    deploy = {
      does         = "Deploys the functions, step by step, and goes back when an alarm goes off"
      architecture = "arm64"
      compute      = "BUILD_GENERAL1_SMALL"
      minutes      = 20 + ceil(var.canary_seconds / 60)
      plain        = { TLFIF_CANARY_SECONDS = tostring(var.canary_seconds) }
      secret       = local.slack
    }
    smoke = {
      does         = "Asks the system one question from outside, and rolls back when no answer comes"
      architecture = "arm64"
      compute      = "BUILD_GENERAL1_SMALL"
      minutes      = 20
      plain = {
        TLFIF_COGNITO_CLIENT_ID = var.cognito_client_id
        TLFIF_COGNITO_URL       = "https://cognito-idp.${var.region}.amazonaws.com"
        TLFIF_URL               = var.api_url
        TLFIF_USERNAME          = var.smoke_username
      }
      secret = merge(local.slack, { TLFIF_PASSWORD = local.password_parameter })
    }
  }

  projects = { for name, each in local.described : name => merge(each, local.machines[each.architecture]) if var.bake || name != "bake" }

  common = {
    TLFIF_ARTIFACTS = local.buckets.artifacts
    TLFIF_NAME      = var.name
  }
}

# CodeBuild would make them itself, without an end to them.
resource "aws_cloudwatch_log_group" "this" {
  for_each = local.projects

  name              = "/aws/codebuild/${var.name}-${each.key}"
  retention_in_days = var.log_days
}

resource "aws_codebuild_project" "this" {
  for_each = local.projects

  name           = "${var.name}-${each.key}"
  description    = each.value.does
  service_role   = aws_iam_role.build[each.key].arn
  build_timeout  = each.value.minutes
  queued_timeout = 30

  source {
    type      = "CODEPIPELINE"
    buildspec = ".ci/buildspecs/${each.key}.yml"
  }

  artifacts {
    type = "CODEPIPELINE"
  }

  environment {
    type            = each.value.type
    image           = each.value.image
    compute_type    = each.value.compute
    privileged_mode = false

    dynamic "environment_variable" {
      for_each = merge(local.common, each.value.plain)

      content {
        name  = environment_variable.key
        value = environment_variable.value
      }
    }

    dynamic "environment_variable" {
      for_each = each.value.secret

      content {
        name  = environment_variable.key
        type  = "PARAMETER_STORE"
        value = environment_variable.value
      }
    }
  }

  logs_config {
    cloudwatch_logs {
      group_name = aws_cloudwatch_log_group.this[each.key].name
    }
  }

  depends_on = [aws_iam_role_policy.build]
}
