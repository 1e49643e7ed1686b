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
  name              = "tl-fif"
  ami_id            = "ami-12345678"
  volume_gb         = 40
  subnet_id         = "subnet-gpu"
  security_group_id = "sg-gpu"
  tag               = { name = "env", value = "tinyllama" }
  region            = "eu-central-1"
  redis_url         = "redis://queue:6379/0"
  bucket            = "replies"
  bucket_arn        = "arn:aws:s3:::replies"
}

override_resource {
  target          = aws_cloudwatch_log_group.worker
  override_during = plan
  values          = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/tl-fif/worker" }
}

override_resource {
  target          = aws_instance.gpu[0]
  override_during = plan
  values          = { id = "i-0", arn = "arn:aws:ec2:eu-central-1:123456789012:instance/i-0" }
}

override_resource {
  target          = aws_instance.gpu[1]
  override_during = plan
  values          = { id = "i-1", arn = "arn:aws:ec2:eu-central-1:123456789012:instance/i-1" }
}

run "the_instance" {
  command = plan

  assert {
    condition     = length(aws_instance.gpu) == 1 && aws_instance.gpu[0].instance_type == "g4dn.xlarge" && aws_instance.gpu[0].ami == "ami-12345678"
    error_message = "There is one g4dn.xlarge from the given image."
  }

  assert {
    condition     = aws_instance.gpu[0].tags["env"] == "tinyllama"
    error_message = "Router, reaper and killer find it by its tag."
  }

  assert {
    condition     = aws_instance.gpu[0].metadata_options[0].http_tokens == "required" && aws_instance.gpu[0].metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Instance metadata is IMDSv2 alone, and stays on the instance."
  }

  assert {
    condition     = aws_instance.gpu[0].instance_initiated_shutdown_behavior == "stop"
    error_message = "An instance that halts is stopped, not thrown away."
  }

  assert {
    condition     = aws_instance.gpu[0].root_block_device[0].encrypted && aws_instance.gpu[0].root_block_device[0].volume_type == "gp3" && aws_instance.gpu[0].root_block_device[0].volume_size == 40
    error_message = "The disk is encrypted gp3 of the size that was asked for."
  }
}

run "its_settings" {
  command = plan

  variables {
    idle_minutes       = 7
    worker_environment = { TLFIF_ENGINE_ARGS = "{\"dtype\": \"half\"}", TLFIF_MODEL = "/models/other" }
  }

  assert {
    condition = yamldecode(aws_instance.gpu[0].user_data).write_files[0] == {
      path        = "/etc/tl-fif/worker.env"
      owner       = "root:root"
      permissions = "0644"
      content     = <<-EOT
        AWS_REGION='eu-central-1'
        AWS_USE_DUALSTACK_ENDPOINT='true'
        TLFIF_BUCKET='replies'
        TLFIF_ENGINE_ARGS='{"dtype": "half"}'
        TLFIF_IDLE_MINUTES='7'
        TLFIF_LOG_GROUP='/tl-fif/worker'
        TLFIF_MODEL='/models/other'
        TLFIF_REDIS_URL='redis://queue:6379/0'
      EOT
    }
    error_message = "The worker gets its settings as systemd reads them, and what the user adds wins."
  }

  assert {
    condition     = startswith(aws_instance.gpu[0].user_data, "#cloud-config\n") && aws_instance.gpu[0].user_data_replace_on_change
    error_message = "cloud-init reads it, and other settings reach the instance."
  }

  assert {
    condition     = yamldecode(aws_instance.gpu[0].user_data).runcmd == [["systemctl", "start", "--no-block", "tl-fif-supervisord.service"]]
    error_message = "The very first boot starts the worker when the settings are there, and waits for nothing."
  }
}

