# Two buckets: of what the runs hand on and leave, which all goes after some days, and of the state of terraform/image.

locals {
  buckets = {
    artifacts = "${var.name}-delivery-${var.account_id}-${var.region}"
    state     = "${var.name}-state-${var.account_id}-${var.region}"
  }
  bucket_arns = { for key, bucket in local.buckets : key => "arn:${var.partition}:s3:::${bucket}" }

  # What CodePipeline puts below its own name, of which it takes 20 characters; ours has no more.
  handed_on = "${local.bucket_arns.artifacts}/${var.name}/*"
  state_key = "image.tfstate"
}

resource "aws_s3_bucket" "this" {
  for_each = local.buckets

  bucket = each.value

  # A state that is lost is a pipeline of Image Builder that nobody knows any more: who destroys this root moves it first.
  force_destroy = each.key == "artifacts"
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_policy" "tls" {
  for_each = local.bucket_arns

  bucket = aws_s3_bucket.this[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [each.value, "${each.value}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}

resource "aws_s3_bucket_versioning" "state" {
  bucket = aws_s3_bucket.this["state"].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    id     = "everything"
    status = "Enabled"

    filter {}

    dynamic "expiration" {
      for_each = each.key == "artifacts" ? [var.artifact_days] : []

      content {
        days = expiration.value
      }
    }

    # A month to notice that the state is wrong.
    dynamic "noncurrent_version_expiration" {
      for_each = each.key == "state" ? [30] : []

      content {
        noncurrent_days = noncurrent_version_expiration.value
      }
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.state]
}
