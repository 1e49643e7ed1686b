variable "name" {
  description = "Name of the API."
  type        = string
}

variable "openapi" {
  description = "Path of router_lambda/openapi.yaml: routes, and which of them ask for a token, come from there."
  type        = string
}

variable "functions" {
  description = "The functions behind the API, by short name: router, authorizer and those of path_functions."
  type = map(object({
    function_name    = string
    alias_name       = string
    alias_invoke_arn = string
  }))

  validation {
    condition     = alltrue([for each in ["authorizer", "router"] : contains(keys(var.functions), each)])
    error_message = "The API needs at least the functions router and authorizer."
  }
}

variable "path_functions" {
  description = "Short name of the function that answers a path; the router answers all others."
  type        = map(string)
  default     = { "/queue-health" = "queue-health" }
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the access log."
  type        = number
  default     = 30
}

variable "throttle" {
  description = "What the whole API takes, of all users together: requests at once, and a second. Each user's own limit is the router's."
  type = object({
    burst = number
    rate  = number
  })
  default = { burst = 40, rate = 20 }

  validation {
    condition     = var.throttle.burst >= 1 && var.throttle.rate > 0
    error_message = "An API that takes no request is none."
  }
}
