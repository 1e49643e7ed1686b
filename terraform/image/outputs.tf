output "pipeline_arn" {
  description = "ARN of the pipeline that bakes the image."
  value       = aws_imagebuilder_image_pipeline.this.arn
}

output "bake_command" {
  description = "Command that starts a build and prints its ARN."
  value       = "aws imagebuilder start-image-pipeline-execution --region ${var.region} --image-pipeline-arn ${aws_imagebuilder_image_pipeline.this.arn} --query imageBuildVersionArn --output text"
}

output "log_group_name" {
  description = "Log group of the builds; a stream is a build's version."
  value       = "/aws/imagebuilder/${local.image}"
}

output "bucket" {
  description = "Bucket of the source archive and of the builds' logs."
  value       = aws_s3_bucket.image.id
}

output "archive" {
  description = "Where the source archive is that the next build unpacks."
  value       = "s3://${aws_s3_object.archive.bucket}/${aws_s3_object.archive.key}"
}

output "ami_parameter" {
  description = "SSM parameter that names the newest image, in which the system's own Terraform looks for it."
  value       = local.ami_parameter
}

output "component_versions" {
  description = "Version of each document of ami/components."
  value       = local.component_versions
}
