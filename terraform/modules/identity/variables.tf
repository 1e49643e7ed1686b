variable "name" {
  description = "Name of the user pool and prefix of its client's."
  type        = string
}

variable "region" {
  description = "AWS region, part of the issuer's address."
  type        = string
}

variable "token_minutes" {
  description = "Life of a token in minutes. A user who is disabled keeps access for that long, as tokens are checked without asking Cognito."
  type        = number
  default     = 60

  validation {
    condition     = var.token_minutes >= 5 && var.token_minutes <= 1440
    error_message = "Cognito's tokens live for 5 to 1440 minutes."
  }
}

variable "refresh_days" {
  description = "Days for which `tlfif` renews tokens without asking for the password again."
  type        = number
  default     = 30

  validation {
    condition     = var.refresh_days >= 1 && var.refresh_days <= 3650
    error_message = "Cognito's refresh tokens live for 1 to 3650 days."
  }
}

variable "deletion_protection" {
  description = "Whether the pool, and the users in it, are safe from `terraform destroy`."
  type        = bool
  default     = false
}
