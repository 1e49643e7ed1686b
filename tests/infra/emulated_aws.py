"""An emulated AWS that Terraform can apply against."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx

from local.aws_server import AwsServer
from local.ports import LOOPBACK
from tests.infra.recorded_calls import PATH, Call


class EmulatedAws(AwsServer):
    """A moto with `tests.infra.moto_patches` in a process of its own, and what has to be there before Terraform comes.

    Attributes:
        zone_id: id of the Route 53 zone `zone`, once it runs.
    """

    zone = "example.com"
    zone_id = ""

    def set_up(self) -> None:
        """See `Server.set_up`; makes the image that was baked for the GPU, and the zone that whoever wants TLS owns."""
        image = self.client("ec2").register_image(Name="tl-fif-gpu", RootDeviceName="/dev/xvda")["ImageId"]
        self.client("ssm").put_parameter(Name="/tl-fif/latest_ami_id", Value=image, Type="String")
        made = self.client("route53").create_hosted_zone(Name=self.zone, CallerReference="tests")
        self.zone_id = made["HostedZone"]["Id"].removeprefix("/hostedzone/")

    def command(self) -> list[str]:
        """See `Server.command`."""
        return [sys.executable, "-m", "tests.infra.moto_patches", LOOPBACK, str(self._ports[0])]

    def forget_calls(self) -> None:
        """Forget what Terraform has asked for so far."""
        with httpx.Client(trust_env=False) as client:
            client.delete(f"{self.endpoint}{PATH}").raise_for_status()

    def terraform_calls(self) -> set[Call]:
        """Return which rights Terraform has made use of since."""
        with httpx.Client(trust_env=False) as client:
            answer = client.get(f"{self.endpoint}{PATH}").raise_for_status()
        return {Call(*each) for each in answer.json()}

    @property
    def account(self) -> str:
        """Id of its account."""
        return self._account

    def child_environment(self) -> dict[str, str]:
        """See `Server.child_environment`."""
        return super().child_environment() | {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "MOTO_ACM_VALIDATION_WAIT": "1",  # seconds
            "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
        }
