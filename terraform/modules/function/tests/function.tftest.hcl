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

variables {
  name        = "tl-fif-waker"
  description = "Starts the GPU"
  handler     = "router_lambda.waker.handler"
  package     = "./tests/function.tftest.hcl" # any file will do for a plan
  environment = { TLFIF_BUCKET = "replies" }
}

override_resource {
  target          = aws_cloudwatch_log_group.this
  override_during = plan
  values          = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/tl-fif-waker" }
}

run "what_every_function_is" {
  command = plan

  assert {
    condition     = aws_lambda_function.this.runtime == "python3.12" && aws_lambda_function.this.memory_size == 512 && aws_lambda_function.this.publish
    error_message = "A function is Python 3.12 with 512 MB, and each deployment a version of its own."
  }

  assert {
    condition     = aws_lambda_alias.prod.name == "prod"
    error_message = "Callers know the alias prod."
  }

  assert {
    condition     = aws_lambda_function.this.tracing_config[0].mode == "Active" && anytrue([for each in jsondecode(aws_iam_role_policy.work.policy).Statement : each.Sid == "Trace"])
    error_message = "X-Ray traces it, and it may send traces."
  }

  assert {
    condition     = aws_cloudwatch_log_group.this.name == "/aws/lambda/tl-fif-waker" && aws_cloudwatch_log_group.this.retention_in_days == 30
    error_message = "Its log is kept for 30 days."
  }

  assert {
    condition     = [for each in jsondecode(aws_iam_role_policy.work.policy).Statement : each.Resource if each.Sid == "Log"] == ["arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/tl-fif-waker:*"]
    error_message = "It writes to its own log and no other."
  }

  assert {
    condition     = jsondecode(aws_iam_role.this.assume_role_policy).Statement[0].Principal == { Service = "lambda.amazonaws.com" }
    error_message = "Lambda alone takes the role."
  }
}

run "outside_the_vpc" {
  command = plan

  assert {
    condition     = length(aws_lambda_function.this.vpc_config) == 0 && length(aws_iam_role_policy.network) == 0
    error_message = "It needs no network interfaces."
  }
}

run "inside_the_vpc" {
  command = plan

  variables {
    vpc = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
  }

  assert {
    condition     = aws_lambda_function.this.vpc_config[0].ipv6_allowed_for_dual_stack
    error_message = "Its one way out is IPv6."
  }

  assert {
    condition     = toset([for each in jsondecode(aws_iam_role_policy.network[0].policy).Statement : each.Effect]) == toset(["Allow", "Deny"])
    error_message = "Lambda makes the interfaces, and the code may not."
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.network[0].policy).Statement[1].Condition.ArnLike["lambda:SourceFunctionArn"] == "arn:*:lambda:*:*:function:tl-fif-waker"
    error_message = "What is denied is denied to this function's code."
  }
}

run "untraced" {
  command = plan

  variables {
    trace = false
  }

  assert {
    condition     = aws_lambda_function.this.tracing_config[0].mode == "PassThrough" && !anytrue([for each in jsondecode(aws_iam_role_policy.work.policy).Statement : each.Sid == "Trace"])
    error_message = "Nothing is traced, and nothing may be sent."
  }
}

run "what_the_code_needs_is_added" {
  command = plan

  variables {
    policy_json = "{\"Statement\":[{\"Sid\":\"FindGpus\",\"Effect\":\"Allow\",\"Action\":\"ec2:DescribeInstances\",\"Resource\":\"*\"}]}"
  }

  assert {
    condition     = [for each in jsondecode(aws_iam_role_policy.work.policy).Statement : each.Sid] == ["FindGpus", "Log", "Trace"]
    error_message = "The code's needs come beside log and traces."
  }
}

run "another_runtime_s_handler" {
  command = plan

  variables {
    handler = "index.handler"
  }

  expect_failures = [var.handler]
}

run "no_such_processor" {
  command = plan

  variables {
    architecture = "riscv"
  }

  expect_failures = [var.architecture]
}

run "a_log_for_ever" {
  command = plan

  variables {
    log_retention_days = 0
  }

  expect_failures = [var.log_retention_days]
}

run "a_name_that_is_lambda_s_own" {
  command = plan

  variables {
    environment = { AWS_REGION = "eu-central-1" }
  }

  expect_failures = [var.environment]
}

run "a_name_that_is_no_variable_s" {
  command = plan

  variables {
    environment = { _HANDLER = "other.handler" }
  }

  expect_failures = [var.environment]
}

run "a_name_that_only_begins_alike" {
  command = plan

  variables {
    environment = { AWS_USE_DUALSTACK_ENDPOINT = "true" }
  }

  assert {
    condition     = aws_lambda_function.this.environment[0].variables["AWS_USE_DUALSTACK_ENDPOINT"] == "true"
    error_message = "The SDK's own settings may be given."
  }
}

run "no_package_yet" {
  command = plan

  variables {
    package = "../../../dist/of-a-build-that-nobody-ran.zip"
  }

  expect_failures = [var.package]
}
