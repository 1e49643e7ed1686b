output "pipeline_url" {
  description = "The pipeline in AWS's console."
  value       = module.pipeline.pipeline_url
}

output "connection_arn" {
  description = "ARN of the connection to GitHub; nothing runs until somebody confirms it once: console, Developer Tools, Settings, Connections, Update pending connection."
  value       = module.pipeline.connection_arn
}

output "artifact_bucket" {
  description = "Bucket of what a run leaves for some days: coverage/, smoke/ and sbom/."
  value       = module.pipeline.artifact_bucket
}

output "state_bucket" {
  description = "Bucket in which terraform/image keeps its state: TLFIF_STATE_BUCKET of `make bake`."
  value       = module.pipeline.state_bucket
}

output "image_backend" {
  description = "Content of a file terraform/image/backend.tf; `terraform -chdir=terraform/image init -migrate-state` moves a state that is there."
  value       = module.pipeline.image_backend
}

output "project_names" {
  description = "Names of CodeBuild's projects, by stage."
  value       = module.pipeline.project_names
}

output "github_role_arn" {
  description = "ARN of the role that the workflow `rollback` on GitHub takes, its variable TLFIF_ROLLBACK_ROLE; null unless github_actions is true."
  value       = module.pipeline.github_role_arn
}
