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
  name                      = "tl-fif"
  vpc_id                    = "vpc-1"
  subnet_id                 = "subnet-1"
  client_security_group_ids = { functions = "sg-functions", gpu = "sg-gpu" }
}

override_resource {
  target          = aws_security_group.queue
  override_during = plan
  values          = { id = "sg-queue" }
}

override_resource {
  target          = aws_elasticache_replication_group.queue
  override_during = plan
  values          = { primary_endpoint_address = "queue.cache.example" }
}

run "valkey_unless_somebody_chooses" {
  command = plan

  assert {
    condition     = aws_elasticache_replication_group.queue.engine == "valkey" && aws_elasticache_replication_group.queue.node_type == "cache.t4g.micro"
    error_message = "The default is the cheapest node that does."
  }

  assert {
    condition     = aws_elasticache_parameter_group.queue.family == "valkey8"
    error_message = "The parameters are of the engine's family."
  }
}

run "as_specified" {
  command = plan

  variables {
    engine    = "redis"
    node_type = "cache.t4g.small"
  }

  assert {
    condition     = aws_elasticache_replication_group.queue.engine == "redis" && aws_elasticache_replication_group.queue.engine_version == "6.2" && aws_elasticache_replication_group.queue.node_type == "cache.t4g.small"
    error_message = "As specified it is Redis 6.2 on a t4g.small."
  }

  assert {
    condition     = aws_elasticache_parameter_group.queue.family == "redis6.x"
    error_message = "The parameters are of the engine's family."
  }
}

run "one_node" {
  command = plan

  assert {
    condition     = aws_elasticache_replication_group.queue.num_cache_clusters == 1 && !aws_elasticache_replication_group.queue.automatic_failover_enabled && !aws_elasticache_replication_group.queue.multi_az_enabled
    error_message = "There is one node, and cluster mode is off."
  }

  assert {
    condition     = aws_elasticache_replication_group.queue.at_rest_encryption_enabled == "true" && aws_elasticache_replication_group.queue.transit_encryption_enabled == false
    error_message = "It is encrypted at rest and not in transit."
  }

  assert {
    condition     = aws_elasticache_replication_group.queue.snapshot_retention_limit == 0
    error_message = "Backups of jobs that live for 300 s cost money for nothing."
  }

  assert {
    condition     = [for parameter in aws_elasticache_parameter_group.queue.parameter : parameter.value if parameter.name == "maxmemory-policy"] == ["noeviction"]
    error_message = "A full queue must not drop jobs."
  }

  assert {
    condition     = aws_elasticache_replication_group.queue.security_group_ids == toset(["sg-queue"]) && aws_elasticache_subnet_group.queue.subnet_ids == toset(["subnet-1"])
    error_message = "The node stands in its own subnet and security group."
  }

  assert {
    condition     = output.url == "redis://queue.cache.example:6379/0" && output.endpoint == "queue.cache.example" && output.cluster_id == "tl-fif-001"
    error_message = "The outputs lead to the node."
  }
}

run "two_groups_get_in_and_no_address" {
  command = plan

  assert {
    condition     = { for name, rule in aws_vpc_security_group_ingress_rule.client : name => rule.referenced_security_group_id } == { functions = "sg-functions", gpu = "sg-gpu" }
    error_message = "Only the functions and the GPU reach Redis."
  }

  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.client : rule.from_port == 6379 && rule.to_port == 6379 && rule.cidr_ipv4 == null && rule.cidr_ipv6 == null])
    error_message = "Only 6379 is open, and to no network."
  }

  assert {
    condition     = alltrue([for name, rule in aws_vpc_security_group_egress_rule.client : rule.security_group_id == var.client_security_group_ids[name] && rule.referenced_security_group_id == "sg-queue"])
    error_message = "The clients may call out to the queue."
  }
}

run "no_such_engine" {
  command = plan

  variables {
    engine = "memcached"
  }

  expect_failures = [var.engine]
}

run "no_such_node" {
  command = plan

  variables {
    node_type = "t4g.micro"
  }

  expect_failures = [var.node_type]
}
