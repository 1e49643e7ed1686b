# What goes into the image: the documents of ami/components, in the order of their names, on a parent image of AWS's.

locals {
  components = "${local.source}/ami/components"
  documents  = { for file in fileset(local.components, "*.yaml") : trimsuffix(file, ".yaml") => file("${local.components}/${file}") }

  # What a document may ask for by a parameter of this name.
  parameters = {
    Archive       = "s3://${local.bucket}/${local.archive_key}"
    ArchiveSha256 = local.archive_sha256
    Gpu           = tostring(can(regex("^(g|gr|p)[0-9]", var.instance_type)))
    Records       = "s3://${local.bucket}/records"
  }

  # By document, the parameters that it declares.
  asked = { for name, document in local.documents : name => flatten([for each in try(yamldecode(document).parameters, []) : keys(each)]) }

  # A version has three numbers below 2^30, and a document under a version that is there cannot change: the third number
  # is a hash of the document, so that another document is another version without anybody's doing.
  numbers            = [for number in split(".", local.version) : tonumber(number)]
  component_versions = { for name, document in local.documents : name => "${local.numbers[0]}.${local.numbers[1] * 1000 + local.numbers[2]}.${parseint(substr(sha256(document), 0, 7), 16)}" }

  # Image Builder keeps so and so many images of each version of a recipe, so there is one version of ours for ever: a
  # recipe that changes takes the place of the one before. Which source is in an image, its tags say.
  recipe_version = "1.0.0"
}

resource "aws_imagebuilder_component" "this" {
  for_each = local.documents

  name                  = "${local.image}-${each.key}"
  version               = local.component_versions[each.key]
  description           = "ami/components/${each.key}.yaml of ${var.name} ${local.version}"
  platform              = "Linux"
  supported_os_versions = ["Amazon Linux 2023"]
  data                  = each.value

  # Should the old one still be in use somewhere and refuse to go, the pipeline works already.
  lifecycle {
    create_before_destroy = true

    precondition {
      condition     = length(setsubtract(local.asked[each.key], keys(local.parameters))) == 0
      error_message = "ami/components/${each.key}.yaml declares a parameter that terraform/image/recipe.tf has no value for; it has ${join(", ", keys(local.parameters))}."
    }
  }
}

resource "aws_imagebuilder_image_recipe" "this" {
  name              = local.image
  version           = local.recipe_version
  description       = "The GPU node of ${var.name}"
  parent_image      = "arn:${local.partition}:imagebuilder:${var.region}:aws:image/${local.pins.BASE_IMAGE}/${local.pins.BASE_IMAGE_VERSION}"
  working_directory = "/var/tmp" # on the disk; /tmp is memory

  block_device_mapping {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = var.volume_gb
      encrypted             = true
      delete_on_termination = true
    }
  }

  # There is no SSH: the agent is how somebody gets a shell on the node.
  systems_manager_agent {
    uninstall_after_build = false
  }

  dynamic "component" {
    for_each = local.documents

    content {
      component_arn = aws_imagebuilder_component.this[component.key].arn

      dynamic "parameter" {
        for_each = { for name, value in local.parameters : name => value if contains(local.asked[component.key], name) }

        content {
          name  = parameter.key
          value = parameter.value
        }
      }
    }
  }
}
