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
  target = data.aws_ec2_instance_type_offerings.builder[0]
  values = { locations = ["eu-central-1b", "eu-central-1a"] }
}

override_resource {
  target          = aws_imagebuilder_image_pipeline.this
  override_during = plan
  values          = { arn = "arn:aws:imagebuilder:eu-central-1:123456789012:image-pipeline/tl-fif-gpu-node" }
}

variables {
  archive = "./tests/image.tftest.hcl" # any file will do for a plan
}

run "the_recipe" {
  command = plan

  assert {
    condition     = aws_imagebuilder_image_recipe.this.parent_image == "arn:aws:imagebuilder:eu-central-1:aws:image/${local.pins.BASE_IMAGE}/${local.pins.BASE_IMAGE_VERSION}" && endswith(local.pins.BASE_IMAGE, "-x86")
    error_message = "The parent image is the pinned one of AWS's own, for x86."
  }

  assert {
    condition     = [for disk in one(aws_imagebuilder_image_recipe.this.block_device_mapping).ebs : [disk.volume_type, disk.volume_size, disk.encrypted, disk.delete_on_termination]] == [["gp3", 30, "true", "true"]]
    error_message = "The disk is encrypted gp3 of 30 GB, and goes with its machine."
  }

  assert {
    condition     = length(local.documents) > 0 && length(aws_imagebuilder_image_recipe.this.component) == length(local.documents) && keys(aws_imagebuilder_component.this) == keys(local.documents)
    error_message = "Each document of ami/components is a component of the recipe."
  }

  assert {
    condition     = alltrue([for name, component in aws_imagebuilder_component.this : component.data == local.documents[name] && component.platform == "Linux" && length(component.data) <= 16000])
    error_message = "A component is its document, which Image Builder takes up to 16,000 characters."
  }

  assert {
    condition = anytrue([for each in aws_imagebuilder_image_recipe.this.component : contains([
      for parameter in each.parameter : parameter
    ], { name = "Archive", value = "s3://tl-fif-image-123456789012-eu-central-1/${aws_s3_object.archive.key}" })])
    error_message = "A component is told where the archive is."
  }

  assert {
    condition     = local.parameters.Gpu == "true"
    error_message = "And that the machine has a GPU, on which the image is to be proven."
  }

  assert {
    condition     = aws_s3_object.archive.key == "archives/tl-fif-node-${substr(filesha256(var.archive), 0, 16)}.tar.gz"
    error_message = "Another archive has another name, by its hash."
  }

  assert {
    condition     = !aws_imagebuilder_image_recipe.this.systems_manager_agent[0].uninstall_after_build
    error_message = "The agent of Systems Manager stays: there is no SSH."
  }
}

run "versions" {
  command = plan

  assert {
    condition     = alltrue([for version in values(local.component_versions) : can(regex("^[0-9]+[.][0-9]+[.][0-9]+$", version)) && alltrue([for number in split(".", version) : tonumber(number) < 1073741824])])
    error_message = "A version has three numbers below 2^30, or Image Builder refuses it."
  }

  assert {
    condition     = length(distinct(values(local.component_versions))) == length(distinct(values(local.documents)))
    error_message = "Another document has another version."
  }

  assert {
    condition     = alltrue([for name, component in aws_imagebuilder_component.this : component.version == local.component_versions[name]])
    error_message = "It is the component's."
  }

  assert {
    condition     = aws_imagebuilder_image_recipe.this.version == one(one(aws_imagebuilder_lifecycle_policy.this.resource_selection).recipe).semantic_version && aws_imagebuilder_image_recipe.this.name == one(one(aws_imagebuilder_lifecycle_policy.this.resource_selection).recipe).name
    error_message = "The images that are counted are those of the one recipe."
  }
}

run "the_machine" {
  command = plan

  assert {
    condition     = aws_imagebuilder_infrastructure_configuration.this.instance_types == toset(["g4dn.xlarge"])
    error_message = "The builder has the GPU that the image is for."
  }

  assert {
    condition     = aws_imagebuilder_infrastructure_configuration.this.instance_metadata_options[0].http_tokens == "required" && aws_imagebuilder_infrastructure_configuration.this.instance_metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Instance metadata is IMDSv2 alone, and stays on the machine."
  }

  assert {
    condition     = aws_imagebuilder_infrastructure_configuration.this.terminate_instance_on_failure && aws_imagebuilder_infrastructure_configuration.this.key_pair == null
    error_message = "A machine that failed goes, and there is no key to any."
  }

  assert {
    condition     = aws_imagebuilder_infrastructure_configuration.this.resource_tags == tomap({ project = "tl-fif" })
    error_message = "It is not tagged as a GPU of the system, which would be stopped in the middle of a build."
  }

  assert {
    condition     = aws_imagebuilder_infrastructure_configuration.this.logging[0].s3_logs[0].s3_key_prefix == "logs" && aws_imagebuilder_infrastructure_configuration.this.sns_topic_arn == null
    error_message = "Logs go to the bucket, and nobody is told."
  }
}

