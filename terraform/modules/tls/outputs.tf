output "url" {
  description = "Address of the proxy on the GPU, reachable while an instance runs."
  value       = "https://${var.domain}"
}

output "security_group_id" {
  description = "Id of the load balancer's security group."
  value       = aws_security_group.balancer.id
}
