variable "name" {
  description = "Prefix of every name; the dashboard has it as its whole name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}$", var.name))
    error_message = "Up to 31 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "partition" {
  description = "Partition of AWS, the second part of every ARN."
  type        = string
  default     = "aws"
}

variable "region" {
  description = "Region of everything that is watched."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Write a region like eu-central-1."
  }
}

variable "account_id" {
  description = "The AWS account, whose alarms and budgets alone may publish."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "An account id has 12 digits."
  }
}

variable "api_id" {
  description = "Id of the HTTP API."
  type        = string
}

variable "api_log_group_name" {
  description = "Log group of the API's access log, which the saved query reads."
  type        = string
}

variable "function_names" {
  description = "Names of the Lambda functions by their short names."
  type        = map(string)

  validation {
    condition = length(setsubtract(
      ["router", "authorizer", "queue-health", "waker", "reaper", "gauges", "canary", "cost-publisher", "budget-killer"],
      keys(var.function_names),
    )) == 0
    error_message = "Name router, authorizer, queue-health, waker, reaper, gauges, canary, cost-publisher and budget-killer."
  }
}

variable "queue_cluster_id" {
  description = "CacheClusterId of the node that holds the queue."
  type        = string
}

variable "gpu_instance_ids" {
  description = "EC2 instances whose GPUs the dashboard shows; with the second, that has more than 50 metrics and costs $3 a month."
  type        = list(string)

  validation {
    condition     = length(var.gpu_instance_ids) > 0
    error_message = "Name at least one instance; CloudWatch draws no widget without a metric."
  }
}

variable "worker_log_group_name" {
  description = "Log group of the worker, one JSON document a line."
  type        = string
}

variable "cap_eur" {
  description = "Euros a month at which the GPU is stopped; a line on the dashboard."
  type        = number

  validation {
    condition     = var.cap_eur > 0
    error_message = "A cap is more than nothing; to try the guards, take 0.01."
  }
}

variable "warn_percent" {
  description = "Per cent of the cap at which a warning is sent; a line on the dashboard."
  type        = number
  default     = 75

  validation {
    condition     = var.warn_percent > 0 && var.warn_percent < 100
    error_message = "Warn before the cap: more than 0 and less than 100 per cent."
  }
}

variable "budget_alarm_names" {
  description = "Alarms on the spend, made elsewhere, that the dashboard shows beside those of this module."
  type        = list(string)
  default     = []
}

variable "alert_email" {
  description = "Who gets the mails; AWS asks there for a confirmation first. Null sends none."
  type        = string
  default     = null

  validation {
    condition     = var.alert_email == null || can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alert_email))
    error_message = "Write the address like name@example.org, or leave it null."
  }
}

variable "pagerduty_url" {
  description = "Integration URL of a PagerDuty service of the type Amazon CloudWatch, which holds its key. Null pages by mail alone."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.pagerduty_url == null || can(regex("^https://[^/\\s]+/\\S+$", var.pagerduty_url))
    error_message = "PagerDuty's integration URL begins with https://; its key must not travel in the clear."
  }
}

variable "canary" {
  description = "Who asks /ping every minute: our own Lambda, or CloudWatch Synthetics for $51.84 a month."
  type        = string
  default     = "lambda"

  validation {
    condition     = contains(["lambda", "synthetics"], var.canary)
    error_message = "The canary is lambda or synthetics."
  }

  validation {
    condition     = var.canary != "synthetics" || var.synthetics != null
    error_message = "Say with synthetics what the canary asks and where it stands."
  }
}

variable "synthetics" {
  description = <<-EOT
    What the canary of CloudWatch Synthetics needs. The subnets have IPv4 and IPv6, a way out over IPv6 and a gateway
    endpoint for S3; the security groups let it out to port 443. AWS withdraws runtimes: its user guide lists them.
  EOT
  type = object({
    ping_url           = string
    subnet_ids         = list(string)
    security_group_ids = list(string)
    schedule           = optional(string, "rate(1 minute)")
    runtime            = optional(string, "syn-python-selenium-14.0")
  })
  default = null

  validation {
    condition     = can(regex("^https://\\S+/ping$", var.synthetics.ping_url)) || var.synthetics == null
    error_message = "Write ping_url like https://host/ping."
  }

  validation {
    condition     = can(regex("^rate\\(([1-9]|[1-5][0-9]|60) minutes?\\)$", var.synthetics.schedule)) || var.synthetics == null
    error_message = "Write schedule like rate(1 minute), at most rate(60 minutes)."
  }

  validation {
    condition     = can(regex("^syn-python-selenium-[0-9]+\\.[0-9]+$", var.synthetics.runtime)) || var.synthetics == null
    error_message = "The script is Python's: choose a runtime like syn-python-selenium-14.0."
  }
}
