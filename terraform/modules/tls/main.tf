# TLS 1.2 and newer on 443 from inside the VPC to the proxy on the GPU. The load balancer proves the name by a certificate
# of ACM; the proxy's own, which nobody checks, only encrypts the rest of the way.

locals {
  port = 443
}

resource "aws_acm_certificate" "this" {
  domain_name       = var.domain
  validation_method = "DNS"

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route53_record" "proof" {
  for_each = {
    for option in aws_acm_certificate.this.domain_validation_options : option.domain_name => option
  }

  zone_id = var.zone_id
  name    = each.value.resource_record_name
  type    = each.value.resource_record_type
  ttl     = 60
  records = [each.value.resource_record_value]
}

resource "aws_acm_certificate_validation" "this" {
  certificate_arn         = aws_acm_certificate.this.arn
  validation_record_fqdns = [for record in aws_route53_record.proof : record.fqdn]
}

resource "aws_security_group" "balancer" {
  name        = "${var.name}-balancer"
  description = "The TLS load balancer"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-balancer" }
}

resource "aws_vpc_security_group_ingress_rule" "client" {
  for_each = toset(var.client_cidrs)

  security_group_id = aws_security_group.balancer.id
  description       = "Clients"
  ip_protocol       = "tcp"
  from_port         = local.port
  to_port           = local.port
  cidr_ipv4         = each.key
}

resource "aws_vpc_security_group_egress_rule" "proxy" {
  security_group_id            = aws_security_group.balancer.id
  description                  = "To the proxy on the GPU"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  referenced_security_group_id = var.instance_security_group_id
}

resource "aws_vpc_security_group_ingress_rule" "proxy" {
  security_group_id            = var.instance_security_group_id
  description                  = "From the TLS load balancer"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  referenced_security_group_id = aws_security_group.balancer.id
}

resource "aws_lb" "this" {
  name               = var.name
  load_balancer_type = "network"
  internal           = true
  subnets            = [var.subnet_id]
  security_groups    = [aws_security_group.balancer.id]
}

resource "aws_lb_target_group" "proxy" {
  name        = var.name
  vpc_id      = var.vpc_id
  target_type = "instance"
  protocol    = "TLS"
  port        = local.port

  health_check {
    protocol = "TCP"
    port     = tostring(local.port)
  }
}

resource "aws_lb_target_group_attachment" "gpu" {
  count = length(var.instance_ids)

  target_group_arn = aws_lb_target_group.proxy.arn
  target_id        = var.instance_ids[count.index]
  port             = local.port
}

resource "aws_lb_listener" "tls" {
  load_balancer_arn = aws_lb.this.arn
  protocol          = "TLS"
  port              = local.port
  certificate_arn   = aws_acm_certificate_validation.this.certificate_arn
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.proxy.arn
  }
}

resource "aws_route53_record" "name" {
  zone_id = var.zone_id
  name    = var.domain
  type    = "A"

  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = false
  }
}
