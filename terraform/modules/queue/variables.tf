variable "name" {
  description = "Name of the cluster; a replication group's has up to 40 characters."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,39}$", var.name))
    error_message = "Begin with a letter and use up to 40 lower-case letters, digits and hyphens."
  }
}

variable "engine" {
  description = "What keeps the queue: redis (6.2, as specified) or valkey (8.0, a fifth cheaper)."
  type        = string
  default     = "valkey"

  validation {
    condition     = contains(["redis", "valkey"], var.engine)
    error_message = "The engine is redis or valkey."
  }
}

variable "node_type" {
  description = "Size of the one node."
  type        = string
  default     = "cache.t4g.micro"

  validation {
    condition     = startswith(var.node_type, "cache.")
    error_message = "Write a node type of ElastiCache, such as cache.t4g.micro."
  }
}

variable "vpc_id" {
  description = "VPC that the security group belongs to."
  type        = string
}

variable "subnet_id" {
  description = "The one subnet of the node."
  type        = string
}

variable "client_security_group_ids" {
  description = "Security groups that may reach the queue, by a short name; nobody else can."
  type        = map(string)
}
