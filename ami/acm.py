"""A certificate with its key, out of AWS Certificate Manager."""

from __future__ import annotations

import re
import secrets
from typing import Final

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ami.openssl import OpensslFailed, certificates, decrypted

_ARN: Final = re.compile(r"arn:aws[a-z-]*:acm:(?P<region>[a-z0-9-]+):\d{12}:certificate/[\w-]+")
# All of it well below the unit's TimeoutStartSec.
_CONFIG: Final = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"})

_ADVICE: Final = {
    "AccessDeniedException": "allow the instance's role acm:ExportCertificate on this certificate",
    "ResourceNotFoundException": "name one that is there: aws acm list-certificates",
    "RequestInProgressException": "it is not issued yet; prove the domain, then wait",
    "ValidationException": "it cannot be exported: ask for one with Options={Export=ENABLED}, or from a private CA",
}


class ExportFailed(Exception):
    """Certificate Manager does not answer, does not give the certificate, or gives one that is of no use."""


def export(arn: str) -> tuple[bytes, list[bytes]]:
    """Fetch a certificate by its ARN, under a passphrase that lives as long as this call.

    Returns:
        The private key, and the certificate with its chain behind it; all in PEM.

    Raises:
        ExportFailed: the message says what to do.
    """
    named = _ARN.fullmatch(arn)
    if named is None:
        raise ExportFailed(
            f"TLFIF_CERTIFICATE_ARN={arn} is no certificate's ARN: arn:aws:acm:REGION:ACCOUNT:certificate/ID"
        )
    # ACM takes no passphrase with #, $ or %; these 43 characters are letters, digits, - and _.
    passphrase = secrets.token_urlsafe(32).encode()
    try:
        acm = botocore.session.get_session().create_client("acm", region_name=named["region"], config=_CONFIG)
        answer = acm.export_certificate(CertificateArn=arn, Passphrase=passphrase)
    except ClientError as refused:
        code = refused.response["Error"]["Code"]
        raise ExportFailed(
            f"ACM refused to export {arn}: {refused}; {_ADVICE.get(code, 'see the ACM console')}"
        ) from None
    except BotoCoreError as error:
        raise ExportFailed(
            f"ACM does not answer: {error}; look at the way out to acm.{named['region']} on 443"
        ) from None
    chain = certificates(f"{answer['Certificate']}\n{answer.get('CertificateChain', '')}".encode())
    try:
        return decrypted(answer["PrivateKey"].encode(), passphrase), chain
    except OpensslFailed as error:
        raise ExportFailed(
            f"the key of {arn} cannot be read ({error}); see that the certificate is RSA or ECDSA"
        ) from None
