variable "name" {
  description = "Name of the load balancer, up to 32 characters."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]{1,32}$", var.name))
    error_message = "A load balancer's name has up to 32 lower-case letters, digits and hyphens."
  }
}

variable "domain" {
  description = "Host name that the certificate is for, such as gpu.example.com."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]+(\\.[a-z0-9-]+)+$", var.domain))
    error_message = "Write a host name such as gpu.example.com."
  }
}

variable "zone_id" {
  description = "Id of the Route 53 zone of that name: the certificate is proven there, and the name leads to the load balancer."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the load balancer."
  type        = string
}

variable "client_cidrs" {
  description = "IPv4 networks that may connect."
  type        = list(string)

  validation {
    condition     = length(var.client_cidrs) > 0 && alltrue([for cidr in var.client_cidrs : !endswith(cidr, "/0")])
    error_message = "Name at least one network, and not the whole internet."
  }
}

variable "subnet_id" {
  description = "Subnet of the load balancer."
  type        = string
}

variable "instance_ids" {
  description = "Instances behind it."
  type        = list(string)
}

variable "instance_security_group_id" {
  description = "Security group of the instances, which gets a rule for the load balancer."
  type        = string
}
