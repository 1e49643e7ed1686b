"""An emulated AWS on loopback, moto, that holds what the router needs: a Cognito user pool and the GPU's EC2 instance.

Its tokens are real RS256, but the key that signs them lies open in moto's package: whoever can reach the port of a
gateway that trusts them can get in. See docs/adr/ADR-2026-11-23-moto-stands-in-for-aws.md.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any, Final

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from local.ports import LOOPBACK
from local.s3_server import REGION
from local.server import Server, StartFailed
from router_lambda.settings import DEFAULT_GPU_TAG

GPU_TAG: Final = DEFAULT_GPU_TAG
"""Name and value of the instance's tag, as `TLFIF_GPU_TAG` has them."""

MACHINE_PATH: Final = "/local/instances/"
"""Path of the door in `local.moto_server` for the one who plays the machines; an instance's id follows."""

MACHINE_WAIT_SECONDS: Final = 10.0
"""Longest that it waits for a change of state."""

_ALL_KINDS: Final = "Aa1!"
"""Cognito wants a character of each kind in a password."""


class AwsServer(Server):
    """moto with one user pool, one app client, one user, and one running instance with the GPU's tag.

    It forgets everything when it ends; `restart()` sets it up anew. Then addresses, app client, user name and password
    are what they were and earlier access tokens stay good, but the user has another `sub` and the instance another id.

    Attributes:
        client_id: the app client's id, once it runs.
        instance_id: the instance's id, once it runs.
    """

    name = "aws"
    ready_seconds = 30.0
    port_count = 1

    region = REGION
    username = "local"

    def __init__(self, folder: Path, logs: Path | None = None, *, has_machine: bool = False) -> None:
        """Make one; with `has_machine`, starts and stops wait for `local.hypervisor` to say that they are done."""
        super().__init__(folder, logs)
        self._has_machine = has_machine
        self.password = secrets.token_urlsafe(24) + _ALL_KINDS
        self.client_id = self.instance_id = ""
        self._pool_id = ""
        # moto tells its account to whoever asks, and no other moto has this one.
        self._account = f"{secrets.randbelow(10**12):012}"
        # moto takes any credentials.
        self._session = boto3.Session("any", "any", region_name=self.region)

    @property
    def endpoint(self) -> str:
        """URL of every service's API."""
        return f"http://{LOOPBACK}:{self._ports[0]}"

    @property
    def machine_url(self) -> str:
        """Where the one who plays the instance's machine reads and sets its state, see `local.moto_server`."""
        return f"{self.endpoint}{MACHINE_PATH}{self.instance_id}"

    @property
    def jwks_url(self) -> str:
        """Where the user pool publishes its public keys."""
        return f"{self.endpoint}/{self._pool_id}/.well-known/jwks.json"

    @property
    def issuer(self) -> str:
        """The `iss` of the user pool's tokens: AWS's own address, which moto does not replace by its own."""
        return f"https://cognito-idp.{self.region}.amazonaws.com/{self._pool_id}"

    def environment(self) -> dict[str, str]:
        """Return the variables by which AWS SDKs and the Lambdas find what is here; credentials are not among them."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "TLFIF_JWKS_URL": self.jwks_url,
            "TLFIF_JWT_ISSUER": self.issuer,
            "TLFIF_JWT_AUDIENCE": self.client_id,
            "TLFIF_GPU_TAG": GPU_TAG,
        }

    def client(self, service: str) -> Any:
        """Return a boto3 client of one of AWS's services, here."""
        config = Config(connect_timeout=1, read_timeout=10, retries={"total_max_attempts": 1})
        return self._session.client(service, endpoint_url=self.endpoint, config=config)

    def token(self) -> str:
        """Sign the user in and return an access token, good for an hour."""
        signed_in = self.client("cognito-idp").initiate_auth(
            ClientId=self.client_id,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": self.username, "PASSWORD": self.password},
        )
        token: str = signed_in["AuthenticationResult"]["AccessToken"]
        return token

    def stop_instance(self) -> None:
        """Stop the instance whose machine nobody plays yet."""
        with httpx.Client(trust_env=False) as client:
            client.put(self.machine_url, content="stopped").raise_for_status()

    def stop(self) -> None:
        """Stop at once: there is nothing to keep, and a polite stop takes 0.3 s."""
        self.kill()

    def command(self) -> list[str]:
        """See `Server.command`."""
        port = str(self._ports[0])
        if self._has_machine:
            return [sys.executable, "-m", "local.moto_server", LOOPBACK, port]
        return [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", port]

    def child_environment(self) -> dict[str, str]:
        """See `Server.child_environment`."""
        return os.environ | {
            "MOTO_ACCOUNT_ID": self._account,
            "MOTO_PORT": str(self._ports[0]),
            # Ids that follow from what is asked for, so that they outlive a restart.
            "MOTO_COGNITO_IDP_USER_POOL_ID_STRATEGY": "HASH",
            "MOTO_COGNITO_IDP_USER_POOL_CLIENT_ID_STRATEGY": "HASH",
            "MOTO_DISABLE_GLOBAL_CORS": "true",  # else every page in a browser may use it
        }

    def is_ready(self) -> bool:
        """Tell whether a moto with our account answers."""
        try:
            return bool(self.client("sts").get_caller_identity()["Account"] == self._account)
        except (BotoCoreError, ClientError, ResponseParserError):
            return False

    def set_up(self) -> None:
        """See `Server.set_up`; makes the user pool and the instance."""
        try:
            self._make_user()
            self._make_instance()
        except (BotoCoreError, ClientError) as error:
            raise StartFailed(f"aws runs, but setting it up failed: {error}") from error

    def _make_user(self) -> None:
        cognito = self.client("cognito-idp")
        pool = cognito.create_user_pool(PoolName=f"tl-fif-{self._account}")["UserPool"]["Id"]
        flows = ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
        app = cognito.create_user_pool_client(UserPoolId=pool, ClientName="tlfif", ExplicitAuthFlows=flows)
        who = {"UserPoolId": pool, "Username": self.username}
        cognito.admin_create_user(**who, MessageAction="SUPPRESS")
        cognito.admin_set_user_password(**who, Password=self.password, Permanent=True)
        self._pool_id, self.client_id = pool, app["UserPoolClient"]["ClientId"]

    def _make_instance(self) -> None:
        name, _, value = GPU_TAG.partition("=")
        made = self.client("ec2").run_instances(
            ImageId="ami-00000000",
            InstanceType="g4dn.xlarge",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": name, "Value": value}]}],
        )
        self.instance_id = made["Instances"][0]["InstanceId"]
