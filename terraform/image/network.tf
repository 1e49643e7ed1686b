# Where the image is built: a VPC of its own, connected to nothing else, with a public address for as long as a builder
# runs. It needs IPv4: NVIDIA's and PyPI's servers and Systems Manager are not all reached by IPv6, and a NAT gateway
# costs more than the whole system. Nothing gets in: no rule of a security group lets anybody.

resource "aws_vpc" "this" {
  cidr_block           = var.vpc_cidr
  enable_dns_hostnames = true
  enable_dns_support   = true

  tags = { Name = "${var.name}-image" }
}

# It comes with a VPC and lets everything through; as a resource without rules it lets nothing.
resource "aws_default_security_group" "closed" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-image-closed" }
}

resource "aws_subnet" "builder" {
  vpc_id                  = aws_vpc.this.id
  availability_zone       = local.zone
  cidr_block              = var.vpc_cidr
  map_public_ip_on_launch = true

  tags = { Name = local.image }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-image" }
}

resource "aws_route_table" "out" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-image-out" }
}

resource "aws_route" "out" {
  route_table_id         = aws_route_table.out.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "out" {
  route_table_id = aws_route_table.out.id
  subnet_id      = aws_subnet.builder.id
}

resource "aws_security_group" "builder" {
  name        = local.image
  description = "The machines that build and test the GPU's image"
  vpc_id      = aws_vpc.this.id

  tags = { Name = local.image }
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.builder.id
  description       = "Packages, weights and AWS's own services"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}
