variable "name" {
  description = "Prefix of every name."
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
  description = "Region of everything here; the budget itself is of the whole account."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Write a region like eu-central-1."
  }
}

variable "account_id" {
  description = "The AWS account, whose budget and alarm alone may call the killer."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "An account id has 12 digits."
  }
}

variable "cap_eur" {
  description = "Euros a month at which every GPU is stopped, and none is started before the next month."
  type        = number

  validation {
    condition     = var.cap_eur >= 0.01 && var.cap_eur <= 10000
    error_message = "The cap is 0.01 to 10,000 euros; 0.01 is good for a try of the shutdown."
  }
}

variable "warn_percent" {
  description = "Per cent of the cap at which a warning is sent."
  type        = number
  default     = 75

  validation {
    condition     = var.warn_percent > 0 && var.warn_percent < 100
    error_message = "Warn before the cap: more than 0 and less than 100 per cent."
  }
}

variable "usd_per_eur" {
  description = "Dollars for a euro, for AWS Budgets, which counts in dollars alone, and for the publisher where the ECB does not answer. That of November 2026; set it anew now and then."
  type        = number
  default     = 1.138

  validation {
    condition     = var.usd_per_eur > 0.5 && var.usd_per_eur < 2
    error_message = "Write dollars for a euro, such as 1.138."
  }
}

variable "alert_topic_arn" {
  description = "Topic of the warnings, and of the killer's failures; its policy lets budgets and alarms of this account publish."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:sns:", var.alert_topic_arn))
    error_message = "Give the ARN of an SNS topic."
  }
}

variable "alert_email" {
  description = "Who gets AWS Budgets' own mails besides, which need no confirmation; null sends none."
  type        = string
  default     = null

  validation {
    condition     = var.alert_email == null || can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alert_email))
    error_message = "Write the address like name@example.org, or leave it null."
  }
}

variable "package" {
  description = "Path of the zip that `make lambda-package` builds."
  type        = string
}

variable "architecture" {
  description = "Processor that the zip was built for: arm64 or x86_64."
  type        = string
}

variable "bucket" {
  description = "Name of the bucket of the replies, in which guard/ tells who starts GPUs what was spent."
  type        = string
}

variable "bucket_arn" {
  description = "ARN of that bucket."
  type        = string
}

variable "instances_arn" {
  description = "ARN pattern of every EC2 instance of this account and region; the GPU's tag narrows it."
  type        = string
}

variable "gpu_tag" {
  description = "EC2 tag that marks the GPU's instances."
  type = object({
    name  = string
    value = string
  })
}

variable "gpu_type" {
  description = "EC2's name of their type, whose hours are metered and left out of the bill."
  type        = string
  default     = "g4dn.xlarge"
}

variable "gpu_usd_per_hour" {
  description = "What an hour of an instance costs, in dollars."
  type        = number

  validation {
    condition     = var.gpu_usd_per_hour > 0
    error_message = "A GPU for nothing needs no budget; give its price for an hour."
  }
}

variable "fixed_usd_per_month" {
  description = "What everything but the running GPU costs a month, in dollars, as `python -m terraform.cost` computes it."
  type        = number

  validation {
    condition     = var.fixed_usd_per_month >= 0
    error_message = "AWS pays nobody; take the figure that `python -m terraform.cost` prints."
  }
}

variable "bill_hours" {
  description = "Hours for which an answer of Cost Explorer, which costs a cent, is used; 0 asks at every run."
  type        = number
  default     = 24

  validation {
    condition     = var.bill_hours >= 0 && var.bill_hours <= 24 && floor(var.bill_hours) == var.bill_hours
    error_message = "An answer is used for 0 to 24 whole hours."
  }
}

variable "cost_tag" {
  description = "Cost allocation tag whose costs alone count, as name=value; null counts the whole account. It has to be activated in AWS Billing first, or nothing is counted."
  type        = string
  default     = null

  validation {
    condition     = var.cost_tag == null || can(regex("^[^=$]+=[^=$]+$", var.cost_tag))
    error_message = "Write the tag like project=tl-fif."
  }
}

variable "schedule" {
  description = "When the spend is published, as EventBridge writes it; an alarm expects it within the hour."
  type        = string
  default     = "rate(15 minutes)"

  validation {
    condition     = can(regex("^rate\\((1 minute|([2-9]|1[0-5]) minutes)\\)$", var.schedule))
    error_message = "Publish every 1 to 15 minutes, like rate(15 minutes)."
  }
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the logs."
  type        = number
  default     = 30
}
