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
  name   = "tl-fif"
  zone   = "eu-central-1a"
  region = "eu-central-1"
}

override_resource {
  target          = aws_vpc.this
  override_during = plan
  values          = { id = "vpc-1", cidr_block = "10.20.0.0/22", ipv6_cidr_block = "2001:db8:20::/56" }
}

override_resource {
  target          = aws_vpc_endpoint.s3
  override_during = plan
  values          = { prefix_list_id = "pl-s3" }
}

run "addresses" {
  command = plan

  assert {
    condition     = aws_vpc.this.cidr_block == "10.20.0.0/22" && aws_vpc.this.assign_generated_ipv6_cidr_block
    error_message = "The VPC is 10.20.0.0/22 with IPv6 addresses of its own."
  }

  assert {
    condition     = aws_subnet.this["queue"].cidr_block == "10.20.1.0/24"
    error_message = "Redis stands in 10.20.1.0/24."
  }

  assert {
    condition     = length(toset([for subnet in aws_subnet.this : subnet.cidr_block])) == 3 && length(toset([for subnet in aws_subnet.this : subnet.ipv6_cidr_block])) == 3
    error_message = "No two subnets share addresses."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.this : subnet.availability_zone == "eu-central-1a"])
    error_message = "Everything is in one zone: traffic between zones costs money."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.this : !subnet.map_public_ip_on_launch])
    error_message = "Nothing gets a public IPv4 address."
  }

  assert {
    condition     = output.cidr_blocks == ["10.20.0.0/22", "2001:db8:20::/56"]
    error_message = "A client in the VPC may come by IPv4 and by IPv6."
  }
}

run "ways_out_and_in" {
  command = plan

  assert {
    condition     = aws_route.out.destination_ipv6_cidr_block == "::/0" && aws_route.out.destination_cidr_block == null && aws_route.out.nat_gateway_id == null && aws_route.out.gateway_id == null
    error_message = "The one way out is IPv6 through the egress-only gateway: no NAT, no internet gateway."
  }

  assert {
    condition     = toset(keys(aws_route_table_association.out)) == toset(["functions", "gpu"])
    error_message = "Redis has no way out."
  }

  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && aws_vpc_endpoint.s3.service_name == "com.amazonaws.eu-central-1.s3"
    error_message = "S3 is reached through its gateway endpoint, which is free."
  }

  # That no rule lets anybody in is asserted over the whole plan, in tests/infra.
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_egress_rule.https : rule.from_port == 443 && rule.to_port == 443 && rule.cidr_ipv6 == "::/0" && rule.cidr_ipv4 == null])
    error_message = "Out goes HTTPS over IPv6 alone."
  }

  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_egress_rule.s3 : rule.prefix_list_id == "pl-s3" && rule.from_port == 443 && rule.to_port == 443])
    error_message = "By IPv4 only S3 is reached."
  }
}

run "no_internet_gateway_unless_somebody_wants_it" {
  command = plan

  assert {
    condition     = length(aws_internet_gateway.ipv4) == 0 && length(aws_route.gpu_ipv4) == 0 && length(aws_vpc_security_group_egress_rule.ipv4) == 0
    error_message = "IPv4 leads nowhere."
  }
}

run "ipv4_for_the_gpu" {
  command = plan

  variables {
    gpu_public_ipv4 = true
  }

  assert {
    condition     = { for name, subnet in aws_subnet.this : name => subnet.map_public_ip_on_launch } == { functions = false, gpu = true, queue = false }
    error_message = "The GPU alone gets an address."
  }

  assert {
    condition     = aws_route.gpu_ipv4[0].destination_cidr_block == "0.0.0.0/0" && aws_route.gpu_ipv6[0].destination_ipv6_cidr_block == "::/0"
    error_message = "It has both ways out."
  }

  assert {
    condition     = aws_vpc_security_group_egress_rule.ipv4[0].from_port == 443 && aws_vpc_security_group_egress_rule.ipv4[0].to_port == 443
    error_message = "Out goes HTTPS alone."
  }
}

run "too_small_a_network" {
  command = plan

  variables {
    cidr = "10.20.0.0/24"
  }

  expect_failures = [var.cidr]
}
