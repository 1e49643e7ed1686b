# The real provider, which computes policies, without an account: nothing is asked and nothing is made.
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
  name    = "tl-fif"
  openapi = "../../../router_lambda/openapi.yaml"
  functions = {
    router       = { function_name = "tl-fif-router", alias_name = "prod", alias_invoke_arn = "arn:router:prod" }
    authorizer   = { function_name = "tl-fif-authorizer", alias_name = "prod", alias_invoke_arn = "arn:authorizer:prod" }
    queue-health = { function_name = "tl-fif-queue-health", alias_name = "prod", alias_invoke_arn = "arn:queue-health:prod" }
  }
}

override_resource {
  target          = aws_apigatewayv2_api.this
  override_during = plan
  values = {
    id            = "api1"
    api_endpoint  = "https://api1.execute-api.eu-central-1.amazonaws.com"
    execution_arn = "arn:aws:execute-api:eu-central-1:123456789012:api1"
  }
}

override_resource {
  target          = aws_apigatewayv2_authorizer.token
  override_during = plan
  values          = { id = "auth1" }
}

override_resource {
  target          = aws_cloudwatch_log_group.access
  override_during = plan
  values          = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/apigw/tl-fif" }
}

run "routes_are_those_of_the_description" {
  command = plan

  assert {
    condition     = toset(keys(aws_apigatewayv2_route.this)) == toset(["POST /infer", "POST /stop", "GET /status", "GET /ping", "GET /queue-health", "OPTIONS /{path+}", "$default"])
    error_message = "The routes are those of openapi.yaml, the preflights, and the router's own 404 and 405."
  }

  assert {
    condition     = toset([for key, route in aws_apigatewayv2_route.this : key if route.authorization_type == "NONE"]) == toset(["GET /ping", "GET /queue-health", "OPTIONS /{path+}"])
    error_message = "Only the health routes and preflights go without a token."
  }

  assert {
    condition     = alltrue([for route in aws_apigatewayv2_route.this : (route.authorizer_id == "auth1") == (route.authorization_type == "CUSTOM")])
    error_message = "Every other route asks the authorizer."
  }

  assert {
    condition     = { for name, each in aws_apigatewayv2_integration.function : name => each.integration_uri } == { router = "arn:router:prod", queue-health = "arn:queue-health:prod" }
    error_message = "Requests go to the aliases of router and queue health."
  }

  assert {
    condition     = alltrue([for each in aws_apigatewayv2_integration.function : each.payload_format_version == "2.0" && each.integration_type == "AWS_PROXY"])
    error_message = "The functions read payload format 2.0."
  }

  assert {
    condition     = length(aws_apigatewayv2_api.this.cors_configuration) == 0
    error_message = "CORS is the router's: API Gateway knows no origin with any port."
  }

  assert {
    condition     = aws_apigatewayv2_api.this.ip_address_type == "dualstack"
    error_message = "A client in the VPC comes by IPv6."
  }
}

run "the_authorizer" {
  command = plan

  assert {
    condition     = aws_apigatewayv2_authorizer.token.authorizer_type == "REQUEST" && aws_apigatewayv2_authorizer.token.enable_simple_responses && aws_apigatewayv2_authorizer.token.authorizer_payload_format_version == "2.0"
    error_message = "It is a Lambda with simple answers."
  }

  assert {
    condition     = aws_apigatewayv2_authorizer.token.authorizer_result_ttl_in_seconds == 0
    error_message = "A kept verdict would outlive its token."
  }

  assert {
    condition     = aws_apigatewayv2_authorizer.token.identity_sources == toset(["$request.header.Authorization"])
    error_message = "Without the header the answer is 401 at once."
  }
}

run "the_access_log" {
  command = plan

  assert {
    condition     = aws_cloudwatch_log_group.access.name == "/apigw/tl-fif" && aws_cloudwatch_log_group.access.retention_in_days == 30
    error_message = "The access log is /apigw/tl-fif and kept for 30 days."
  }

  assert {
    condition     = toset(keys(jsondecode(aws_apigatewayv2_stage.default.access_log_settings[0].format))) == toset(["requestId", "ip", "route", "status", "latencyMs"])
    error_message = "A line has these five fields."
  }

  assert {
    condition     = jsondecode(aws_apigatewayv2_stage.default.access_log_settings[0].format).latencyMs == "$context.responseLatency"
    error_message = "Latency is what the client waits for."
  }

  assert {
    condition     = aws_apigatewayv2_stage.default.name == "$default" && aws_apigatewayv2_stage.default.auto_deploy
    error_message = "Paths are those of the contract, without a stage before them."
  }

  assert {
    condition     = aws_apigatewayv2_stage.default.default_route_settings[0].throttling_burst_limit == 40 && aws_apigatewayv2_stage.default.default_route_settings[0].throttling_rate_limit == 20
    error_message = "The API as a whole is throttled."
  }
}

run "who_may_call_the_functions" {
  command = plan

  assert {
    condition     = alltrue([for each in aws_lambda_permission.route : each.principal == "apigateway.amazonaws.com" && each.qualifier == "prod" && each.source_arn == "arn:aws:execute-api:eu-central-1:123456789012:api1/*/*"])
    error_message = "Only this API calls them."
  }

  assert {
    condition     = aws_lambda_permission.authorizer.source_arn == "arn:aws:execute-api:eu-central-1:123456789012:api1/authorizers/auth1"
    error_message = "Only this API's authorizer calls its function."
  }

  assert {
    condition     = output.ping_url == "https://api1.execute-api.eu-central-1.amazonaws.com/ping"
    error_message = "The address for an external checker is that of /ping."
  }
}

run "no_authorizer" {
  command = plan

  variables {
    functions = { router = { function_name = "r", alias_name = "prod", alias_invoke_arn = "arn:r" } }
  }

  expect_failures = [var.functions]
}
