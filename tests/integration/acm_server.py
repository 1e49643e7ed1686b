"""moto as AWS Certificate Manager, in a process of its own: `python -m tests.integration.acm_server HOST PORT`.

Not in the tests' own process: what moto imports has objects that no one may look at, and vLLM looks at everything there
is when it starts.
"""

from __future__ import annotations

import sys
from typing import Any

from moto.acm.models import AWSCertificateManagerBackend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_import = AWSCertificateManagerBackend.import_certificate


def import_certificate(self: AWSCertificateManagerBackend, *args: Any, **named: Any) -> str:
    """Let what is imported be exported, which moto does not; of what it makes itself the chain is wrong."""
    arn = _import(self, *args, **named)
    self._certificates[arn].cert_options["Export"] = "ENABLED"
    return arn


if __name__ == "__main__":
    AWSCertificateManagerBackend.import_certificate = import_certificate  # type: ignore[method-assign]
    run_simple(sys.argv[1], int(sys.argv[2]), DomainDispatcherApplication(create_backend_app), threaded=True)
