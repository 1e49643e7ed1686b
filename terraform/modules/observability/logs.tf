# What logs tell beyond the metrics in them. The access log has no filter: API Gateway counts its calls and their latency
# itself, at no cost.

locals {
  # Of the line that worker/report.py writes for each finished job. A job that failed early has null there, which is no
  # number, so that the comparison leaves it out.
  job_figures = {
    FirstTokenMs = "first_token_ms"
    JobMs        = "total_ms"
  }
}

resource "aws_cloudwatch_log_metric_filter" "job" {
  for_each = local.job_figures

  name           = "${var.name}-${each.value}"
  log_group_name = var.worker_log_group_name
  pattern        = "{ $.event = \"job finished\" && $.${each.value} >= 0 }"

  metric_transformation {
    namespace = "TLFIF/Worker"
    name      = each.key
    value     = "$.${each.value}"
    unit      = "Milliseconds"
  }
}

resource "aws_cloudwatch_query_definition" "api_latency" {
  name            = "${var.name}/api_latency"
  log_group_names = [var.api_log_group_name]
  query_string    = file("${path.module}/../../queries/api_latency.cwi")
}
