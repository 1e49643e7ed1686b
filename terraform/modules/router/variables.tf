variable "name" {
  description = "Prefix of every function's name."
  type        = string
}

variable "package" {
  description = "Path of the zip that `make lambda-package` builds."
  type        = string
}

variable "architecture" {
  description = "Processor that the zip was built for: arm64 or x86_64."
  type        = string
}

variable "vpc" {
  description = "Where those functions stand that need Redis."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
}

variable "redis_url" {
  description = "Address of the queue."
  type        = string
}

variable "bucket" {
  description = "Name of the bucket of the replies."
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

variable "max_gpus" {
  description = "How many GPUs may run at a time; each costs as much as the first."
  type        = number
}

variable "max_session_minutes" {
  description = "Minutes that a GPU may run without a break before the reaper stops it."
  type        = number

  validation {
    condition     = var.max_session_minutes >= 10 && var.max_session_minutes <= 1440
    error_message = "The reaper allows sessions of 10 to 1440 minutes."
  }
}

variable "cap_eur" {
  description = "Euros a month above which no GPU is started."
  type        = number
}

variable "ping_cidrs" {
  description = "Networks that may ask /ping and /queue-health, IPv4 and IPv6."
  type        = list(string)

  validation {
    condition     = length(var.ping_cidrs) > 0 && alltrue([for cidr in var.ping_cidrs : !endswith(cidr, "/0")])
    error_message = "Name at least one network, and not the whole internet."
  }
}

variable "jwt" {
  description = "Whose tokens are let in: address of the keys, issuer, and id of the app client."
  type = object({
    jwks_url = string
    issuer   = string
    audience = string
  })
}

variable "api_url" {
  description = "Address of the API, which the canary asks."
  type        = string
}

variable "trace_schedules" {
  description = "Whether X-Ray traces the functions that run every minute too: about 170,000 traces a month."
  type        = bool
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the logs; the canary's, which hold samples of answers, for a day."
  type        = number
}
