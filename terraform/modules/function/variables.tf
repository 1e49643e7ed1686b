variable "name" {
  description = "Name of the function; its role and log group are called after it."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]{1,64}$", var.name))
    error_message = "A function's name has up to 64 lower-case letters, digits and hyphens."
  }
}

variable "description" {
  description = "What the function does, in a line."
  type        = string
}

variable "handler" {
  description = "Module and function that Lambda calls, such as router_lambda.handler.handler."
  type        = string

  validation {
    condition     = can(regex("^router_lambda\\.[a-z_]+\\.handler$", var.handler))
    error_message = "Write the handler as router_lambda.<module>.handler."
  }
}

variable "package" {
  description = "Path of the zip that `make lambda-package` builds."
  type        = string

  validation {
    condition     = fileexists(var.package)
    error_message = "There is no such file; run `make lambda-package` in the repository's root first."
  }
}

variable "architecture" {
  description = "Processor that the zip was built for: arm64 or x86_64."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "Lambda runs on arm64 or x86_64."
  }
}

variable "timeout" {
  description = "Longest time that one call may take, in seconds."
  type        = number
  default     = 10

  validation {
    condition     = var.timeout >= 1 && var.timeout <= 900 && floor(var.timeout) == var.timeout
    error_message = "Lambda allows 1 to 900 whole seconds."
  }
}

variable "environment" {
  description = "The function's settings, see router_lambda/README.md."
  type        = map(string)

  validation {
    condition = alltrue([
      for name in keys(var.environment) :
      can(regex("^[A-Za-z][A-Za-z0-9_]+$", name)) && !can(regex("^(AWS_(REGION|DEFAULT_REGION|EXECUTION_ENV|ACCESS_KEY.*|SECRET_ACCESS_KEY|SESSION_TOKEN|LAMBDA_.*)|LAMBDA_.*)$", name))
    ])
    error_message = "Lambda keeps names such as AWS_REGION, AWS_LAMBDA_… and LAMBDA_… to itself and sets them; leave them out."
  }
}

variable "policy_json" {
  description = "IAM policy document with what the code needs; null if it calls nothing. Its logs, traces and network interfaces come by themselves."
  type        = string
  default     = null
}

variable "vpc" {
  description = "Where the function stands if it has to reach Redis; null keeps it outside the VPC. It speaks IPv6 to the outside."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null
}

variable "trace" {
  description = "Whether X-Ray traces every call; the first 100,000 traces of a month are free."
  type        = bool
  default     = true
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the function's log."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60 or 90 days, and longer than is wanted here."
  }
}
