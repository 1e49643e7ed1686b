"""`python -m tests.infra.moto_lambda HOST PORT`: moto whose functions run, and whose aliases keep to Lambda's rules.

moto itself takes any change of an alias, whatever revision it names, and never gives it another one; publishes whatever
is there, whatever SHA-256 is asked for, also when nothing has changed, and, once versions were deleted, under a number
that another one has; and runs functions in Docker alone. Shares of an alias are kept, and lead no call.
"""

from __future__ import annotations

import copy
import io
import json
import sys
import types
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

from moto.awslambda.exceptions import InvalidParameterValueException, PreconditionFailedException
from moto.awslambda.models import LambdaBackend, LambdaFunction, LambdaStorage
from moto.awslambda.responses import LambdaResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

_TRACE = "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1"


def _with_revisions(update: Callable[[LambdaResponse], Any]) -> Callable[[LambdaResponse], Any]:
    def update_alias(self: LambdaResponse) -> Any:
        function, alias = self.path.split("/")[-3], self.path.split("/")[-1]
        found = self.backend.get_alias(name=alias, function_name=function)
        named = json.loads(self.body).get("RevisionId")
        if named not in {None, found.revision_id}:
            raise PreconditionFailedException("The Revision Id provided does not match the latest Revision Id")
        found.revision_id = str(uuid.uuid4())
        return update(self)

    return update_alias


def _checked(publish: Callable[[LambdaResponse], Any]) -> Callable[[LambdaResponse], Any]:
    def publish_version(self: LambdaResponse) -> Any:
        latest = self.backend.get_function(self.path.split("/")[-2], None)
        wanted = json.loads(self.body or "{}").get("CodeSha256")
        if wanted not in {None, latest.code_sha_256}:
            raise InvalidParameterValueException("CodeSHA256 is different from current CodeSHA256 in $LATEST")
        return publish(self)

    return publish_version


def _what_counts(function: LambdaFunction) -> dict[str, Any]:
    """Return what makes another version of a function."""
    left_out = {"CodeSize", "Description", "FunctionArn", "LastModified", "Version"}
    return {name: value for name, value in function.get_configuration().items() if name not in left_out}


def publish_version(self: LambdaStorage, name_or_arn: str, description: str = "") -> LambdaFunction:
    """Make a version of what is there, unless the newest is of the same; under the next number that never was."""
    function = self.get_function_by_name_or_arn_forbid_qualifier(name_or_arn)
    kept = self._functions[function.function_name]
    if kept["versions"] and _what_counts(kept["versions"][-1]) == _what_counts(function):
        newest: LambdaFunction = kept["versions"][-1]
        return newest
    kept["count"] = kept.get("count", 0) + 1
    made = copy.copy(function)
    made.set_version(kept["count"])
    made.description = description or made.description
    kept["versions"].append(made)
    self._arns[made.function_arn] = made
    return made


def invoke(  # noqa: PLR0917 - moto's
    self: LambdaBackend, function_name: str, qualifier: str | None, body: Any, headers: Any, response_headers: Any
) -> bytes:
    """Run the handler of the version that is called, as it stands in its zip."""
    function = self.get_function(function_name, qualifier)
    response_headers["x-amzn-trace-id"] = _TRACE
    module, _, name = str(function.handler).rpartition(".")
    try:
        with zipfile.ZipFile(io.BytesIO(function.code_bytes)) as archive:
            source = archive.read(f"{module.replace('.', '/')}.py")
        loaded = types.ModuleType(module)
        exec(source, loaded.__dict__)  # noqa: S102 - what the test has put there
        answer = getattr(loaded, name)(json.loads(body), {"environment": function.environment_vars})
    except Exception as error:  # noqa: BLE001 - whatever a function raises
        response_headers["x-amz-function-error"] = "Unhandled"
        answer = {"errorMessage": str(error), "errorType": type(error).__name__}
    return json.dumps(answer).encode()


def _apply() -> None:
    """Put everything above into moto."""
    additions: dict[type, tuple[Callable[..., Any], ...]] = {
        LambdaResponse: (_with_revisions(LambdaResponse.update_alias), _checked(LambdaResponse.publish_version)),
        LambdaStorage: (publish_version,),
        LambdaBackend: (invoke,),
    }
    for kind, methods in additions.items():
        for method in methods:
            setattr(kind, method.__name__, method)


def main() -> None:
    """Serve until killed."""
    host, port = sys.argv[1], int(sys.argv[2])
    _apply()
    app = DomainDispatcherApplication(create_backend_app)
    run_simple(host, port, app, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()
