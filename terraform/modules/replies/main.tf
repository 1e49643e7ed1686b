# The bucket of the replies (`replies/`), and of what the guards of the budget tell each other (`guard/`).

resource "aws_s3_bucket" "replies" {
  bucket        = var.bucket
  force_destroy = var.force_destroy
}

resource "aws_s3_bucket_public_access_block" "replies" {
  bucket = aws_s3_bucket.replies.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "replies" {
  bucket = aws_s3_bucket.replies.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "replies" {
  bucket = aws_s3_bucket.replies.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "replies" {
  bucket = aws_s3_bucket.replies.id

  rule {
    id     = "replies"
    status = "Enabled"

    filter {
      prefix = "replies/"
    }

    expiration {
      days = var.reply_days
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

# A page from http://localhost, whatever its port, reads the replies too; the address alone lets it.
resource "aws_s3_bucket_cors_configuration" "replies" {
  bucket = aws_s3_bucket.replies.id

  cors_rule {
    allowed_methods = ["GET", "HEAD"]
    allowed_origins = ["http://localhost", "http://localhost:*"]
    allowed_headers = ["*"]
    expose_headers  = ["ETag"]
    max_age_seconds = 600
  }
}

resource "aws_s3_bucket_policy" "tls" {
  bucket = aws_s3_bucket.replies.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.replies.arn, "${aws_s3_bucket.replies.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.replies]
}
