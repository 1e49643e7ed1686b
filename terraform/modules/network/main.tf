# The VPC: three subnets in one zone. Nothing leads in from the internet, and only IPv6 leads out, which is free; a NAT
# gateway alone would cost twice the budget.

locals {
  # The fourth /24 is free.
  subnets = { gpu = 0, queue = 1, functions = 2 }
}

resource "aws_vpc" "this" {
  cidr_block                       = var.cidr
  assign_generated_ipv6_cidr_block = true
  enable_dns_hostnames             = true
  enable_dns_support               = true

  tags = { Name = var.name }
}

# It comes with a VPC and lets everything through; as a resource without rules it lets nothing.
resource "aws_default_security_group" "closed" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-closed" }
}

resource "aws_subnet" "this" {
  for_each = local.subnets

  vpc_id                          = aws_vpc.this.id
  availability_zone               = var.zone
  cidr_block                      = cidrsubnet(var.cidr, 2, each.value)
  ipv6_cidr_block                 = cidrsubnet(aws_vpc.this.ipv6_cidr_block, 8, each.value)
  assign_ipv6_address_on_creation = true
  map_public_ip_on_launch         = var.gpu_public_ipv4 && each.key == "gpu"

  tags = { Name = "${var.name}-${each.key}" }
}

resource "aws_egress_only_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }
}

resource "aws_route_table" "out" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-out" }
}

resource "aws_route" "out" {
  route_table_id              = aws_route_table.out.id
  destination_ipv6_cidr_block = "::/0"
  egress_only_gateway_id      = aws_egress_only_internet_gateway.this.id
}

# The GPU's other way out, if it is wanted. Like the gateway of IPv6 it is for connections from inside: no rule of a
# security group lets one in.
resource "aws_internet_gateway" "ipv4" {
  count = var.gpu_public_ipv4 ? 1 : 0

  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }
}

resource "aws_route_table" "gpu" {
  count = var.gpu_public_ipv4 ? 1 : 0

  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-gpu" }
}

resource "aws_route" "gpu_ipv4" {
  count = var.gpu_public_ipv4 ? 1 : 0

  route_table_id         = aws_route_table.gpu[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.ipv4[0].id
}

resource "aws_route" "gpu_ipv6" {
  count = var.gpu_public_ipv4 ? 1 : 0

  route_table_id              = aws_route_table.gpu[0].id
  destination_ipv6_cidr_block = "::/0"
  egress_only_gateway_id      = aws_egress_only_internet_gateway.this.id
}

# Redis has no business outside: its subnet keeps the VPC's own routes alone.
resource "aws_route_table_association" "out" {
  for_each = toset(["gpu", "functions"])

  route_table_id = one(var.gpu_public_ipv4 && each.key == "gpu" ? aws_route_table.gpu[*].id : [aws_route_table.out.id])
  subnet_id      = aws_subnet.this[each.key].id
}

# S3 over IPv4, without a NAT gateway and without a price.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = concat([aws_route_table.out.id], aws_route_table.gpu[*].id)

  tags = { Name = "${var.name}-s3" }
}

resource "aws_security_group" "client" {
  for_each = {
    functions = "The Lambda functions in the VPC"
    gpu       = "The GPU instances"
  }

  name        = "${var.name}-${each.key}"
  description = each.value
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name}-${each.key}" }
}

resource "aws_vpc_security_group_egress_rule" "https" {
  for_each = aws_security_group.client

  security_group_id = each.value.id
  description       = "AWS's own services over IPv6"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv6         = "::/0"
}

resource "aws_vpc_security_group_egress_rule" "s3" {
  for_each = aws_security_group.client

  security_group_id = each.value.id
  description       = "S3 through its gateway endpoint"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  prefix_list_id    = aws_vpc_endpoint.s3.prefix_list_id
}

resource "aws_vpc_security_group_egress_rule" "ipv4" {
  count = var.gpu_public_ipv4 ? 1 : 0

  security_group_id = aws_security_group.client["gpu"].id
  description       = "AWS's own services over IPv4"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}
