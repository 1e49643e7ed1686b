# What can be chosen. Which versions go into the image is not among it: they stand in ami/pins.env.

variable "region" {
  description = "AWS region of the image: that of the system that is to boot from it."
  type        = string
  default     = "eu-central-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Write a region such as eu-central-1."
  }
}

variable "name" {
  description = "The system's `name`: prefix of every name, and of the SSM parameter in which that system looks for its image."
  type        = string
  default     = "tl-fif"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "The name has 3 to 20 lower-case letters, digits and hyphens and begins with a letter."
  }
}

variable "archive" {
  description = "Path of the source archive that `make image-package` builds."
  type        = string
  default     = "../../dist/tl-fif-node.tar.gz"

  validation {
    condition     = fileexists(var.archive)
    error_message = "There is no such file; run `make image-package` in the repository's root first."
  }
}

variable "zone" {
  description = "Availability zone of the builder; null takes the first that has its type."
  type        = string
  default     = null
}

variable "vpc_cidr" {
  description = "IPv4 addresses of the builder's VPC, which is connected to no other, a /24 to /28."
  type        = string
  default     = "10.21.0.0/24"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && can(regex("/2[4-8]$", var.vpc_cidr))
    error_message = "Write a network such as 10.21.0.0/24; the builder needs no more, and AWS allows none below a /28."
  }
}

variable "instance_type" {
  description = "Type of the machines that build and test the image: g4dn.xlarge, or an x86 type without a GPU such as m7i.large, on which the image is not proven."
  type        = string
  default     = "g4dn.xlarge"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*[.][a-z0-9-]+$", var.instance_type))
    error_message = "Write an instance type such as g4dn.xlarge."
  }

  # Behind the generation's number, a g is Graviton: m7g, c7gn, x2gd, g5g; g4dn has its own before it.
  validation {
    condition     = !can(regex("^(a1|mac2[a-z0-9-]*|[a-z]+[0-9]+[a-z]*g[a-z]*)[.]", var.instance_type))
    error_message = "The GPU's machines are x86, and what a Graviton machine such as m7g.large builds, arm64, boots on none of them: take g4dn.xlarge, or m7i.large, on which nothing is proven."
  }
}

variable "volume_gb" {
  description = "Size of the image's disk in GB; the GPU's own disk cannot be smaller."
  type        = number
  default     = 30

  validation {
    condition     = var.volume_gb >= 20 && var.volume_gb <= 500
    error_message = "The image with its weights needs 20 GB or more, and nobody wants to pay for more than 500."
  }
}

variable "keep_images" {
  description = "How many images are kept, the newest; each beyond the first costs about $1.08 a month that the profile `lean` does not have."
  type        = number
  default     = 1

  validation {
    condition     = var.keep_images >= 1 && var.keep_images <= 10 && floor(var.keep_images) == var.keep_images
    error_message = "Keep 1 to 10 images: the GPU needs one to be made from."
  }
}

variable "schedule" {
  description = "When an image is baked by itself if the parent image has a newer release, such as cron(0 3 1 * ? *) for the first of each month; null bakes when somebody asks."
  type        = string
  default     = null

  validation {
    condition     = var.schedule == null || can(regex("^cron[(][^()]+[)]$", var.schedule))
    error_message = "Write cron(…), with six fields in UTC, such as cron(0 3 1 * ? *)."
  }
}

variable "notify_topic_arn" {
  description = "SNS topic that is told of every build's end; null tells nobody."
  type        = string
  default     = null

  validation {
    condition     = var.notify_topic_arn == null || can(regex("^arn:[a-z-]+:sns:", var.notify_topic_arn))
    error_message = "Write the ARN of an SNS topic."
  }
}

variable "log_days" {
  description = "Days for which the builds' logs are kept, in S3 and in CloudWatch."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30], var.log_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14 or 30 days; more than 30 is against the rules of this repository."
  }
}
