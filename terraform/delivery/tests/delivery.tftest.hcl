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

override_data {
  target = data.aws_caller_identity.this
  values = { account_id = "123456789012" }
}

variables {
  repository        = "owner/tl-fif"
  api_url           = "https://api.example.com"
  cognito_client_id = "app"
}

run "what_it_says" {
  command = plan

  assert {
    condition     = output.pipeline_url == "https://eu-central-1.console.aws.amazon.com/codesuite/codepipeline/pipelines/tl-fif/view?region=eu-central-1"
    error_message = "Where the pipeline is to be seen."
  }

  assert {
    condition     = output.state_bucket == "tl-fif-state-123456789012-eu-central-1" && output.artifact_bucket == "tl-fif-delivery-123456789012-eu-central-1"
    error_message = "Names by the account and the region, of which S3 has one each in the world."
  }

  assert {
    condition     = strcontains(output.image_backend, "bucket       = \"tl-fif-state-123456789012-eu-central-1\"") && strcontains(output.image_backend, "use_lockfile = true")
    error_message = "The backend of the image's root, with a lock."
  }

  assert {
    condition     = output.project_names == { for stage in ["bake", "deploy", "smoke", "test"] : stage => "tl-fif-${stage}" }
    error_message = "A project for each stage."
  }

  assert {
    condition     = output.github_role_arn == null
    error_message = "No role for GitHub unless it is to have one."
  }
}

run "another_system_elsewhere" {
  command = plan

  variables {
    name   = "second"
    region = "ap-southeast-2"
  }

  assert {
    condition     = output.state_bucket == "second-state-123456789012-ap-southeast-2" && output.project_names["test"] == "second-test"
    error_message = "Two systems can be in one account."
  }
}

run "too_long_a_name" {
  command = plan

  variables {
    name = "a-name-of-more-than-twenty"
  }

  expect_failures = [var.name]
}

run "no_region" {
  command = plan

  variables {
    region = "Frankfurt"
  }

  expect_failures = [var.region]
}

run "a_repository_by_its_address" {
  command = plan

  variables {
    repository = "https://github.com/owner/tl-fif"
  }

  expect_failures = [var.repository]
}

run "branches_by_a_star" {
  command = plan

  variables {
    branch = "*"
  }

  expect_failures = [var.branch]
}

run "an_api_without_tls" {
  command = plan

  variables {
    api_url = "http://api.example.com"
  }

  expect_failures = [var.api_url]
}

run "a_webhook_instead_of_its_parameter" {
  command = plan

  variables {
    slack_webhook_parameter = "https://hooks.slack.com/services/x"
  }

  expect_failures = [var.slack_webhook_parameter]
}

run "a_password_instead_of_its_parameter" {
  command = plan

  variables {
    smoke_password_parameter = "Secret-password-1"
  }

  expect_failures = [var.smoke_password_parameter]
}

run "a_variable_that_the_image_does_not_have" {
  command = plan

  variables {
    image_variables = { keep_image = "2" }
  }

  expect_failures = [var.image_variables]
}

run "an_image_of_another_archive" {
  command = plan

  variables {
    image_variables = { archive = "/tmp/other.tar.gz" }
  }

  expect_failures = [var.image_variables]
}

run "an_endless_canary" {
  command = plan

  variables {
    canary_seconds = 3600
  }

  expect_failures = [var.canary_seconds]
}

run "a_bake_for_nothing" {
  command = plan

  variables {
    max_bake_eur = 0
  }

  expect_failures = [var.max_bake_eur]
}

run "logs_for_too_long" {
  command = plan

  variables {
    log_days = 90
  }

  expect_failures = [var.log_days]
}

run "no_such_target" {
  command = plan

  variables {
    test_target = "lint"
  }

  expect_failures = [var.test_target]
}

run "no_such_machine" {
  command = plan

  variables {
    test_compute      = "BUILD_LAMBDA_1GB"
    test_architecture = "riscv"
  }

  expect_failures = [var.test_compute, var.test_architecture]
}

run "kept_for_no_day" {
  command = plan

  variables {
    artifact_days = 0
  }

  expect_failures = [var.artifact_days]
}

run "no_address" {
  command = plan

  variables {
    alert_email = "me"
  }

  expect_failures = [var.alert_email]
}

run "somebody_else_s_provider" {
  command = plan

  variables {
    github_oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
  }

  expect_failures = [var.github_oidc_provider_arn]
}
