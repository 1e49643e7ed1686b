# The real provider with keys that open nothing, and plans alone: policies and the dashboard are computed as they would
# be in an account.

provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
}

variables {
  name                  = "tl-fif"
  region                = "eu-central-1"
  account_id            = "123456789012"
  api_id                = "a1b2c3d4e5"
  api_log_group_name    = "/apigw/tl-fif"
  queue_cluster_id      = "tl-fif-001"
  gpu_instance_ids      = ["i-0123456789abcdef0"]
  worker_log_group_name = "/tl-fif/worker"
  cap_eur               = 20
  budget_alarm_names    = ["tl-fif-spend-warning", "tl-fif-spend-cap"]
  alert_email           = "ops@example.org"
  pagerduty_url         = "https://events.pagerduty.com/integration/0123/enqueue"

  function_names = {
    router         = "tl-fif-router"
    authorizer     = "tl-fif-authorizer"
    queue-health   = "tl-fif-queue-health"
    waker          = "tl-fif-waker"
    reaper         = "tl-fif-reaper"
    gauges         = "tl-fif-gauges"
    canary         = "tl-fif-canary"
    cost-publisher = "tl-fif-cost-publisher"
    budget-killer  = "tl-fif-budget-killer"
  }
}

run "alarms" {
  command = plan

  assert {
    # threshold, comparison, period, points that breach, points looked at, what no data means
    condition = {
      for key, alarm in aws_cloudwatch_metric_alarm.this : key => [
        alarm.comparison_operator, alarm.threshold, one([for query in alarm.metric_query : query.metric[0].period if query.return_data && length(query.metric) > 0]),
        alarm.datapoints_to_alarm, alarm.evaluation_periods, alarm.treat_missing_data,
      ]
      } == {
      api-latency        = ["GreaterThanOrEqualToThreshold", 300, 300, 1, 1, "notBreaching"]
      ping               = ["GreaterThanOrEqualToThreshold", 1, 60, 3, 5, "breaching"]
      queue-health       = ["GreaterThanOrEqualToThreshold", 1, 300, 2, 2, "breaching"]
      redis-memory       = ["GreaterThanOrEqualToThreshold", 70, 300, 1, 1, "missing"]
      boot-failures      = ["GreaterThanOrEqualToThreshold", 1, 300, 1, 1, "notBreaching"]
      redis-enqueue-fail = ["GreaterThanOrEqualToThreshold", 1, 300, 1, 1, "notBreaching"]
      reaper-blind       = ["GreaterThanOrEqualToThreshold", 3, 300, 1, 1, "notBreaching"]
      guard-failures     = ["GreaterThanOrEqualToThreshold", 1, null, 1, 1, "notBreaching"]
      guard-errors       = ["GreaterThanOrEqualToThreshold", 1, null, 1, 1, "notBreaching"]
      spend-unknown      = ["LessThanThreshold", 1, 900, 4, 4, "breaching"]
      gpu-unmetered      = ["LessThanThreshold", 1, 300, 3, 3, "breaching"]
    }
    error_message = "An alarm watches with other figures than agreed."
  }

  assert {
    condition = alltrue([
      for key, alarm in aws_cloudwatch_metric_alarm.this : alltrue([
        alarm.actions_enabled,
        endswith(one(alarm.alarm_actions), key == "ping" ? ":tl-fif-page" : ":tl-fif-alerts"),
        length(alarm.insufficient_data_actions == null ? [] : alarm.insufficient_data_actions) == 0,
        length(alarm.alarm_description) > 80,
        strcontains(alarm.alarm_description, "docs/runbook.md"),
      ])
    ])
    error_message = "Every alarm is on, says what to do and where more is, and sends mail; ping alone pages."
  }

  assert {
    condition = jsonencode({
      for key, alarm in aws_cloudwatch_metric_alarm.this : key => sort(flatten([
        for query in alarm.metric_query : [
          for metric in query.metric :
          join(" ", concat([metric.namespace, metric.metric_name, metric.stat], [for name, value in metric.dimensions == null ? {} : metric.dimensions : "${name}=${value}"]))
        ]
      ]))
      }) == jsonencode({
      api-latency        = ["AWS/ApiGateway Latency p95 ApiId=a1b2c3d4e5"]
      ping               = ["TLFIF/Canary PingFailures Sum"]
      queue-health       = ["TLFIF/Canary QueueHealthFailures Sum"]
      redis-memory       = ["AWS/ElastiCache DatabaseMemoryUsagePercentage Maximum CacheClusterId=tl-fif-001"]
      boot-failures      = ["TLFIF/Worker BootFailures Sum"]
      redis-enqueue-fail = ["TLFIF/Router RedisEnqueueFail Sum"]
      reaper-blind       = ["TLFIF/Router ReaperBlind Sum"]
      guard-failures     = ["TLFIF/Router OverdueFailures Sum", "TLFIF/Router ReaperFailures Sum", "TLFIF/Router WakerFailures Sum"]
      guard-errors = [
        "AWS/Lambda Errors Sum FunctionName=tl-fif-budget-killer",
        "AWS/Lambda Errors Sum FunctionName=tl-fif-cost-publisher",
        "AWS/Lambda Errors Sum FunctionName=tl-fif-gauges",
        "AWS/Lambda Errors Sum FunctionName=tl-fif-reaper",
        "AWS/Lambda Errors Sum FunctionName=tl-fif-waker",
      ]
      spend-unknown = ["TLFIF/Cost CurrentSpendEUR SampleCount"]
      gpu-unmetered = ["TLFIF/Cost GpuSeconds SampleCount"]
    })
    error_message = "An alarm looks at another metric than agreed."
  }

  assert {
    condition = alltrue(flatten([
      for key in ["guard-failures", "guard-errors"] : [
        for query in aws_cloudwatch_metric_alarm.this[key].metric_query :
        query.id == "total" ? query.expression == "SUM(METRICS())" && query.return_data : !query.return_data && query.metric[0].period == 300
      ]
    ]))
    error_message = "Where an alarm adds metrics up, it looks at their sum of five minutes and at nothing else."
  }

  assert {
    condition     = output.alarm_metrics == length(flatten([for alarm in aws_cloudwatch_metric_alarm.this : [for query in alarm.metric_query : query.metric]]))
    error_message = "The count of alarm metrics, which the cost tool reads, is not that of the alarms."
  }
}