run "its_network" {
  command = plan

  assert {
    condition     = aws_vpc.this.cidr_block == "10.21.0.0/24" && aws_subnet.builder.availability_zone == "eu-central-1a" && aws_subnet.builder.map_public_ip_on_launch
    error_message = "The builder has a public address, in the first zone that has its type."
  }

  # That there is no rule for ingress at all is asserted over the whole plan, in tests/infra.
  assert {
    condition     = aws_vpc_security_group_egress_rule.https.from_port == 443 && aws_vpc_security_group_egress_rule.https.to_port == 443
    error_message = "Out goes HTTPS alone."
  }
}

run "what_becomes_of_the_image" {
  command = plan

  assert {
    condition     = [for parameter in one(aws_imagebuilder_distribution_configuration.this.distribution).ssm_parameter_configuration : [parameter.parameter_name, parameter.data_type]] == [["/tl-fif/latest_ami_id", "aws:ec2:image"]]
    error_message = "Its id is published where the system looks for it."
  }

  assert {
    condition     = one(one(aws_imagebuilder_distribution_configuration.this.distribution).ami_distribution_configuration).ami_tags["tl-fif:gpu-node"] == "${trimspace(file("../../VERSION"))} {{imagebuilder:buildDate}}"
    error_message = "Its tag says which version it is, and when it was built."
  }

  assert {
    condition     = one(one(aws_imagebuilder_distribution_configuration.this.distribution).ami_distribution_configuration).ami_tags["tl-fif:source"] == filesha256(var.archive)
    error_message = "Another one says what it is made of: of an archive without a digest beside it, the archive itself."
  }

  assert {
    condition     = strcontains(one(one(aws_imagebuilder_distribution_configuration.this.distribution).ami_distribution_configuration).name, "{{imagebuilder:buildDate}}")
    error_message = "No two images have the same name, which EC2 would refuse."
  }

  assert {
    condition     = length(one(one(aws_imagebuilder_distribution_configuration.this.distribution).ami_distribution_configuration).launch_permission) == 0
    error_message = "No other account may boot from it."
  }

  assert {
    condition     = aws_imagebuilder_image_pipeline.this.image_tests_configuration[0].image_tests_enabled && aws_imagebuilder_image_pipeline.this.image_tests_configuration[0].timeout_minutes == 60 && length(aws_imagebuilder_image_pipeline.this.schedule) == 0
    error_message = "It is tested before it is published, and baked when somebody asks."
  }

  assert {
    condition     = [for filter in one(aws_imagebuilder_lifecycle_policy.this.policy_detail).filter : [filter.type, filter.value]] == [["COUNT", 1]] && [for each in one(one(aws_imagebuilder_lifecycle_policy.this.policy_detail).action).include_resources : [each.amis, each.snapshots]] == [[true, true]]
    error_message = "The newest is kept; of the others, image and snapshot go."
  }

  assert {
    condition     = output.bake_command == "aws imagebuilder start-image-pipeline-execution --region eu-central-1 --image-pipeline-arn arn:aws:imagebuilder:eu-central-1:123456789012:image-pipeline/tl-fif-gpu-node --query imageBuildVersionArn --output text"
    error_message = "The command to bake is printed in full."
  }
}

run "a_packed_archive" {
  command = plan

  variables {
    archive = "./tests/packed.tar.gz"
  }

  assert {
    condition     = one(one(aws_imagebuilder_distribution_configuration.this.distribution).ami_distribution_configuration).ami_tags["tl-fif:source"] == trimspace(file("./tests/packed.sources"))
    error_message = "The tag is the digest that lies beside the archive, on which `make bake` relies."
  }
}

run "image_builder_s_rights" {
  command = plan

  assert {
    condition     = [for each in jsondecode(aws_iam_role_policy.pipeline.policy).Statement : each if contains(flatten([each.Action]), "ssm:PutParameter")] == jsondecode(jsonencode([{ Sid = "PublishTheImage", Effect = "Allow", Action = ["ssm:GetParameter", "ssm:GetParameters", "ssm:PutParameter"], Resource = "arn:aws:ssm:eu-central-1:123456789012:parameter/tl-fif/latest_ami_id" }]))
    error_message = "It writes the one parameter that names the image."
  }

  assert {
    condition     = [for each in jsondecode(aws_iam_role_policy.pipeline.policy).Statement : each.Resource if each.Action == "iam:PassRole"] == ["arn:aws:iam::123456789012:role/${aws_iam_role.builder.name}"]
    error_message = "It hands a machine the builder's role and no other."
  }

  assert {
    condition     = alltrue([for each in jsondecode(aws_iam_role_policy.pipeline.policy).Statement : try(each.Condition.StringEquals["aws:ResourceTag/CreatedBy"], "") == "EC2 Image Builder" if anytrue([for action in flatten([each.Action]) : contains(["ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances", "ec2:DeregisterImage", "ec2:ModifyImageAttribute"], action)])])
    error_message = "It stops and ends what it started itself."
  }

  assert {
    condition     = [for each in jsondecode(aws_iam_role_policy.pipeline.policy).Statement : each.Sid if each.Resource == "*"] == ["Look"] && [for each in jsondecode(aws_iam_role_policy.lifecycle.policy).Statement : each.Sid if each.Resource == "*"] == ["Look"] && [for each in jsondecode(aws_iam_role_policy.builder.policy).Statement : each.Sid if each.Resource == "*"] == ["TakeOrders"]
    error_message = "Only what AWS cannot narrow is allowed everywhere."
  }

  assert {
    condition     = jsondecode(aws_iam_role.pipeline.assume_role_policy).Statement[0].Principal == { Service = "imagebuilder.amazonaws.com" } && jsondecode(aws_iam_role.lifecycle.assume_role_policy).Statement[0].Principal == { Service = "imagebuilder.amazonaws.com" } && jsondecode(aws_iam_role.builder.assume_role_policy).Statement[0].Principal == { Service = "ec2.amazonaws.com" }
    error_message = "Image Builder takes two of the roles, its machine the third."
  }

  assert {
    condition     = !anytrue([for each in jsondecode(aws_iam_role_policy.pipeline.policy).Statement : contains(["Tell", "BakeOnSchedule"], each.Sid)])
    error_message = "It tells nobody and starts nothing by itself unless it is to."
  }
}

