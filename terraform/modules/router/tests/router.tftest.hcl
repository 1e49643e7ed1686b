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
  name                = "tl-fif"
  package             = "./tests/router.tftest.hcl" # any file will do for a plan
  architecture        = "arm64"
  vpc                 = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
  redis_url           = "redis://queue:6379/0"
  bucket              = "replies"
  bucket_arn          = "arn:aws:s3:::replies"
  instances_arn       = "arn:aws:ec2:eu-central-1:123456789012:instance/*"
  gpu_tag             = { name = "env", value = "tinyllama" }
  max_gpus            = 1
  max_session_minutes = 240
  cap_eur             = 20
  ping_cidrs          = ["10.20.0.0/22", "2001:db8:20::/56"]
  jwt                 = { jwks_url = "https://issuer/keys", issuer = "https://issuer", audience = "client" }
  api_url             = "https://api"
  trace_schedules     = false
  log_retention_days  = 30
}

run "the_functions" {
  command = plan

  assert {
    condition     = toset(keys(module.function)) == toset(["authorizer", "canary", "gauges", "queue-health", "reaper", "router", "waker"])
    error_message = "These functions stand here; those of the budget stand in its module."
  }

  assert {
    condition     = local.functions["router"].environment.TLFIF_BUDGET_EUR == "20" && local.functions["waker"].environment.TLFIF_BUDGET_EUR == "20"
    error_message = "Whoever starts the GPU knows the cap."
  }

  assert {
    condition     = local.functions["router"].environment.TLFIF_PING_CIDRS == "10.20.0.0/22,2001:db8:20::/56" && local.functions["queue-health"].environment.TLFIF_PING_CIDRS == "10.20.0.0/22,2001:db8:20::/56"
    error_message = "The health routes answer to the given networks."
  }

  assert {
    condition     = alltrue([for name, each in local.functions : each.environment.TLFIF_GPU_TAG == "env=tinyllama" if contains(["gauges", "reaper", "router", "waker"], name)])
    error_message = "All of them mean the same GPU."
  }

  assert {
    condition     = !can(local.functions["authorizer"].environment.TLFIF_REDIS_URL) && local.functions["authorizer"].in_vpc == false
    error_message = "The authorizer needs Cognito's keys, and no Redis."
  }

  assert {
    condition     = local.functions["canary"].log_retention_days == 1
    error_message = "Samples of answers are kept for a day."
  }

  assert {
    condition     = local.functions["waker"].timeout == 60 && local.functions["reaper"].timeout == 60
    error_message = "The watch has a minute."
  }
}

run "the_watch" {
  command = plan

  assert {
    condition     = aws_cloudwatch_event_rule.minute.schedule_expression == "rate(1 minute)"
    error_message = "It looks every minute."
  }

  assert {
    condition     = jsondecode(aws_cloudwatch_event_rule.stopped.event_pattern).detail.state == ["stopped"]
    error_message = "The waker hears of every instance that has stopped."
  }

  assert {
    condition     = toset([for call in aws_cloudwatch_event_target.call : "${call.rule} ${call.target_id}"]) == toset(["tl-fif-minute canary", "tl-fif-minute gauges", "tl-fif-minute reaper", "tl-fif-minute waker", "tl-fif-stopped waker"])
    error_message = "Each rule calls its functions."
  }

  assert {
    condition     = alltrue([for call in aws_lambda_permission.call : call.principal == "events.amazonaws.com" && call.qualifier == "prod"])
    error_message = "EventBridge calls the alias, and nobody else may."
  }

  assert {
    condition     = alltrue([for each in aws_lambda_function_event_invoke_config.once : each.maximum_retry_attempts == 0])
    error_message = "A failed look is not repeated: the next one comes."
  }
}

run "least_privilege" {
  command = plan

  assert {
    condition     = toset(flatten([for each in jsondecode(data.aws_iam_policy_document.router.json).Statement : each.Action])) == toset(["ec2:DescribeInstances", "ec2:StartInstances", "ec2:StopInstances", "s3:GetObject", "s3:ListBucket"])
    error_message = "The router's rights are not these."
  }

  assert {
    condition     = toset(flatten([for each in jsondecode(data.aws_iam_policy_document.waker.json).Statement : each.Action])) == toset(["ec2:DescribeInstances", "ec2:StartInstances", "s3:GetObject", "s3:ListBucket", "s3:PutObject"])
    error_message = "The waker's rights are not these."
  }

  assert {
    condition     = toset(flatten([for each in jsondecode(data.aws_iam_policy_document.reaper.json).Statement : each.Action])) == toset(["ec2:DescribeInstances", "ec2:StopInstances"])
    error_message = "The reaper's rights are not these."
  }

  assert {
    condition     = toset(flatten([for each in jsondecode(data.aws_iam_policy_document.gauges.json).Statement : each.Action])) == toset(["ec2:DescribeInstances"])
    error_message = "The gauges' rights are not these."
  }

  assert {
    condition = alltrue([
      for each in concat(jsondecode(data.aws_iam_policy_document.router.json).Statement, jsondecode(data.aws_iam_policy_document.reaper.json).Statement, jsondecode(data.aws_iam_policy_document.waker.json).Statement) :
      each.Condition == { StringEquals = { "aws:ResourceTag/env" = "tinyllama" } } && each.Resource == "arn:aws:ec2:eu-central-1:123456789012:instance/*" if contains(["StartGpus", "StopGpus"], each.Sid)
    ])
    error_message = "Only instances with the tag are started and stopped."
  }

  assert {
    condition     = alltrue([for each in jsondecode(data.aws_iam_policy_document.router.json).Statement : each.Sid == "FindGpus" if each.Resource == "*"])
    error_message = "Everything but DescribeInstances, which AWS cannot narrow, is for certain resources."
  }
}

run "another_tag" {
  command = plan

  variables {
    gpu_tag = { name = "role", value = "llm" }
  }

  assert {
    condition     = [for each in jsondecode(data.aws_iam_policy_document.reaper.json).Statement : each.Condition if each.Sid == "StopGpus"] == [{ StringEquals = { "aws:ResourceTag/role" = "llm" } }]
    error_message = "The rights follow the tag."
  }
}

run "the_whole_internet_may_ping" {
  command = plan

  variables {
    ping_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.ping_cidrs]
}

run "a_session_without_end" {
  command = plan

  variables {
    max_session_minutes = 100000
  }

  expect_failures = [var.max_session_minutes]
}
