# The real provider, which computes policies, without an account: nothing is asked and nothing is made.
provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
}

# Known at a plan, so that policies are.
override_resource {
  target          = aws_codeconnections_connection.github
  override_during = plan
  values          = { arn = "arn:aws:codeconnections:eu-central-1:123456789012:connection/1" }
}

override_resource {
  target          = aws_cloudwatch_log_group.this
  override_during = plan
  values          = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/codebuild/tl-fif-x" }
}

override_resource {
  target          = aws_sns_topic.failed
  override_during = plan
  values          = { arn = "arn:aws:sns:eu-central-1:123456789012:tl-fif-delivery" }
}

variables {
  name       = "tl-fif"
  partition  = "aws"
  region     = "eu-central-1"
  account_id = "123456789012"

  repository = "owner/tl-fif"
  branch     = "main"

  test_target       = "test-fast"
  test_compute      = "BUILD_GENERAL1_SMALL"
  test_architecture = "x86_64"
  bake              = true
  max_bake_eur      = 0.6
  image_variables   = {}
  canary_seconds    = 120

  api_url                  = "https://api.example.com"
  cognito_client_id        = "app"
  smoke_username           = "smoke"
  smoke_password_parameter = null

  alert_email              = null
  slack_webhook_parameter  = null
  artifact_days            = 7
  log_days                 = 30
  github_actions           = false
  github_oidc_provider_arn = null
}

run "stages" {
  command = plan

  assert {
    condition     = aws_codepipeline.this.stage[*].name == tolist(["Source", "Test", "Bake", "Deploy", "Smoke"])
    error_message = "What is tested is baked, deployed and asked, in this order."
  }

  assert {
    condition     = aws_codepipeline.this.pipeline_type == "V2" && aws_codepipeline.this.execution_mode == "QUEUED"
    error_message = "Pushes wait for each other."
  }

  assert {
    condition     = one(one(one(aws_codepipeline.this.trigger).git_configuration).push).branches[0].includes == tolist(["main"]) && one(one(one(aws_codepipeline.this.trigger).git_configuration).push).file_paths[0].excludes == tolist(["docs/**"])
    error_message = "A push to main starts it, unless it is of pages alone."
  }

  assert {
    condition     = { for name, project in aws_codebuild_project.this : name => project.source[0].buildspec } == { for name in ["test", "bake", "deploy", "smoke"] : name => ".ci/buildspecs/${name}.yml" }
    error_message = "What a stage does stands in the repository."
  }
}

run "machines" {
  command = plan

  assert {
    condition     = { for name, project in aws_codebuild_project.this : name => [project.environment[0].type, project.environment[0].compute_type] } == { test = ["LINUX_CONTAINER", "BUILD_GENERAL1_SMALL"], bake = ["ARM_CONTAINER", "BUILD_GENERAL1_SMALL"], deploy = ["ARM_CONTAINER", "BUILD_GENERAL1_SMALL"], smoke = ["ARM_CONTAINER", "BUILD_GENERAL1_SMALL"] }
    error_message = "The smallest that there are, and on ARM but for the tests."
  }

  assert {
    condition     = alltrue([for project in values(aws_codebuild_project.this) : !project.environment[0].privileged_mode && length(project.vpc_config) == 0])
    error_message = "No build has privileges or a network of ours."
  }

  assert {
    condition     = alltrue([for group in values(aws_cloudwatch_log_group.this) : group.retention_in_days == 30])
    error_message = "Logs end after 30 days."
  }
}

run "secrets" {
  command = plan

  assert {
    condition     = { for name, project in aws_codebuild_project.this : name => { for each in project.environment[0].environment_variable : each.name => each.value if each.type == "PARAMETER_STORE" } } == { test = {}, bake = {}, deploy = { TLFIF_SLACK_WEBHOOK = "/tl-fif/slack_webhook" }, smoke = { TLFIF_SLACK_WEBHOOK = "/tl-fif/slack_webhook", TLFIF_PASSWORD = "/tl-fif/smoke_password" } }
    error_message = "A build reads secrets from SSM, and each its own."
  }

  assert {
    condition     = [for each in jsondecode(aws_iam_role_policy.build["smoke"].policy).Statement : each.Resource if each.Sid == "ReadItsSecrets"] == [["arn:aws:ssm:eu-central-1:123456789012:parameter/tl-fif/smoke_password", "arn:aws:ssm:eu-central-1:123456789012:parameter/tl-fif/slack_webhook"]]
    error_message = "Its role may read those."
  }
}