run "nobody_else_publishes" {
  command = plan

  assert {
    condition = jsondecode(aws_sns_topic_policy.alerts.policy).Statement == [
      {
        Sid       = "Alarms"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = "arn:aws:sns:eu-central-1:123456789012:tl-fif-alerts"
        Condition = {
          ArnLike      = { "aws:SourceArn" = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:tl-fif-*" }
          StringEquals = { "aws:SourceAccount" = "123456789012" }
        }
      },
      {
        Sid       = "Budgets"
        Effect    = "Allow"
        Principal = { Service = "budgets.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = "arn:aws:sns:eu-central-1:123456789012:tl-fif-alerts"
        Condition = {
          ArnLike      = { "aws:SourceArn" = "arn:aws:budgets::123456789012:*" }
          StringEquals = { "aws:SourceAccount" = "123456789012" }
        }
      },
    ]
    error_message = "To alerts publish this account's alarms and budgets, and nobody else."
  }

  assert {
    condition = jsondecode(aws_sns_topic_policy.page.policy).Statement == [
      {
        Sid       = "Alarms"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = "arn:aws:sns:eu-central-1:123456789012:tl-fif-page"
        Condition = {
          ArnLike      = { "aws:SourceArn" = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:tl-fif-*" }
          StringEquals = { "aws:SourceAccount" = "123456789012" }
        }
      },
    ]
    error_message = "To page publish this account's alarms, and nobody else."
  }

  assert {
    condition = (
      aws_sns_topic_subscription.pagerduty[0].protocol == "https" &&
      aws_sns_topic_subscription.pagerduty[0].endpoint_auto_confirms &&
      endswith(aws_sns_topic_subscription.pagerduty[0].topic_arn, ":tl-fif-page")
    )
    error_message = "PagerDuty hears of what pages, over TLS, and confirms by itself."
  }

  assert {
    condition     = { for key, mail in aws_sns_topic_subscription.mail : key => mail.endpoint } == { alerts = "ops@example.org", page = "ops@example.org" }
    error_message = "Both topics send mail."
  }
}

run "without_receivers" {
  command = plan

  variables {
    alert_email   = null
    pagerduty_url = null
  }

  assert {
    condition     = length(aws_sns_topic_subscription.mail) == 0 && length(aws_sns_topic_subscription.pagerduty) == 0
    error_message = "Who names no receiver has none."
  }
}

run "logs" {
  command = plan

  assert {
    condition = {
      for filter in aws_cloudwatch_log_metric_filter.job : one(filter.metric_transformation).name =>
      [filter.log_group_name, filter.pattern, one(filter.metric_transformation).value, one(filter.metric_transformation).namespace, one(filter.metric_transformation).unit]
      } == {
      FirstTokenMs = ["/tl-fif/worker", "{ $.event = \"job finished\" && $.first_token_ms >= 0 }", "$.first_token_ms", "TLFIF/Worker", "Milliseconds"]
      JobMs        = ["/tl-fif/worker", "{ $.event = \"job finished\" && $.total_ms >= 0 }", "$.total_ms", "TLFIF/Worker", "Milliseconds"]
    }
    error_message = "The filters read first_token_ms and total_ms of the line `job finished`, where they are numbers."
  }

  assert {
    condition = (
      aws_cloudwatch_query_definition.api_latency.query_string == file("../../queries/api_latency.cwi") &&
      aws_cloudwatch_query_definition.api_latency.log_group_names == tolist(["/apigw/tl-fif"])
    )
    error_message = "The saved query is terraform/queries/api_latency.cwi, of the access log."
  }

  assert {
    condition = alltrue([
      for word in ["pct(latencyMs, 50)", "pct(latencyMs, 95)", "pct(latencyMs, 99)", "by route, bin(5m)"] :
      strcontains(aws_cloudwatch_query_definition.api_latency.query_string, word)
    ])
    error_message = "The query gives p50, p95 and p99 by route and five minutes."
  }
}

run "dashboard" {
  command = plan

  assert {
    condition = length(setsubtract([
      "AWS/ApiGateway Latency", "AWS/ElastiCache DatabaseMemoryUsagePercentage", "AWS/Lambda Errors",
      "TLFIF/Canary PingFailures", "TLFIF/Canary QueueHealthFailures", "TLFIF/Cost CurrentSpendEUR", "TLFIF/Cost GpuSeconds",
      "TLFIF/GPU disk_used_percent", "TLFIF/GPU mem_used_percent",
      "TLFIF/GPU nvidia_smi_memory_total", "TLFIF/GPU nvidia_smi_memory_used", "TLFIF/GPU nvidia_smi_utilization_gpu",
      "TLFIF/GPU tlfif_boot_seconds", "TLFIF/GPU tlfif_idle_seconds_left", "TLFIF/GPU vllm:kv_cache_usage_perc",
      "TLFIF/GPU vllm:num_requests_running", "TLFIF/GPU vllm:num_requests_waiting",
      "TLFIF/Queue GpusUp", "TLFIF/Queue JobsOpen", "TLFIF/Queue QueueDepth",
      "TLFIF/Router BudgetStops", "TLFIF/Router EC2Starts", "TLFIF/Router ReapedOverlong", "TLFIF/Router ReapedSilent",
      "TLFIF/Router ReapedStale", "TLFIF/Router UserStops",
      "TLFIF/Worker AutoStops", "TLFIF/Worker BootFailures", "TLFIF/Worker FirstTokenMs",
      ], flatten([
        for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : [
          for metric in try(widget.properties.metrics, []) : "${metric[0]} ${metric[1]}" if can(metric[1])
        ]
    ]))) == 0
    error_message = "The dashboard lacks a metric that it is made for."
  }

  assert {
    condition = length(setsubtract(
      concat([15, 20], [for alarm in aws_cloudwatch_metric_alarm.this : alarm.threshold]),
      flatten([
        for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : [
          for line in try(widget.properties.annotations.horizontal, []) : line.value
        ]
      ])
    )) == 0
    error_message = "The dashboard lacks the line of an alarm, of the warning or of the cap."
  }

  assert {
    condition = toset(one([
      for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : widget.properties.alarms if widget.type == "alarm"
      ])) == toset(concat(
      [for name in ["tl-fif-spend-warning", "tl-fif-spend-cap"] : "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:${name}"],
      [for alarm in aws_cloudwatch_metric_alarm.this : "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:${alarm.alarm_name}"],
    ))
    error_message = "The dashboard shows the state of every alarm."
  }

  assert {
    condition     = output.dashboard_url == "https://eu-central-1.console.aws.amazon.com/cloudwatch/home?region=eu-central-1#dashboards/dashboard/tl-fif"
    error_message = "The link leads elsewhere."
  }
}

run "no_synthetics_in_lean" {
  command = plan

  assert {
    condition = length(concat(
      aws_cloudformation_stack.canary, aws_iam_role.canary, aws_iam_role_policy.canary, aws_s3_bucket.canary,
      aws_s3_bucket_policy.canary, aws_s3_bucket_public_access_block.canary, aws_s3_bucket_lifecycle_configuration.canary,
      aws_s3_bucket_server_side_encryption_configuration.canary,
    )) == 0
    error_message = "The canary of Synthetics costs $51.84 a month, and lean is to do without."
  }
}

run "synthetics_in_seed" {
  command = plan

  variables {
    canary = "synthetics"
    synthetics = {
      ping_url           = "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/ping"
      subnet_ids         = ["subnet-0123456789abcdef0"]
      security_group_ids = ["sg-0123456789abcdef0"]
    }
  }

  assert {
    condition = (
      jsondecode(aws_cloudformation_stack.canary[0].template_body).Resources.Ping.Properties.Schedule == { Expression = "rate(1 minute)" } &&
      jsondecode(aws_cloudformation_stack.canary[0].template_body).Resources.Ping.Properties.StartCanaryAfterCreation
    )
    error_message = "The canary asks every minute, from the beginning."
  }

  assert {
    condition = jsondecode(aws_cloudformation_stack.canary[0].template_body).Resources.Ping.Properties.VPCConfig == {
      SubnetIds               = ["subnet-0123456789abcdef0"]
      SecurityGroupIds        = ["sg-0123456789abcdef0"]
      Ipv6AllowedForDualStack = true
    }
    error_message = "The canary stands in the VPC and speaks IPv6; /ping refuses everybody else."
  }

  assert {
    condition = (
      jsondecode(aws_cloudformation_stack.canary[0].template_body).Resources.Ping.Properties.Code.Script == file("./ping_canary.py") &&
      jsondecode(aws_cloudformation_stack.canary[0].template_body).Resources.Ping.Properties.RunConfig.EnvironmentVariables.PING_URL == "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/ping"
    )
    error_message = "The canary runs ping_canary.py, which reads the address from PING_URL."
  }

  assert {
    condition = (
      one(aws_cloudwatch_metric_alarm.this["ping"].metric_query).metric[0].namespace == "CloudWatchSynthetics" &&
      one(aws_cloudwatch_metric_alarm.this["ping"].metric_query).metric[0].metric_name == "SuccessPercent" &&
      one(aws_cloudwatch_metric_alarm.this["ping"].metric_query).metric[0].dimensions.CanaryName == jsondecode(aws_cloudformation_stack.canary[0].template_body).Resources.Ping.Properties.Name &&
      one(aws_cloudwatch_metric_alarm.this["ping"].metric_query).metric[0].period == 60 &&
      aws_cloudwatch_metric_alarm.this["ping"].comparison_operator == "LessThanThreshold" &&
      aws_cloudwatch_metric_alarm.this["ping"].threshold == 100 &&
      aws_cloudwatch_metric_alarm.this["ping"].datapoints_to_alarm == 3 &&
      aws_cloudwatch_metric_alarm.this["ping"].evaluation_periods == 5
    )
    error_message = "The page goes out when 3 of 5 runs of this canary fail."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role_policy.canary[0].policy).Statement :
      statement.Sid if statement.Effect == "Allow" && statement.Resource == "*"
    ] == ["ListBuckets", "Measure", "LambdaMakesInterfaces"]
    error_message = "The canary may do more than it needs: only these three have no narrower resource."
  }

  assert {
    condition = !anytrue(flatten([
      for statement in jsondecode(aws_iam_role_policy.canary[0].policy).Statement : [for action in flatten([statement.Action]) : strcontains(action, "*")]
    ]))
    error_message = "The canary's role names its actions one by one."
  }

  assert {
    condition     = one(one(aws_s3_bucket_lifecycle_configuration.canary[0].rule).expiration).days == 7
    error_message = "What the canary writes is deleted after a week."
  }
}

run "refuses_nonsense" {
  command = plan

  variables {
    name             = "TL_FIF"
    region           = "Frankfurt"
    account_id       = "1234"
    function_names   = { router = "tl-fif-router" }
    gpu_instance_ids = []
    cap_eur          = 0
    warn_percent     = 100
    alert_email      = "nobody"
    pagerduty_url    = "http://events.pagerduty.com/integration/0123/enqueue"
    synthetics = {
      ping_url           = "http://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/ping"
      subnet_ids         = []
      security_group_ids = []
      schedule           = "cron(* * * * ? *)"
      runtime            = "syn-nodejs-puppeteer-9.1"
    }
  }

  expect_failures = [
    var.name, var.region, var.account_id, var.function_names, var.gpu_instance_ids, var.cap_eur, var.warn_percent,
    var.alert_email, var.pagerduty_url, var.synthetics,
  ]
}

run "refuses_synthetics_without_a_place" {
  command = plan

  variables {
    canary = "synthetics"
  }

  expect_failures = [var.canary]
}

run "refuses_a_canary_that_it_does_not_know" {
  command = plan

  variables {
    canary = "pingdom"
  }

  expect_failures = [var.canary]
}
