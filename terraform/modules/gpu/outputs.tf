output "instance_ids" {
  description = "Ids of the instances."
  value       = aws_instance.gpu[*].id
}

output "role_names" {
  description = "Names of the instances' roles, in the same order."
  value       = aws_iam_role.gpu[*].name
}

output "log_group_name" {
  description = "Log group of the worker."
  value       = aws_cloudwatch_log_group.worker.name
}
