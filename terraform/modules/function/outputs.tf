output "function_name" {
  description = "Name of the function."
  value       = aws_lambda_function.this.function_name
}

output "function_arn" {
  description = "ARN of the function without a version."
  value       = aws_lambda_function.this.arn
}

output "alias_name" {
  description = "Name of the alias that callers use, the qualifier of a permission."
  value       = aws_lambda_alias.prod.name
}

output "alias_arn" {
  description = "ARN to call the function by."
  value       = aws_lambda_alias.prod.arn
}

output "alias_invoke_arn" {
  description = "ARN that API Gateway calls the function by."
  value       = aws_lambda_alias.prod.invoke_arn
}

output "role_name" {
  description = "Name of the function's role."
  value       = aws_iam_role.this.name
}

output "role_arn" {
  description = "ARN of the function's role."
  value       = aws_iam_role.this.arn
}

output "log_group_name" {
  description = "Log group of the function."
  value       = aws_cloudwatch_log_group.this.name
}
