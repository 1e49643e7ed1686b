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
  name                       = "tl-fif"
  domain                     = "gpu.example.com"
  zone_id                    = "Z1"
  vpc_id                     = "vpc-1"
  client_cidrs               = ["10.20.0.0/22"]
  subnet_id                  = "subnet-1"
  instance_ids               = ["i-0"]
  instance_security_group_id = "sg-gpu"
}

override_resource {
  target          = aws_acm_certificate.this
  override_during = plan
  values = {
    arn = "arn:aws:acm:eu-central-1:123456789012:certificate/1"
    domain_validation_options = [{
      domain_name           = "gpu.example.com"
      resource_record_name  = "_proof.gpu.example.com."
      resource_record_type  = "CNAME"
      resource_record_value = "_value.acm-validations.aws."
    }]
  }
}

override_resource {
  target          = aws_security_group.balancer
  override_during = plan
  values          = { id = "sg-balancer" }
}

run "tls_on_443_and_nothing_else" {
  command = plan

  assert {
    condition     = aws_lb_listener.tls.protocol == "TLS" && aws_lb_listener.tls.port == 443 && aws_lb_target_group.proxy.protocol == "TLS" && aws_lb_target_group.proxy.port == 443
    error_message = "The whole way is TLS on 443."
  }

  assert {
    condition     = aws_lb_target_group.proxy.health_check[0].protocol == "TCP" && aws_lb_target_group.proxy.health_check[0].port == "443"
    error_message = "A GPU whose proxy listens on 443 is well: its certificate is nobody's business, nor is a path."
  }

  assert {
    condition     = aws_lb_listener.tls.ssl_policy == "ELBSecurityPolicy-TLS13-1-2-2021-06"
    error_message = "TLS 1.2 is the oldest that is spoken."
  }

  assert {
    condition     = aws_lb.this.internal && aws_lb.this.load_balancer_type == "network"
    error_message = "It is a network load balancer without an address outside the VPC."
  }
}

run "from_the_balancer_alone" {
  command = plan

  assert {
    condition     = aws_vpc_security_group_ingress_rule.proxy.referenced_security_group_id == "sg-balancer" && aws_vpc_security_group_ingress_rule.proxy.security_group_id == "sg-gpu" && aws_vpc_security_group_ingress_rule.proxy.from_port == 443 && aws_vpc_security_group_ingress_rule.proxy.to_port == 443
    error_message = "The GPU takes 443 from the load balancer and nobody else."
  }

  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.client) == ["10.20.0.0/22"] && alltrue([for rule in aws_vpc_security_group_ingress_rule.client : rule.from_port == 443 && rule.to_port == 443])
    error_message = "The load balancer takes 443 from the named networks."
  }
}

run "the_whole_internet" {
  command = plan

  variables {
    client_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.client_cidrs]
}

run "no_host_name" {
  command = plan

  variables {
    domain = "localhost"
  }

  expect_failures = [var.domain]
}
