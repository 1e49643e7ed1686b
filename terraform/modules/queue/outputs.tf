output "endpoint" {
  description = "Host name of the node, reachable from inside the VPC alone."
  value       = aws_elasticache_replication_group.queue.primary_endpoint_address
}

output "url" {
  description = "Address of the queue as TLFIF_REDIS_URL has it."
  value       = "redis://${aws_elasticache_replication_group.queue.primary_endpoint_address}:${local.port}/0"
}

output "cluster_id" {
  description = "Id of the node in CloudWatch's metrics."
  value       = "${var.name}-001"
}

output "security_group_id" {
  description = "Id of the queue's security group."
  value       = aws_security_group.queue.id
}