run "keys_and_a_certificate" {
  command = plan

  variables {
    api_key_sha256  = [sha256("old"), sha256("new")]
    certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
  }

  assert {
    condition     = strcontains(local.environment_file, "\nTLFIF_API_KEY_SHA256='${sha256("old")},${sha256("new")}'\n")
    error_message = "The worker gets the hashes with a comma between."
  }

  assert {
    condition     = strcontains(local.environment_file, "\nTLFIF_CERTIFICATE_ARN='${var.certificate_arn}'\n")
    error_message = "The instance is told which certificate is its proxy's."
  }

  assert {
    condition     = [for each in jsondecode(aws_iam_role_policy.work[0].policy).Statement : each.Resource if each.Action == "acm:ExportCertificate"] == [var.certificate_arn]
    error_message = "It may take that one, with its key, and no other."
  }
}

run "neither" {
  command = plan

  assert {
    condition     = !strcontains(local.environment_file, "TLFIF_API_KEY_SHA256") && !strcontains(local.environment_file, "TLFIF_CERTIFICATE_ARN")
    error_message = "What nobody gave is not set."
  }

  assert {
    condition     = !strcontains(aws_iam_role_policy.work[0].policy, "acm:")
    error_message = "Without a certificate there is nothing to take."
  }
}

run "a_key_instead_of_its_hash" {
  command = plan

  variables {
    api_key_sha256 = ["my-secret-key"]
  }

  expect_failures = [var.api_key_sha256]
}

run "a_certificate_that_is_none" {
  command = plan

  variables {
    certificate_arn = "gpu.example.com"
  }

  expect_failures = [var.certificate_arn]
}

run "least_privilege" {
  command = plan

  variables {
    instances = 2
  }

  assert {
    condition = alltrue([for index in [0, 1] : jsondecode(aws_iam_role_policy.stop[index].policy).Statement == jsondecode(jsonencode([{
      Sid       = "StopItself"
      Effect    = "Allow"
      Action    = "ec2:StopInstances"
      Resource  = "arn:aws:ec2:eu-central-1:123456789012:instance/i-${index}"
      Condition = { ArnEquals = { "ec2:SourceInstanceARN" = "arn:aws:ec2:eu-central-1:123456789012:instance/i-${index}" } }
    }]))])
    error_message = "Each instance stops itself and no other."
  }

  assert {
    condition     = length(toset([for instance in aws_instance.gpu : instance.iam_instance_profile])) == 2
    error_message = "Each instance has a profile of its own."
  }

  assert {
    condition     = !anytrue([for each in jsondecode(aws_iam_role_policy.work[0].policy).Statement : startswith(each.Sid, "Stop") || anytrue([for action in flatten([each.Action]) : startswith(action, "ec2:") || endswith(action, "*")])])
    error_message = "Nothing else touches EC2, and no action is a wildcard."
  }

  assert {
    condition     = alltrue([for each in jsondecode(aws_iam_role_policy.work[0].policy).Statement : contains(["Measure", "Shell"], each.Sid) if each.Resource == "*"])
    error_message = "Only what AWS cannot narrow is allowed everywhere."
  }

  assert {
    condition     = [for each in jsondecode(aws_iam_role_policy.work[0].policy).Statement : each.Resource if each.Sid == "WriteReplies"] == ["arn:aws:s3:::replies/replies/*"]
    error_message = "It writes replies and nothing beside them."
  }
}

run "the_log" {
  command = plan

  assert {
    condition     = aws_cloudwatch_log_group.worker.name == "/tl-fif/worker" && aws_cloudwatch_log_group.worker.retention_in_days == 30
    error_message = "The worker's log is kept for 30 days under a name that the agent knows."
  }
}

run "no_gpu" {
  command = plan

  variables {
    instances = 0
  }

  expect_failures = [var.instances]
}

run "a_tag_that_is_taken" {
  command = plan

  variables {
    tag = { name = "Name", value = "gpu" }
  }

  expect_failures = [aws_instance.gpu[0]]
}

run "a_setting_that_breaks_the_file" {
  command = plan

  variables {
    worker_environment = { TLFIF_MODEL = "it's" }
  }

  expect_failures = [var.worker_environment]
}

run "an_idle_time_beyond_the_contract" {
  command = plan

  variables {
    idle_minutes = 31
  }

  expect_failures = [var.idle_minutes]
}
