# The job queue: one node, cluster mode off. It is encrypted where it rests and not on the way, as specified: there is no
# password either, so the security groups are the lock, and they let in two groups and no address.

locals {
  port = 6379

  # How each engine is called: version, and family of its parameters.
  engines = {
    redis  = { version = "6.2", family = "redis6.x" }
    valkey = { version = "8.0", family = "valkey8" }
  }
}

resource "aws_security_group" "queue" {
  name        = "${var.name}-queue"
  description = "The job queue"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-queue" }
}

resource "aws_vpc_security_group_ingress_rule" "client" {
  for_each = var.client_security_group_ids

  security_group_id            = aws_security_group.queue.id
  description                  = "From ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  referenced_security_group_id = each.value
}

resource "aws_vpc_security_group_egress_rule" "client" {
  for_each = var.client_security_group_ids

  security_group_id            = each.value
  description                  = "To the job queue"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  referenced_security_group_id = aws_security_group.queue.id
}

resource "aws_elasticache_subnet_group" "queue" {
  name        = var.name
  description = "Where the job queue stands"
  subnet_ids  = [var.subnet_id]
}

resource "aws_elasticache_parameter_group" "queue" {
  name        = "${var.name}-${var.engine}"
  description = "A full queue refuses a job rather than drop another one"
  family      = local.engines[var.engine].family

  parameter {
    name  = "maxmemory-policy"
    value = "noeviction"
  }
}

# A group of one node: a cluster without a group cannot be encrypted.
resource "aws_elasticache_replication_group" "queue" {
  replication_group_id = var.name
  description          = "Job queue of ${var.name}"
  engine               = var.engine
  engine_version       = local.engines[var.engine].version
  node_type            = var.node_type
  num_cache_clusters   = 1
  port                 = local.port
  parameter_group_name = aws_elasticache_parameter_group.queue.name
  subnet_group_name    = aws_elasticache_subnet_group.queue.name
  security_group_ids   = [aws_security_group.queue.id]

  at_rest_encryption_enabled = true
  transit_encryption_enabled = false
  automatic_failover_enabled = false
  multi_az_enabled           = false

  # Jobs live for 300 s; a backup would be of no use and cost money.
  snapshot_retention_limit = 0
  # In a night hour of Europe, and small versions come by themselves.
  maintenance_window         = "sun:02:00-sun:03:00"
  auto_minor_version_upgrade = true
  apply_immediately          = true
}