run "the_logs" {
  command = plan

  assert {
    condition     = { for name, group in aws_cloudwatch_log_group.this : name => group.retention_in_days } == { "/aws/imagebuilder/tl-fif-gpu-node" = 30, "/aws/imagebuilder/pipeline/tl-fif-gpu-node" = 30 }
    error_message = "The groups that Image Builder writes to end after 30 days."
  }

  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.image.rule : one(rule.expiration).days if rule.id == "logs"] == [30]
    error_message = "So do the logs in the bucket."
  }

  assert {
    condition     = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.image.rule : length(rule.expiration) == 0 || one(rule.filter).prefix == "logs/"])
    error_message = "The archive does not: a build may come long after it."
  }
}

run "what_somebody_chose" {
  command = plan

  variables {
    name             = "second"
    instance_type    = "m7i.large"
    zone             = "eu-central-1c"
    keep_images      = 3
    schedule         = "cron(0 3 1 * ? *)"
    notify_topic_arn = "arn:aws:sns:eu-central-1:123456789012:builds"
  }

  assert {
    condition     = [for parameter in one(aws_imagebuilder_distribution_configuration.this.distribution).ssm_parameter_configuration : [parameter.parameter_name, parameter.data_type]] == [["/second/latest_ami_id", "aws:ec2:image"]]
    error_message = "Another system has another parameter."
  }

  assert {
    condition     = aws_imagebuilder_infrastructure_configuration.this.instance_types == toset(["m7i.large"]) && aws_subnet.builder.availability_zone == "eu-central-1c"
    error_message = "The builder is what was chosen, where it was chosen."
  }

  assert {
    condition     = local.parameters.Gpu == "false"
    error_message = "Without a GPU, that is said: the image is not proven."
  }

  assert {
    condition     = one(one(aws_imagebuilder_lifecycle_policy.this.policy_detail).filter).value == 3
    error_message = "Three images are kept."
  }

  assert {
    condition     = one(aws_imagebuilder_image_pipeline.this.schedule).pipeline_execution_start_condition == "EXPRESSION_MATCH_AND_DEPENDENCY_UPDATES_AVAILABLE"
    error_message = "A build by the clock waits for something new."
  }

  assert {
    condition = { for each in jsondecode(aws_iam_role_policy.pipeline.policy).Statement : each.Sid => each.Resource if contains(["Tell", "BakeOnSchedule"], each.Sid) } == {
      Tell           = "arn:aws:sns:eu-central-1:123456789012:builds"
      BakeOnSchedule = "arn:aws:imagebuilder:eu-central-1:123456789012:image-pipeline/second-gpu-node"
    }
    error_message = "It may tell that topic, and start that pipeline."
  }
}

run "a_builder_of_another_architecture" {
  command = plan

  variables {
    instance_type = "m7g.large"
  }

  expect_failures = [var.instance_type]
}

run "a_gpu_beside_another_architecture" {
  command = plan

  variables {
    instance_type = "g5g.xlarge"
  }

  expect_failures = [var.instance_type]
}

run "no_archive_yet" {
  command = plan

  variables {
    archive = "../../dist/of-a-build-that-nobody-ran.tar.gz"
  }

  expect_failures = [var.archive]
}

run "no_image_kept" {
  command = plan

  variables {
    keep_images = 0
  }

  expect_failures = [var.keep_images]
}

run "a_schedule_that_is_none" {
  command = plan

  variables {
    schedule = "monthly"
  }

  expect_failures = [var.schedule]
}

run "too_large_a_network" {
  command = plan

  variables {
    vpc_cidr = "10.21.0.0/16"
  }

  expect_failures = [var.vpc_cidr]
}

run "logs_for_too_long" {
  command = plan

  variables {
    log_days = 90
  }

  expect_failures = [var.log_days]
}
