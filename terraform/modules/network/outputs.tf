output "vpc_id" {
  description = "Id of the VPC."
  value       = aws_vpc.this.id
}

output "cidr_blocks" {
  description = "The VPC's own addresses, IPv4 and IPv6: what a client inside it shows to the API."
  value       = [aws_vpc.this.cidr_block, aws_vpc.this.ipv6_cidr_block]
}

output "subnet_ids" {
  description = "Ids of the subnets: gpu, queue and functions."
  value       = { for name, subnet in aws_subnet.this : name => subnet.id }
}

output "security_group_ids" {
  description = "Ids of the security groups of those who call out: functions and gpu."
  value       = { for name, group in aws_security_group.client : name => group.id }
}
