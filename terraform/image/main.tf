# The GPU's machine image: a pipeline of EC2 Image Builder that bakes it, tests it and publishes its id. A root of its
# own, whose state outlives the system's: the image is there before the system, and may stay when the system goes.

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

data "aws_ec2_instance_type_offerings" "builder" {
  count = var.zone == null ? 1 : 0

  location_type = "availability-zone"

  filter {
    name   = "instance-type"
    values = [var.instance_type]
  }
}

locals {
  account   = data.aws_caller_identity.this.account_id
  partition = data.aws_partition.this.partition
  zone      = var.zone != null ? var.zone : sort(data.aws_ec2_instance_type_offerings.builder[0].locations)[0]
  source    = "${path.module}/../.."

  # ami/pins.env: NAME=value lines and comments.
  pins = { for pin in regexall("(?m)^([A-Z0-9_]+)=(.*)$", file("${local.source}/ami/pins.env")) : pin[0] => pin[1] }

  # What the system calls the image, and Image Builder everything that belongs to it.
  image         = "${var.name}-gpu-node"
  version       = trimspace(file("${local.source}/VERSION"))
  ami_parameter = "/${var.name}/latest_ami_id"

  # ARNs are put together here from what is known, so that a plan shows every policy in full.
  builder_arn       = "arn:${local.partition}:imagebuilder:${var.region}:${local.account}"
  bucket            = "${var.name}-image-${local.account}-${var.region}"
  bucket_arn        = "arn:${local.partition}:s3:::${local.bucket}"
  ami_parameter_arn = "arn:${local.partition}:ssm:${var.region}:${local.account}:parameter${local.ami_parameter}"
}
