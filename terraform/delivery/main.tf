# Delivery: a pipeline that tests each push, bakes the image, deploys the functions and asks the system a question. A root
# of its own, which the system does without: whoever deploys by hand has neither this nor its costs.

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

module "pipeline" {
  source = "../modules/pipeline"

  name       = var.name
  partition  = data.aws_partition.this.partition
  region     = var.region
  account_id = data.aws_caller_identity.this.account_id

  repository = var.repository
  branch     = var.branch

  test_target       = var.test_target
  test_compute      = var.test_compute
  test_architecture = var.test_architecture
  bake              = var.bake
  max_bake_eur      = var.max_bake_eur
  image_variables   = var.image_variables
  canary_seconds    = var.canary_seconds

  api_url                  = var.api_url
  cognito_client_id        = var.cognito_client_id
  smoke_username           = var.smoke_username
  smoke_password_parameter = var.smoke_password_parameter

  alert_email              = var.alert_email
  slack_webhook_parameter  = var.slack_webhook_parameter
  artifact_days            = var.artifact_days
  log_days                 = var.log_days
  github_actions           = var.github_actions
  github_oidc_provider_arn = var.github_oidc_provider_arn
}
