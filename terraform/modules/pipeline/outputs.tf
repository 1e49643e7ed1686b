locals {
  console_url = "https://${var.region}.console.aws.amazon.com/codesuite/codepipeline/pipelines/${var.name}"
}

output "pipeline_url" {
  description = "The pipeline in AWS's console."
  value       = "${local.console_url}/view?region=${var.region}"
}

output "connection_arn" {
  description = "ARN of the connection to GitHub; it is pending until somebody confirms it in the console."
  value       = aws_codeconnections_connection.github.arn
}

output "artifact_bucket" {
  description = "Bucket of what a run leaves: coverage/, smoke/ and sbom/."
  value       = aws_s3_bucket.this["artifacts"].bucket
}

output "state_bucket" {
  description = "Bucket of the state of terraform/image."
  value       = aws_s3_bucket.this["state"].bucket
}

output "image_backend" {
  description = "The backend with which terraform/image keeps its state there, for a file backend.tf beside it."
  value       = <<-EOT
    terraform {
      backend "s3" {
        bucket       = "${aws_s3_bucket.this["state"].bucket}"
        key          = "${local.state_key}"
        region       = "${var.region}"
        encrypt      = true
        use_lockfile = true
      }
    }
  EOT
}

output "project_names" {
  description = "Names of CodeBuild's projects, by stage."
  value       = { for name, project in aws_codebuild_project.this : name => project.name }
}

output "github_role_arn" {
  description = "ARN of the role that the workflow on GitHub takes; null without one."
  value       = one(aws_iam_role.github[*].arn)
}
