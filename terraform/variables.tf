# What can be chosen. The defaults are those of profiles/lean.tfvars wherever a choice costs money.

variable "region" {
  description = "AWS region of everything but the global services."
  type        = string
  default     = "eu-central-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Write a region such as eu-central-1."
  }
}

variable "name" {
  description = "Prefix of every name and value of the tag `project`; another one makes a second system beside the first."
  type        = string
  default     = "tl-fif"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "The name has 3 to 20 lower-case letters, digits and hyphens and begins with a letter."
  }
}

variable "alert_email" {
  description = "Where alarms and the budget's warnings are sent; AWS asks that address once to confirm."
  type        = string

  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+[.][^@ ]+$", var.alert_email))
    error_message = "Write a mail address."
  }
}

variable "pagerduty_url" {
  description = "Integration address of a PagerDuty service (Amazon CloudWatch), for what should wake somebody; null pages by mail alone."
  type        = string
  default     = null
  sensitive   = true
}

variable "package" {
  description = "Path of the zip with the functions, as `make lambda-package` builds it; null takes the one in dist/ for the architecture."
  type        = string
  default     = null
}

variable "architecture" {
  description = "Processor of the functions: arm64, which costs a fifth less, or x86_64."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "Lambda runs on arm64 or x86_64."
  }
}

variable "zone" {
  description = "Availability zone of everything; null takes the first that has the GPU's type."
  type        = string
  default     = null
}

variable "vpc_cidr" {
  description = "IPv4 addresses of the VPC, a /22."
  type        = string
  default     = "10.20.0.0/22"
}

variable "ping_cidrs" {
  description = "Networks beside the VPC's own that may ask /ping and /queue-health, such as those of an external checker."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.ping_cidrs : can(cidrhost(cidr, 0)) && !endswith(cidr, "/0")])
    error_message = "Write networks such as 203.0.113.0/24 or 2001:db8::/32, and not the whole internet."
  }
}

variable "bucket" {
  description = "Name of the bucket of the replies; null makes one of name, account and region."
  type        = string
  default     = null
}

variable "reply_days" {
  description = "Days after which a reply is deleted."
  type        = number
  default     = 1
}

variable "queue_engine" {
  description = "What keeps the queue: redis or valkey."
  type        = string
  default     = "valkey"
}

variable "queue_node_type" {
  description = "Size of the queue's node."
  type        = string
  default     = "cache.t4g.micro"
}

variable "ami_id" {
  description = "Image of the GPU; null takes the one that SSM's parameter /<name>/latest_ami_id names."
  type        = string
  default     = null
}

variable "gpu_instance_type" {
  description = "Type of the GPU's instances."
  type        = string
  default     = "g4dn.xlarge"
}

variable "gpu_volume_gb" {
  description = "Size of the GPU's disk in GB, paid for around the clock."
  type        = number
  default     = 30
}

variable "gpu_public_ipv4" {
  description = "Whether the GPU has a public IPv4 address while it runs, for $0.005 an hour: for what cannot speak IPv6, such as Session Manager."
  type        = bool
  default     = false
}

variable "gpu_tag" {
  description = "EC2 tag that marks the GPU's instances. It must be theirs alone: whatever carries it is started and stopped."
  type = object({
    name  = string
    value = string
  })
  default = { name = "env", value = "tinyllama" }

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{1,64}$", var.gpu_tag.name)) && can(regex("^[A-Za-z0-9_.-]{1,64}$", var.gpu_tag.value))
    error_message = "Name and value of the tag have letters, digits, dots, hyphens and underscores."
  }
}

variable "max_gpus" {
  description = "How many GPUs there are and may run at a time; each costs as much as the first."
  type        = number
  default     = 1
}

variable "max_session_minutes" {
  description = "Minutes that a GPU may run without a break."
  type        = number
  default     = 240
}

variable "idle_minutes" {
  description = "Idle minutes after which a GPU stops itself, unless a job asks for another time."
  type        = number
  default     = 5
}

variable "model" {
  description = "The worker's TLFIF_MODEL: a folder in the image."
  type        = string
  default     = "/opt/tl-fif/model"
}

variable "api_key_sha256" {
  description = "SHA-256, in hex, of each key that opens the OpenAI-compatible API of the GPU; none, and it answers nobody. Another list makes the GPU anew."
  type        = list(string)
  default     = []
}

variable "node_certificate_arn" {
  description = "ARN of a certificate in ACM that may be exported, for the proxy on the GPU; null lets it make its own."
  type        = string
  default     = null
}

variable "worker_environment" {
  description = "Further settings of the worker, such as TLFIF_ENGINE_ARGS."
  type        = map(string)
  default     = {}
}

variable "tls" {
  description = "Whether a network load balancer offers TLS on 443 inside the VPC; about $20 a month."
  type        = bool
  default     = false

  validation {
    condition     = !var.tls || (var.tls_domain != null && var.tls_zone_id != null)
    error_message = "With tls, give tls_domain and tls_zone_id too: the certificate needs a name and a zone that proves it."
  }
}

variable "tls_domain" {
  description = "Host name of the TLS endpoint."
  type        = string
  default     = null
}

variable "tls_zone_id" {
  description = "Id of the Route 53 zone of that name."
  type        = string
  default     = null
}

variable "canary" {
  description = "Who asks /ping every minute: lambda, for next to nothing, or synthetics, which costs $52 a month."
  type        = string
  default     = "lambda"

  validation {
    condition     = contains(["lambda", "synthetics"], var.canary)
    error_message = "The canary is lambda or synthetics."
  }
}

variable "trace_schedules" {
  description = "Whether X-Ray traces the functions that run every minute too, beyond what is free."
  type        = bool
  default     = false
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps logs."
  type        = number
  default     = 30
}

variable "cap_eur" {
  description = "Euros a month above which no GPU is started and those that run are stopped."
  type        = number
  default     = 20

  validation {
    condition     = var.cap_eur > 0 && var.cap_eur <= 10000
    error_message = "The cap is above 0 and at most 10,000 euros."
  }
}

variable "usd_per_eur" {
  description = "Dollars for a euro, for AWS Budgets, which knows dollars alone, and where no rate can be fetched. That of November 2026; set it anew now and then."
  type        = number
  default     = 1.138

  validation {
    condition     = var.usd_per_eur > 0.5 && var.usd_per_eur < 2
    error_message = "Write dollars for a euro, such as 1.138."
  }
}

variable "fixed_usd_per_month" {
  description = "What everything but the running GPU costs a month, as `python -m terraform.cost` computes it."
  type        = number

  validation {
    condition     = var.fixed_usd_per_month >= 0
    error_message = "AWS pays nobody; take the figure that `python -m terraform.cost` prints."
  }
}

variable "gpu_usd_per_hour" {
  description = "What an hour of the GPU costs."
  type        = number
  default     = 0.658
}

variable "bill_hours" {
  description = "Hours between two questions to Cost Explorer, each for a cent; 0 asks at every run."
  type        = number
  default     = 24

  validation {
    condition     = var.bill_hours >= 0 && var.bill_hours <= 24
    error_message = "Cost Explorer is asked every 0 to 24 hours."
  }
}

variable "cost_tag" {
  description = "Cost allocation tag that the budget counts alone, as name=value; null counts the whole account. It has to be activated in AWS Billing first."
  type        = string
  default     = null
}
