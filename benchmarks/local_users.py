"""Signs users up with the emulated Cognito of `python -m local`: one user may not ask as often as a benchmark does."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3

from local.s3_server import REGION
from router_lambda.throttle import rate_key


@dataclass(frozen=True, slots=True)
class User:
    """A user who is signed in; what Redis keeps of his calls lies under `rate_key`."""

    token: str
    rate_key: str


def make_users(addresses: Mapping[str, Any], count: int) -> list[User]:
    """Return so many new users of a running system, whose ready line `addresses` is."""
    session = boto3.Session("any", "any", region_name=REGION)
    cognito = session.client("cognito-idp", endpoint_url=addresses["aws"])
    try:
        return [_make_user(cognito, addresses["cognito"]["client_id"], f"user-{number}") for number in range(count)]
    finally:
        cognito.close()


def _make_user(cognito: Any, app: str, name: str) -> User:
    pool = cognito.list_user_pools(MaxResults=1)["UserPools"][0]["Id"]
    password = secrets.token_urlsafe(24) + "Aa1!"  # Cognito wants a character of each kind
    made = cognito.admin_create_user(UserPoolId=pool, Username=name, MessageAction="SUPPRESS")
    cognito.admin_set_user_password(UserPoolId=pool, Username=name, Password=password, Permanent=True)
    signed_in = cognito.initiate_auth(
        ClientId=app, AuthFlow="USER_PASSWORD_AUTH", AuthParameters={"USERNAME": name, "PASSWORD": password}
    )
    sub = next(each["Value"] for each in made["User"]["Attributes"] if each["Name"] == "sub")
    return User(signed_in["AuthenticationResult"]["AccessToken"], rate_key(sub))
