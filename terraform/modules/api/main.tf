# The HTTP API. Its routes are those of openapi.yaml: docs/adr/ADR-2026-11-26-routes-from-openapi.md says why it is not
# imported as it is. CORS stays unset, for API Gateway knows no origin with any port: the router answers OPTIONS.

locals {
  description = yamldecode(file(var.openapi))

  operations = merge([
    for path, operations in local.description.paths : {
      for method, operation in operations : "${upper(method)} ${path}" => {
        function   = lookup(var.path_functions, path, "router")
        is_guarded = length(operation.security) > 0
      } if contains(["get", "post", "put", "patch", "delete"], method)
    }
  ]...)

  routes = merge(local.operations, {
    "OPTIONS /{path+}" = { function = "router", is_guarded = false }
    # What is on no list gets the router's own 404 or 405, and nobody learns that without a token.
    "$default" = { function = "router", is_guarded = true }
  })

  behind = toset(distinct([for route in local.routes : route.function]))
}

resource "aws_apigatewayv2_api" "this" {
  name            = var.name
  description     = local.description.info.summary
  version         = local.description.info.version
  protocol_type   = "HTTP"
  ip_address_type = "dualstack"
}

resource "aws_apigatewayv2_integration" "function" {
  for_each = local.behind

  api_id                 = aws_apigatewayv2_api.this.id
  description            = each.key
  integration_type       = "AWS_PROXY"
  integration_method     = "POST"
  integration_uri        = var.functions[each.key].alias_invoke_arn
  payload_format_version = "2.0"
  timeout_milliseconds   = 12000 # Lambda itself gives up after 10 s
}

resource "aws_apigatewayv2_authorizer" "token" {
  api_id                            = aws_apigatewayv2_api.this.id
  name                              = "token"
  authorizer_type                   = "REQUEST"
  authorizer_uri                    = var.functions["authorizer"].alias_invoke_arn
  authorizer_payload_format_version = "2.0"
  enable_simple_responses           = true
  identity_sources                  = ["$request.header.Authorization"]
  authorizer_result_ttl_in_seconds  = 0 # a kept verdict would outlive the token
}

resource "aws_apigatewayv2_route" "this" {
  for_each = local.routes

  api_id             = aws_apigatewayv2_api.this.id
  route_key          = each.key
  target             = "integrations/${aws_apigatewayv2_integration.function[each.value.function].id}"
  authorization_type = each.value.is_guarded ? "CUSTOM" : "NONE"
  authorizer_id      = each.value.is_guarded ? aws_apigatewayv2_authorizer.token.id : null
}

resource "aws_cloudwatch_log_group" "access" {
  name              = "/apigw/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_apigatewayv2_stage" "default" {
  api_id      = aws_apigatewayv2_api.this.id
  name        = "$default"
  auto_deploy = true

  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.access.arn

    format = jsonencode({
      requestId = "$context.requestId"
      ip        = "$context.identity.sourceIp"
      route     = "$context.routeKey"
      status    = "$context.status"
      latencyMs = "$context.responseLatency"
    })
  }

  default_route_settings {
    throttling_burst_limit = var.throttle.burst
    throttling_rate_limit  = var.throttle.rate
  }
}

resource "aws_lambda_permission" "route" {
  for_each = local.behind

  statement_id  = "api"
  action        = "lambda:InvokeFunction"
  function_name = var.functions[each.key].function_name
  qualifier     = var.functions[each.key].alias_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.this.execution_arn}/*/*"
}

resource "aws_lambda_permission" "authorizer" {
  statement_id  = "api"
  action        = "lambda:InvokeFunction"
  function_name = var.functions["authorizer"].function_name
  qualifier     = var.functions["authorizer"].alias_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.this.execution_arn}/authorizers/${aws_apigatewayv2_authorizer.token.id}"
}
