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
  bucket = "tl-fif-replies"
}

override_resource {
  target          = aws_s3_bucket.replies
  override_during = plan
  values          = { id = "tl-fif-replies", arn = "arn:aws:s3:::tl-fif-replies" }
}

run "private" {
  command = plan

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.replies.block_public_acls,
      aws_s3_bucket_public_access_block.replies.block_public_policy,
      aws_s3_bucket_public_access_block.replies.ignore_public_acls,
      aws_s3_bucket_public_access_block.replies.restrict_public_buckets,
    ])
    error_message = "Nothing in the bucket can be made public."
  }

  assert {
    condition     = aws_s3_bucket_ownership_controls.replies.rule[0].object_ownership == "BucketOwnerEnforced"
    error_message = "There are no access lists."
  }

  assert {
    condition     = alltrue([for rule in aws_s3_bucket_server_side_encryption_configuration.replies.rule : rule.apply_server_side_encryption_by_default[0].sse_algorithm == "AES256"])
    error_message = "Replies are encrypted at rest."
  }
}

run "tls_only" {
  command = plan

  assert {
    condition = jsondecode(aws_s3_bucket_policy.tls.policy).Statement == jsondecode(jsonencode([{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = ["arn:aws:s3:::tl-fif-replies", "arn:aws:s3:::tl-fif-replies/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]))
    error_message = "The policy refuses everything without TLS and allows nothing."
  }
}

run "nothing_stays_for_ever" {
  command = plan

  variables {
    reply_days = 3
  }

  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.replies.rule : [rule.filter[0].prefix, rule.expiration[0].days] if rule.id == "replies"] == [["replies/", 3]]
    error_message = "Replies are deleted after reply_days, and the guards' notes are not."
  }

  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.replies.rule : rule.abort_incomplete_multipart_upload[0].days_after_initiation if rule.id == "unfinished-uploads"] == [1]
    error_message = "Unfinished uploads are given up after a day."
  }

  assert {
    condition     = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.replies.rule : rule.status == "Enabled"])
    error_message = "A rule that is off deletes nothing."
  }
}

run "pages_from_localhost_read_replies" {
  command = plan

  assert {
    condition     = alltrue([for rule in aws_s3_bucket_cors_configuration.replies.cors_rule : rule.allowed_origins == toset(["http://localhost", "http://localhost:*"]) && rule.allowed_methods == toset(["GET", "HEAD"])])
    error_message = "Pages from http://localhost read, others do not, and nobody writes."
  }
}

run "a_name_that_no_certificate_matches" {
  command = plan

  variables {
    bucket = "tl.fif"
  }

  expect_failures = [var.bucket]
}

run "half_a_day" {
  command = plan

  variables {
    reply_days = 0.5
  }

  expect_failures = [var.reply_days]
}
