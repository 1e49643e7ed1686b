# The role of the workflow on GitHub that rolls back: without a key that lasts, by a token that GitHub signs for jobs of
# one environment of one repository, on which GitHub can ask for somebody's approval.

locals {
  github = "token.actions.githubusercontent.com"

  github_provider_arn = (
    var.github_oidc_provider_arn != null ? var.github_oidc_provider_arn :
    "arn:${var.partition}:iam::${var.account_id}:oidc-provider/${local.github}"
  )
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.github_actions && var.github_oidc_provider_arn == null ? 1 : 0

  url            = "https://${local.github}"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "github_trust" {
  count = var.github_actions ? 1 : 0

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [local.github_provider_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.github}:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.github}:sub"
      values   = ["repo:${var.repository}:environment:production"]
    }
  }
}

resource "aws_iam_role" "github" {
  count = var.github_actions ? 1 : 0

  name                 = "${var.name}-delivery-github"
  description          = "What the workflow on GitHub may do: roll back"
  assume_role_policy   = data.aws_iam_policy_document.github_trust[0].json
  max_session_duration = 3600

  depends_on = [aws_iam_openid_connect_provider.github]
}

resource "aws_iam_role_policy" "github" {
  count = var.github_actions ? 1 : 0

  name = "work"
  role = aws_iam_role.github[0].id

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(local.find_functions, local.shift_aliases)
  })
}
