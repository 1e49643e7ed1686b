output "id" {
  description = "Id of the API."
  value       = aws_apigatewayv2_api.this.id
}

output "url" {
  description = "Address of the API, without a slash at its end."
  value       = aws_apigatewayv2_api.this.api_endpoint
}

output "ping_url" {
  description = "Address of the health check; it answers to the allowed networks alone."
  value       = "${aws_apigatewayv2_api.this.api_endpoint}/ping"
}

output "access_log_group_name" {
  description = "Log group of the access log."
  value       = aws_cloudwatch_log_group.access.name
}
