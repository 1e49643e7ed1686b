variable "bucket" {
  description = "Name of the bucket, which no other AWS account in the world may have; no dots, so that its certificate matches."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "A bucket's name here has 3 to 63 lower-case letters, digits and hyphens."
  }
}

variable "reply_days" {
  description = "Days after which a reply is deleted; the address of a reply is good for an hour."
  type        = number
  default     = 1

  validation {
    condition     = var.reply_days >= 1 && floor(var.reply_days) == var.reply_days
    error_message = "S3 deletes after whole days, at least one."
  }
}

variable "force_destroy" {
  description = "Whether `terraform destroy` deletes what is in the bucket: replies, which are short-lived, and the spend of this month."
  type        = bool
  default     = true
}
