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
