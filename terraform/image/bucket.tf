# The bucket of the source archive (`archives/`), which the builder unpacks, of how quick the last image was (`records/`),
# with which the next is compared, and of the builds' logs (`logs/`).

resource "aws_s3_bucket" "image" {
  bucket        = local.bucket
  force_destroy = true # nothing in it that cannot be made again
}

resource "aws_s3_bucket_public_access_block" "image" {
  bucket = aws_s3_bucket.image.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "image" {
  bucket = aws_s3_bucket.image.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "image" {
  bucket = aws_s3_bucket.image.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

# Archives have no end by age: Terraform deletes the one before, and a build may come long after it was uploaded.
resource "aws_s3_bucket_lifecycle_configuration" "image" {
  bucket = aws_s3_bucket.image.id

  rule {
    id     = "logs"
    status = "Enabled"

    filter {
      prefix = "logs/"
    }

    expiration {
      days = var.log_days
    }
  }

  rule {
    id     = "unfinished-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

resource "aws_s3_bucket_policy" "tls" {
  bucket = aws_s3_bucket.image.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.image]
}

locals {
  archive_sha256 = filesha256(var.archive)
  archive_key    = "archives/tl-fif-node-${substr(local.archive_sha256, 0, 16)}.tar.gz"

  # What `make image-package` writes beside the archive: a digest of what an image is made of, without the version and
  # the pages, by which `make bake` knows whether the newest image is of these sources. An archive from elsewhere has
  # none, and counts as new.
  source_file   = "${trimsuffix(var.archive, ".tar.gz")}.sources"
  source_sha256 = fileexists(local.source_file) ? trimspace(file(local.source_file)) : local.archive_sha256
}

resource "aws_s3_object" "archive" {
  bucket      = aws_s3_bucket.image.id
  key         = local.archive_key
  source      = var.archive
  source_hash = local.archive_sha256

  lifecycle {
    create_before_destroy = true
  }
}
