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
  name   = "tl-fif"
  region = "eu-central-1"
}

override_resource {
  target          = aws_cognito_user_pool.this
  override_during = plan
  values          = { id = "eu-central-1_Pool" }
}

run "nobody_signs_up" {
  command = plan

  assert {
    condition     = aws_cognito_user_pool.this.admin_create_user_config[0].allow_admin_create_user_only
    error_message = "Whoever signs up would be let in."
  }

  assert {
    condition     = [for each in aws_cognito_user_pool.this.account_recovery_setting[0].recovery_mechanism : each.name] == ["admin_only"]
    error_message = "Only an administrator sets a forgotten password."
  }

  assert {
    condition     = aws_cognito_user_pool.this.password_policy[0].minimum_length >= 12
    error_message = "Passwords are long."
  }
}

run "the_client_of_the_command_line" {
  command = plan

  assert {
    condition     = aws_cognito_user_pool_client.tlfif.generate_secret == false
    error_message = "A command line keeps no secret."
  }

  assert {
    condition     = aws_cognito_user_pool_client.tlfif.explicit_auth_flows == toset(["ALLOW_REFRESH_TOKEN_AUTH", "ALLOW_USER_PASSWORD_AUTH"])
    error_message = "tlfif logs in by password and renews by refresh token, and nothing else is open."
  }

  assert {
    condition     = aws_cognito_user_pool_client.tlfif.prevent_user_existence_errors == "ENABLED"
    error_message = "Nobody learns which users there are."
  }

  assert {
    condition     = aws_cognito_user_pool_client.tlfif.access_token_validity == 60 && aws_cognito_user_pool_client.tlfif.token_validity_units[0].access_token == "minutes"
    error_message = "A token lives for an hour."
  }
}

run "where_the_keys_are" {
  command = plan

  assert {
    condition     = output.jwks_url == "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Pool/.well-known/jwks.json" && output.issuer == "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Pool"
    error_message = "Issuer and keys are those of the pool."
  }
}

run "too_short_a_life" {
  command = plan

  variables {
    token_minutes = 1
  }

  expect_failures = [var.token_minutes]
}
