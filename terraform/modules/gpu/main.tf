# The GPU's instances. They are made once and from then on stopped and started, never thrown away: a volume that was read
# once is fast, one that is new from a snapshot takes minutes.

locals {
  environment = merge(
    {
      AWS_REGION = var.region
      # Outside, the instance speaks IPv6 alone.
      AWS_USE_DUALSTACK_ENDPOINT = "true"
      TLFIF_BUCKET               = var.bucket
      TLFIF_IDLE_MINUTES         = tostring(var.idle_minutes)
      TLFIF_LOG_GROUP            = aws_cloudwatch_log_group.worker.name
      TLFIF_MODEL                = var.model
      TLFIF_REDIS_URL            = var.redis_url
    },
    length(var.api_key_sha256) == 0 ? {} : { TLFIF_API_KEY_SHA256 = join(",", var.api_key_sha256) },
    var.certificate_arn == null ? {} : { TLFIF_CERTIFICATE_ARN = var.certificate_arn },
    var.worker_environment,
  )

  # systemd reads the file: single quotes keep JSON as it is.
  environment_file = join("", [for name, value in local.environment : "${name}='${value}'\n"])
}

resource "aws_cloudwatch_log_group" "worker" {
  name              = "/${var.name}/worker"
  retention_in_days = var.log_retention_days
}

resource "aws_instance" "gpu" {
  count = var.instances

  ami                                  = var.ami_id
  instance_type                        = var.instance_type
  subnet_id                            = var.subnet_id
  vpc_security_group_ids               = [var.security_group_id]
  iam_instance_profile                 = aws_iam_instance_profile.gpu[count.index].name
  ebs_optimized                        = true
  instance_initiated_shutdown_behavior = "stop" # a machine that halts costs no more than its disk

  user_data_replace_on_change = true
  user_data = join("\n", ["#cloud-config", yamlencode({
    write_files = [{
      path        = "/etc/tl-fif/worker.env"
      owner       = "root:root"
      permissions = "0644"
      content     = local.environment_file
    }]
    # The service wants that file, which the very first boot writes too late for it; later boots start it by themselves.
    # Without --no-block, cloud-init would wait for the model.
    runcmd = [["systemctl", "start", "--no-block", "tl-fif-supervisord.service"]]
  })])

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = var.volume_gb
    encrypted   = true
  }

  tags = {
    Name           = "${var.name}-gpu-${count.index}"
    (var.tag.name) = var.tag.value
  }

  lifecycle {
    precondition {
      condition     = var.tag.name != "Name"
      error_message = "The tag Name is taken; mark the GPU by another one, such as env."
    }
  }
}
