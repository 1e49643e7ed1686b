# From a push to a deployed and smoke-tested system. What each stage does stands in .ci/buildspecs, and is a target of
# the Makefile; here is who may do it, on what, and what a stage that fails leads to.

# ARNs are put together here from what is known, so that a plan shows policies in full.
locals {
  slack_parameter = (
    var.slack_webhook_parameter == null ? "/${var.name}/slack_webhook" :
    var.slack_webhook_parameter == "" ? null : var.slack_webhook_parameter
  )
  password_parameter = coalesce(var.smoke_password_parameter, "/${var.name}/smoke_password")

  here          = "${var.region}:${var.account_id}"
  pipeline_arn  = "arn:${var.partition}:codepipeline:${local.here}:${var.name}"
  functions_arn = "arn:${var.partition}:lambda:${local.here}:function:${var.name}-*"
  image_arn     = "arn:${var.partition}:imagebuilder:${local.here}"
  parameter_arn = "arn:${var.partition}:ssm:${local.here}:parameter"
  roles_arn     = "arn:${var.partition}:iam::${var.account_id}:role/${var.name}"

  # Stages in their order, after the source; each has a project of the same name in lower case.
  stages = [for stage in ["Test", "Bake", "Deploy", "Smoke"] : stage if var.bake || stage != "Bake"]
}

# Somebody has to confirm it once in the console, where GitHub asks which repositories AWS may read.
resource "aws_codeconnections_connection" "github" {
  name          = "${var.name}-github"
  provider_type = "GitHub"
}

resource "aws_codepipeline" "this" {
  name           = var.name
  role_arn       = aws_iam_role.pipeline.arn
  pipeline_type  = "V2"
  execution_mode = "QUEUED" # a push waits for the one before: no two deployments at once

  # Under AWS's own key for S3, which costs nothing.
  artifact_store {
    type     = "S3"
    location = aws_s3_bucket.this["artifacts"].id
  }

  trigger {
    provider_type = "CodeStarSourceConnection"

    git_configuration {
      source_action_name = "GitHub"

      push {
        branches {
          includes = [var.branch]
        }

        file_paths {
          excludes = ["docs/**"]
        }
      }
    }
  }

  stage {
    name = "Source"

    action {
      name             = "GitHub"
      category         = "Source"
      owner            = "AWS"
      provider         = "CodeStarSourceConnection"
      version          = "1"
      output_artifacts = ["source"]

      configuration = {
        ConnectionArn    = aws_codeconnections_connection.github.arn
        FullRepositoryId = var.repository
        BranchName       = var.branch
        DetectChanges    = "false" # the trigger above does
        # A ZIP would lose which files can be run, and with it half of the image's archive.
        OutputArtifactFormat = "CODEBUILD_CLONE_REF"
      }
    }
  }

  # A stage that fails ends the execution: nothing behind it runs.
  dynamic "stage" {
    for_each = local.stages

    content {
      name = stage.value

      action {
        name            = stage.value
        category        = stage.value == "Test" || stage.value == "Smoke" ? "Test" : "Build"
        owner           = "AWS"
        provider        = "CodeBuild"
        version         = "1"
        input_artifacts = ["source"]

        configuration = {
          ProjectName = aws_codebuild_project.this[lower(stage.value)].name
        }
      }
    }
  }

  depends_on = [aws_iam_role_policy.pipeline]
}
