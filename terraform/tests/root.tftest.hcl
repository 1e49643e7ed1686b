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

override_data {
  target = data.aws_ec2_instance_type_offerings.gpu[0]
  values = { locations = ["eu-central-1b", "eu-central-1a"] }
}

override_data {
  target = data.aws_ssm_parameters_by_path.ami[0]
  values = { names = ["/tl-fif/another", "/tl-fif/latest_ami_id"], values = ["other", "ami-0fromssm"] }
}

variables {
  alert_email         = "you@example.com"
  package             = "./tests/root.tftest.hcl" # any file will do for a plan
  fixed_usd_per_month = 15
}

run "what_nobody_chose" {
  command = plan

  assert {
    condition     = local.zone == "eu-central-1a"
    error_message = "The first zone that has the GPU's type, the same each time."
  }

  assert {
    condition     = local.ami_id == "ami-0fromssm"
    error_message = "The image is the one that the pipeline published."
  }

  assert {
    condition     = output.bucket == "tl-fif-123456789012-eu-central-1"
    error_message = "The bucket's name is nobody else's."
  }

  assert {
    condition     = length(module.tls) == 0 && output.tls_url == null
    error_message = "There is no load balancer unless somebody wants it."
  }

  assert {
    condition     = toset(keys(output.function_names)) == toset(["authorizer", "budget-killer", "canary", "cost-publisher", "gauges", "queue-health", "reaper", "router", "waker"])
    error_message = "The functions are these nine."
  }
}

run "what_somebody_chose" {
  command = plan

  variables {
    zone       = "eu-central-1c"
    ami_id     = "ami-0mine"
    bucket     = "my-replies"
    ping_cidrs = ["203.0.113.0/24"]
  }

  assert {
    condition     = local.zone == "eu-central-1c" && local.ami_id == "ami-0mine" && output.bucket == "my-replies"
    error_message = "What is given is taken."
  }
}

run "a_mail_address_that_is_none" {
  command = plan

  variables {
    alert_email = "nobody"
  }

  expect_failures = [var.alert_email]
}

run "tls_without_a_name" {
  command = plan

  variables {
    tls = true
  }

  expect_failures = [var.tls]
}

run "the_whole_internet_may_ping" {
  command = plan

  variables {
    ping_cidrs = ["::/0"]
  }

  expect_failures = [var.ping_cidrs]
}

run "no_cap" {
  command = plan

  variables {
    cap_eur = 0
  }

  expect_failures = [var.cap_eur]
}

run "no_such_canary" {
  command = plan

  variables {
    canary = "budgerigar"
  }

  expect_failures = [var.canary]
}

run "a_name_that_is_too_long" {
  command = plan

  variables {
    name = "a-name-that-is-far-too-long"
  }

  expect_failures = [var.name]
}

run "no_image_yet" {
  command = plan

  override_data {
    target = data.aws_ssm_parameters_by_path.ami[0]
    values = { names = [], values = [] }
  }

  expect_failures = [data.aws_ssm_parameters_by_path.ami[0]]
}
