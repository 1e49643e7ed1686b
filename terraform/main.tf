# The whole AWS side: which parts there are, and who knows of whom.

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

data "aws_ec2_instance_type_offerings" "gpu" {
  count = var.zone == null ? 1 : 0

  location_type = "availability-zone"

  filter {
    name   = "instance-type"
    values = [var.gpu_instance_type]
  }
}

# All below the path, so that a parameter that is not there yet is told in words.
data "aws_ssm_parameters_by_path" "ami" {
  count = var.ami_id == null ? 1 : 0

  path = "/${var.name}"

  lifecycle {
    postcondition {
      condition     = contains(self.names, local.ami_parameter)
      error_message = "There is no image for the GPU yet: bake one as docs/deploy.md says, whose id is published as the SSM parameter ${local.ami_parameter}, or name one by -var ami_id=ami-…"
    }
  }
}

# ARNs are put together here from what is known, so that a plan shows every policy in full.
locals {
  account       = data.aws_caller_identity.this.account_id
  partition     = data.aws_partition.this.partition
  zone          = var.zone != null ? var.zone : sort(data.aws_ec2_instance_type_offerings.gpu[0].locations)[0]
  ami_parameter = "/${var.name}/latest_ami_id"
  ami_id        = var.ami_id != null ? var.ami_id : nonsensitive(zipmap(data.aws_ssm_parameters_by_path.ami[0].names, data.aws_ssm_parameters_by_path.ami[0].values)[local.ami_parameter])
  bucket        = var.bucket != null ? var.bucket : "${var.name}-${local.account}-${var.region}"
  bucket_arn    = "arn:${local.partition}:s3:::${local.bucket}"
  package       = var.package != null ? var.package : "${path.module}/../dist/tl-fif-router-${var.architecture}.zip"
  instances_arn = "arn:${local.partition}:ec2:${var.region}:${local.account}:instance/*"
}

module "network" {
  source = "./modules/network"

  name            = var.name
  cidr            = var.vpc_cidr
  zone            = local.zone
  region          = var.region
  gpu_public_ipv4 = var.gpu_public_ipv4
}

module "queue" {
  source = "./modules/queue"

  name                      = var.name
  engine                    = var.queue_engine
  node_type                 = var.queue_node_type
  vpc_id                    = module.network.vpc_id
  subnet_id                 = module.network.subnet_ids["queue"]
  client_security_group_ids = module.network.security_group_ids
}

module "replies" {
  source = "./modules/replies"

  bucket     = local.bucket
  reply_days = var.reply_days
}

module "identity" {
  source = "./modules/identity"

  name   = var.name
  region = var.region
}

module "router" {
  source = "./modules/router"

  name         = var.name
  package      = local.package
  architecture = var.architecture
  vpc = {
    subnet_ids         = [module.network.subnet_ids["functions"]]
    security_group_ids = [module.network.security_group_ids["functions"]]
  }
  redis_url           = module.queue.url
  bucket              = module.replies.bucket
  bucket_arn          = local.bucket_arn
  instances_arn       = local.instances_arn
  gpu_tag             = var.gpu_tag
  max_gpus            = var.max_gpus
  max_session_minutes = var.max_session_minutes
  cap_eur             = var.cap_eur
  ping_cidrs          = concat(module.network.cidr_blocks, var.ping_cidrs)
  jwt = {
    jwks_url = module.identity.jwks_url
    issuer   = module.identity.issuer
    audience = module.identity.client_id
  }
  api_url            = module.api.url
  trace_schedules    = var.trace_schedules
  log_retention_days = var.log_retention_days
}

module "api" {
  source = "./modules/api"

  name               = var.name
  openapi            = "${path.module}/../router_lambda/openapi.yaml"
  functions          = module.router.functions
  log_retention_days = var.log_retention_days
}

module "gpu" {
  source = "./modules/gpu"

  name               = var.name
  instances          = var.max_gpus
  ami_id             = local.ami_id
  instance_type      = var.gpu_instance_type
  volume_gb          = var.gpu_volume_gb
  subnet_id          = module.network.subnet_ids["gpu"]
  security_group_id  = module.network.security_group_ids["gpu"]
  tag                = var.gpu_tag
  region             = var.region
  redis_url          = module.queue.url
  bucket             = module.replies.bucket
  bucket_arn         = local.bucket_arn
  model              = var.model
  idle_minutes       = var.idle_minutes
  api_key_sha256     = var.api_key_sha256
  certificate_arn    = var.node_certificate_arn
  worker_environment = var.worker_environment
  log_retention_days = var.log_retention_days
}

module "tls" {
  source = "./modules/tls"
  count  = var.tls ? 1 : 0

  name                       = var.name
  domain                     = var.tls_domain
  zone_id                    = var.tls_zone_id
  vpc_id                     = module.network.vpc_id
  client_cidrs               = [var.vpc_cidr]
  subnet_id                  = module.network.subnet_ids["gpu"]
  instance_ids               = module.gpu.instance_ids
  instance_security_group_id = module.network.security_group_ids["gpu"]
}

locals {
  function_names = merge(
    { for name, function in module.router.functions : name => function.function_name },
    module.budget.function_names,
  )
}

module "observability" {
  source = "./modules/observability"

  name                  = var.name
  partition             = local.partition
  region                = var.region
  account_id            = local.account
  api_id                = module.api.id
  api_log_group_name    = module.api.access_log_group_name
  function_names        = local.function_names
  queue_cluster_id      = module.queue.cluster_id
  gpu_instance_ids      = module.gpu.instance_ids
  worker_log_group_name = module.gpu.log_group_name
  cap_eur               = var.cap_eur
  budget_alarm_names    = values(module.budget.alarm_names)
  alert_email           = var.alert_email
  pagerduty_url         = var.pagerduty_url
  canary                = var.canary
  synthetics = var.canary == "synthetics" ? {
    ping_url           = module.api.ping_url
    subnet_ids         = [module.network.subnet_ids["functions"]]
    security_group_ids = [module.network.security_group_ids["functions"]]
  } : null
}

module "budget" {
  source = "./modules/budget"

  name                = var.name
  partition           = local.partition
  region              = var.region
  account_id          = local.account
  cap_eur             = var.cap_eur
  usd_per_eur         = var.usd_per_eur
  alert_topic_arn     = module.observability.alert_topic_arn
  alert_email         = var.alert_email
  package             = local.package
  architecture        = var.architecture
  bucket              = module.replies.bucket
  bucket_arn          = local.bucket_arn
  instances_arn       = local.instances_arn
  gpu_tag             = var.gpu_tag
  gpu_type            = var.gpu_instance_type
  fixed_usd_per_month = var.fixed_usd_per_month
  gpu_usd_per_hour    = var.gpu_usd_per_hour
  bill_hours          = var.bill_hours
  cost_tag            = var.cost_tag
  log_retention_days  = var.log_retention_days
}
