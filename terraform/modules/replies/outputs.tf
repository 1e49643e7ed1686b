output "bucket" {
  description = "Name of the bucket, as TLFIF_BUCKET has it."
  value       = aws_s3_bucket.replies.bucket
}
