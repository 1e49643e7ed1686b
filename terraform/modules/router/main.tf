# The functions behind the API and the watch that looks every minute. What each may do is in policies.tf.

locals {
  gpu_tag = "${var.gpu_tag.name}=${var.gpu_tag.value}"

  jwt = {
    TLFIF_JWKS_URL     = var.jwt.jwks_url
    TLFIF_JWT_ISSUER   = var.jwt.issuer
    TLFIF_JWT_AUDIENCE = var.jwt.audience
  }

  # Outside, functions in the VPC speak IPv6 alone.
  vpc = {
    AWS_USE_DUALSTACK_ENDPOINT = "true"
    TLFIF_REDIS_URL            = var.redis_url
  }

  router = {
    TLFIF_BUCKET     = var.bucket
    TLFIF_GPU_TAG    = local.gpu_tag
    TLFIF_BUDGET_EUR = tostring(var.cap_eur)
  }

  ping_cidrs = { TLFIF_PING_CIDRS = join(",", var.ping_cidrs) }

  functions = {
    router = {
      description = "Answers every route but /queue-health"
      environment = merge(local.vpc, local.router, local.jwt, local.ping_cidrs, {
        TLFIF_MAX_GPUS = tostring(var.max_gpus)
      })
      policy = data.aws_iam_policy_document.router.json
    }
    authorizer = {
      description = "Tells the API whether a token lets a request in"
      environment = local.jwt
      in_vpc      = false # it has to reach Cognito's keys, and no Redis
      timeout     = 5
    }
    queue-health = {
      description = "Says whether Redis answers, and how fast"
      environment = merge(local.vpc, local.ping_cidrs)
    }
    waker = {
      description = "Starts the GPU for work that was left behind"
      environment = merge(local.vpc, local.router)
      policy      = data.aws_iam_policy_document.waker.json
      timeout     = 60 # it asks EC2 again for as long as it refuses
    }
    reaper = {
      description = "Stops a GPU that serves nobody"
      environment = merge(local.vpc, {
        TLFIF_GPU_TAG             = local.gpu_tag
        TLFIF_MAX_SESSION_MINUTES = tostring(var.max_session_minutes)
      })
      policy  = data.aws_iam_policy_document.reaper.json
      timeout = 60
    }
    gauges = {
      description = "Measures queue and GPUs every minute"
      environment = merge(local.vpc, { TLFIF_GPU_TAG = local.gpu_tag })
      policy      = data.aws_iam_policy_document.gauges.json
      timeout     = 30
    }
    canary = {
      description = "Asks /ping and /queue-health as a client in the VPC would"
      # No endpoint of AWS's is asked, and no Redis.
      environment        = { TLFIF_URL = var.api_url }
      log_retention_days = 1
    }
  }

  # By the event that they are called for.
  watch = ["canary", "gauges", "reaper", "waker"]
  calls = merge(
    { for each in local.watch : "minute-${each}" => { rule = "minute", function = each } },
    { stopped-waker = { rule = "stopped", function = "waker" } },
  )
}

module "function" {
  source   = "../function"
  for_each = local.functions

  name               = "${var.name}-${each.key}"
  description        = each.value.description
  handler            = "router_lambda.${replace(each.key == "router" ? "handler" : each.key, "-", "_")}.handler"
  package            = var.package
  architecture       = var.architecture
  timeout            = try(each.value.timeout, 10)
  environment        = each.value.environment
  policy_json        = try(each.value.policy, null)
  vpc                = try(each.value.in_vpc, true) ? var.vpc : null
  trace              = var.trace_schedules || !contains(local.watch, each.key)
  log_retention_days = try(each.value.log_retention_days, var.log_retention_days)
}

resource "aws_cloudwatch_event_rule" "minute" {
  name                = "${var.name}-minute"
  description         = "The watch looks"
  schedule_expression = "rate(1 minute)"
}

resource "aws_cloudwatch_event_rule" "stopped" {
  name        = "${var.name}-stopped"
  description = "A GPU has stopped and can be started again"

  event_pattern = jsonencode({
    source      = ["aws.ec2"]
    detail-type = ["EC2 Instance State-change Notification"]
    detail      = { state = ["stopped"] }
  })
}

locals {
  rules = {
    minute  = aws_cloudwatch_event_rule.minute
    stopped = aws_cloudwatch_event_rule.stopped
  }
}

resource "aws_cloudwatch_event_target" "call" {
  for_each = local.calls

  rule      = local.rules[each.value.rule].name
  target_id = each.value.function
  arn       = module.function[each.value.function].alias_arn

  # A minute later the next event is there.
  retry_policy {
    maximum_event_age_in_seconds = 60
    maximum_retry_attempts       = 1
  }
}

resource "aws_lambda_permission" "call" {
  for_each = local.calls

  statement_id  = each.value.rule
  action        = "lambda:InvokeFunction"
  function_name = module.function[each.value.function].function_name
  qualifier     = module.function[each.value.function].alias_name
  principal     = "events.amazonaws.com"
  source_arn    = local.rules[each.value.rule].arn
}

# Lambda would repeat a failed call twice, long after the next one, and count a minute's seconds again.
resource "aws_lambda_function_event_invoke_config" "once" {
  for_each = toset(local.watch)

  function_name                = module.function[each.key].function_name
  qualifier                    = module.function[each.key].alias_name
  maximum_event_age_in_seconds = 60
  maximum_retry_attempts       = 0
}