run "rights" {
  command = plan

  assert {
    condition     = [for each in jsondecode(aws_iam_role_policy.build["deploy"].policy).Statement : each.Resource if each.Action == "lambda:DeleteFunction"] == ["arn:aws:lambda:eu-central-1:123456789012:function:tl-fif-*:*"]
    error_message = "Versions can be deleted, and no function."
  }

  assert {
    condition     = length([for each in jsondecode(aws_iam_role_policy.build["test"].policy).Statement : each if each.Resource == "*"]) == 0
    error_message = "Tests may do nothing to the system."
  }

  assert {
    condition     = length(aws_iam_role.github) == 0 && length(aws_iam_openid_connect_provider.github) == 0
    error_message = "GitHub has no role unless it is to."
  }

  assert {
    condition     = jsondecode(aws_iam_role.build["bake"].assume_role_policy).Statement[0].Condition == { StringEquals = { "aws:SourceArn" = "arn:aws:codebuild:eu-central-1:123456789012:project/tl-fif-bake" } }
    error_message = "A role is for its project."
  }
}

run "buckets" {
  command = plan

  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.this["artifacts"].rule : one(rule.expiration).days] == [7]
    error_message = "Everything that a run leaves goes after a week."
  }

  assert {
    condition     = !aws_s3_bucket.this["state"].force_destroy && aws_s3_bucket_versioning.state.versioning_configuration[0].status == "Enabled"
    error_message = "The state is not lost with the pipeline."
  }

  assert {
    condition     = alltrue([for bucket in values(aws_s3_bucket.this) : length(bucket.bucket) <= 63])
    error_message = "S3 takes names of up to 63 characters."
  }
}

run "somebody_is_told" {
  command = plan

  variables {
    alert_email = "me@example.com"
  }

  assert {
    condition     = one(aws_sns_topic_subscription.mail[*].endpoint) == "me@example.com"
    error_message = "By mail."
  }

  assert {
    condition     = jsondecode(aws_cloudwatch_event_rule.failed.event_pattern).resources == ["arn:aws:codepipeline:eu-central-1:123456789012:tl-fif"]
    error_message = "Of this pipeline's executions."
  }
}

run "as_specified" {
  command = plan

  variables {
    test_target       = "test"
    test_compute      = "BUILD_GENERAL1_MEDIUM"
    test_architecture = "arm64"
  }

  assert {
    condition     = [for each in ["type", "compute_type"] : aws_codebuild_project.this["test"].environment[0][each]] == ["ARM_CONTAINER", "BUILD_GENERAL1_MEDIUM"] && aws_codebuild_project.this["test"].build_timeout == 60
    error_message = "The whole suite on arm1.medium, and an hour for it."
  }
}

run "without_an_image" {
  command = plan

  variables {
    bake                    = false
    slack_webhook_parameter = ""
  }

  assert {
    condition     = aws_codepipeline.this.stage[*].name == tolist(["Source", "Test", "Deploy", "Smoke"]) && toset(keys(aws_iam_role.build)) == toset(["deploy", "smoke", "test"])
    error_message = "Neither the stage nor its role is there."
  }

  assert {
    condition     = length([for each in aws_codebuild_project.this["deploy"].environment[0].environment_variable : each if each.name == "TLFIF_SLACK_WEBHOOK"]) == 0 && !contains([for each in jsondecode(aws_iam_role_policy.build["deploy"].policy).Statement : each.Sid], "ReadItsSecrets")
    error_message = "Without a webhook nobody reads one."
  }
}

run "an_image_of_somebody_s_choice" {
  command = plan

  variables {
    image_variables = { keep_images = "2" }
  }

  assert {
    condition     = [for each in aws_codebuild_project.this["bake"].environment[0].environment_variable : each.value if each.name == "TF_VAR_keep_images"] == ["2"]
    error_message = "The stage applies what was chosen by hand."
  }
}

run "github_s_role" {
  command = plan

  variables {
    github_actions = true
  }

  assert {
    condition     = jsondecode(aws_iam_role.github[0].assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] == "repo:owner/tl-fif:environment:production"
    error_message = "Jobs of one environment take it."
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 1
    error_message = "The account gets the provider."
  }
}

run "a_provider_that_is_there" {
  command = plan

  variables {
    github_actions           = true
    github_oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0 && jsondecode(aws_iam_role.github[0].assume_role_policy).Statement[0].Principal.Federated == var.github_oidc_provider_arn
    error_message = "There can be no second one."
  }
}
