output "user_pool_id" {
  description = "Id of the user pool."
  value       = aws_cognito_user_pool.this.id
}

output "client_id" {
  description = "Id of the app client: the audience of a token, and what `tlfif login` asks with."
  value       = aws_cognito_user_pool_client.tlfif.id
}

output "issuer" {
  description = "The `iss` of every token."
  value       = local.issuer
}

output "jwks_url" {
  description = "Where the pool publishes the keys that its tokens are signed with."
  value       = "${local.issuer}/.well-known/jwks.json"
}
