variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "cidr" {
  description = "IPv4 addresses of the VPC, a /22; /ping answers to them."
  type        = string
  default     = "10.20.0.0/22"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/22")
    error_message = "Write a /22 such as 10.20.0.0/22: it is divided into a /24 each for the GPU, Redis and the functions."
  }
}

variable "zone" {
  description = "Availability zone of everything: traffic between zones costs money."
  type        = string
}

variable "region" {
  description = "AWS region, for the name of the S3 endpoint."
  type        = string
}

variable "gpu_public_ipv4" {
  description = "Whether the GPU reaches the outside by IPv4 too, through an address that it has while it runs, for $0.005 an hour: for what has no IPv6, such as Session Manager where SSM has no dual-stack endpoint. Nothing gets in either way."
  type        = bool
  default     = false
}
