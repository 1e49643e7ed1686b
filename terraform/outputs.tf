output "api_url" {
  description = "Address of the API: TLFIF_URL of the client."
  value       = module.api.url
}

output "ping_url" {
  description = "Address of the health check, for a checker whose network is in ping_cidrs."
  value       = module.api.ping_url
}

output "redis_endpoint" {
  description = "Host name of the queue, for redis-cli from inside the VPC."
  value       = module.queue.endpoint
}

output "bucket" {
  description = "Bucket of the replies."
  value       = module.replies.bucket
}

output "version" {
  description = "Version of the sources that this was applied from; which code the functions run, the deployment's record says."
  value       = trimspace(file("${path.module}/../VERSION"))
}

output "region" {
  description = "AWS region of all this."
  value       = var.region
}

output "user_pool_id" {
  description = "Cognito user pool, in which you create the users."
  value       = module.identity.user_pool_id
}

output "cognito_url" {
  description = "Where users log in: TLFIF_COGNITO_URL of the client."
  value       = "https://cognito-idp.${var.region}.amazonaws.com"
}

output "client_id" {
  description = "Id of the app client: TLFIF_COGNITO_CLIENT_ID of the client."
  value       = module.identity.client_id
}

output "gpu_instance_ids" {
  description = "The GPU's instances."
  value       = module.gpu.instance_ids
}

output "tls_url" {
  description = "Address of the TLS endpoint in the VPC, null without one."
  value       = one(module.tls[*].url)
}

output "dashboard_url" {
  description = "The dashboard, for who is signed in to the account."
  value       = module.observability.dashboard_url
}

output "alert_topic_arn" {
  description = "Topic of the alarms that can wait for the morning."
  value       = module.observability.alert_topic_arn
}

output "function_names" {
  description = "Names of all functions by their short names."
  value       = local.function_names
}

output "alarm_metrics" {
  description = "How many metrics the alarms look at: AWS bills each, after the first ten, as one alarm."
  value       = module.observability.alarm_metrics + module.budget.alarm_metrics
}
