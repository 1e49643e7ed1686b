variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "instances" {
  description = "How many instances there are; as many as TLFIF_MAX_GPUS may run at a time. A stopped one costs its disk."
  type        = number
  default     = 1

  validation {
    condition     = var.instances >= 1 && var.instances <= 16 && floor(var.instances) == var.instances
    error_message = "There are 1 to 16 GPUs."
  }
}

variable "ami_id" {
  description = "Image that the instances boot from; another one replaces them."
  type        = string

  validation {
    condition     = startswith(var.ami_id, "ami-")
    error_message = "An image's id begins with ami-."
  }
}

variable "instance_type" {
  description = "Type of the instances; the project is measured for g4dn.xlarge, one T4."
  type        = string
  default     = "g4dn.xlarge"
}

variable "volume_gb" {
  description = "Size of each disk in GB, paid for around the clock; at least that of the image."
  type        = number

  validation {
    condition     = var.volume_gb >= 20 && var.volume_gb <= 500
    error_message = "The image with its weights needs 20 GB or more, and nobody wants to pay for more than 500."
  }
}

variable "subnet_id" {
  description = "Private subnet of the instances."
  type        = string
}

variable "security_group_id" {
  description = "Security group of the instances."
  type        = string
}

variable "tag" {
  description = "EC2 tag by which router, reaper and killer find the instances."
  type = object({
    name  = string
    value = string
  })
}

variable "region" {
  description = "AWS region, as the worker's AWS_REGION."
  type        = string
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

variable "model" {
  description = "The worker's TLFIF_MODEL: a folder in the image."
  type        = string
  default     = "/opt/tl-fif/model"
}

variable "idle_minutes" {
  description = "Idle minutes after which an instance stops itself, unless a job asks for another time."
  type        = number
  default     = 5

  validation {
    condition     = var.idle_minutes >= 1 && var.idle_minutes <= 30
    error_message = "The idle time is 1 to 30 minutes."
  }
}

variable "api_key_sha256" {
  description = "SHA-256, in hex, of each key that opens the OpenAI-compatible API; several while one replaces another, none and the API answers nobody. The keys themselves are nowhere on the node."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for hash in var.api_key_sha256 : can(regex("^[0-9a-f]{64}$", hash))])
    error_message = "Give hashes of 64 lower-case hex digits, not the keys: printf %s \"$KEY\" | sha256sum."
  }
}

variable "certificate_arn" {
  description = "ARN of a certificate in ACM that may be exported, for the proxy on the instances; null lets each make its own."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[A-Za-z0-9_-]+$", var.certificate_arn))
    error_message = "Write an ARN such as arn:aws:acm:eu-central-1:123456789012:certificate/12345678-…."
  }
}

variable "worker_environment" {
  description = "Further settings of the worker, such as TLFIF_ENGINE_ARGS; they win over those that are set here."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([
      for name, value in var.worker_environment : can(regex("^(TLFIF|AWS|VLLM)_[A-Z0-9_]+$", name)) && !can(regex("['\n]", value))
    ])
    error_message = "Names begin with TLFIF_, AWS_ or VLLM_; values have neither single quotes nor line breaks."
  }
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the worker's log."
  type        = number
  default     = 30
}
