"""Which rights Terraform makes use of: what it asks the emulated AWS, as IAM would name it, action and resource.

IAM checks nothing here, and what it would check is not what the API calls it: S3's methods have names of their own, and
some calls need a second right. An action that this file does not know is recorded with its call in it, so that a test
finds it.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote

from tests.infra.repeated_calls import Wsgi

PATH: Final = "/recorded-calls"
"""GET answers with what Terraform asked for, DELETE forgets it."""

_SCOPE: Final = re.compile(r"/(?P<region>[a-z0-9-]+)/(?P<service>[a-z0-9-]+)/aws4_request")
_TERRAFORM: Final = re.compile("terraform", re.IGNORECASE)

_BUCKET_LOOKS: Final = {
    "accelerate": "GetAccelerateConfiguration",
    "acl": "GetBucketAcl",
    "cors": "GetBucketCORS",
    "encryption": "GetEncryptionConfiguration",
    "lifecycle": "GetLifecycleConfiguration",
    "location": "GetBucketLocation",
    "logging": "GetBucketLogging",
    "object-lock": "GetBucketObjectLockConfiguration",
    "ownershipControls": "GetBucketOwnershipControls",
    "policy": "GetBucketPolicy",
    "publicAccessBlock": "GetBucketPublicAccessBlock",
    "replication": "GetReplicationConfiguration",
    "requestPayment": "GetBucketRequestPayment",
    "tagging": "GetBucketTagging",
    "versioning": "GetBucketVersioning",
    "website": "GetBucketWebsite",
    "list-type": "ListBucket",
    "prefix": "ListBucket",
}
"""By what stands in the query of a GET of a bucket, the action."""

_OBJECT_CALLS: Final = {"DELETE": "DeleteObject", "GET": "GetObject", "HEAD": "GetObject", "PUT": "PutObject"}

_IMAGE_BUILDER_KINDS: Final = {
    "Component": "component",
    "DistributionConfiguration": "distribution-configuration",
    "ImagePipeline": "image-pipeline",
    "ImageRecipe": "image-recipe",
    "InfrastructureConfiguration": "infrastructure-configuration",
    "LifecyclePolicy": "lifecycle-policy",
}


class Call(NamedTuple):
    """One use of a right: the action, and on what; `*` where the action knows no resource."""

    action: str
    resource: str


def _s3(method: str, path: str, query: dict[str, list[str]], headers: dict[str, str]) -> Iterator[Call]:
    bucket, _, key = path.lstrip("/").partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    if not key:
        looks = [_BUCKET_LOOKS[name] for name in query if name in _BUCKET_LOOKS]
        if method == "HEAD" or (method == "GET" and not query):
            looks = ["ListBucket"]
        unknown = f"{method} of a bucket with {sorted(query)}"
        yield Call(f"s3:{looks[0] if method in {'GET', 'HEAD'} and looks else unknown}", arn)
    elif "tagging" in query:
        yield Call(f"s3:{'Get' if method == 'GET' else 'Put'}ObjectTagging", f"{arn}/{key}")
    else:
        yield Call(f"s3:{_OBJECT_CALLS.get(method, method)}", f"{arn}/{key}")
        if "HTTP_X_AMZ_TAGGING" in headers:
            yield Call("s3:PutObjectTagging", f"{arn}/{key}")


def _image_builder(
    prefix: str, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]
) -> Iterator[Call]:
    if path.startswith("/tags/"):
        verb = {"DELETE": "UntagResource", "GET": "ListTagsForResource", "POST": "TagResource"}[method]
        yield Call(f"imagebuilder:{verb}", unquote(path.removeprefix("/tags/")))
        return
    call = path.lstrip("/")
    kind = re.sub("^(Create|Delete|Get|Update)", "", call)
    if not call.startswith("Create"):
        named = body[f"{kind[0].lower()}{kind[1:]}Arn"] if call.startswith("Update") else next(iter(query.values()))[0]
        yield Call(f"imagebuilder:{call}", named)
        return
    version = f"/{body['semanticVersion']}" if "semanticVersion" in body else ""
    build = "/1" if kind == "Component" else ""
    arn = f"{prefix}:{_IMAGE_BUILDER_KINDS[kind]}/{body['name'].lower()}{version}{build}"
    yield Call(f"imagebuilder:{call}", arn)
    # What comes with it: its tags, the role that it is handed, the parts that it names.
    if body.get("tags"):
        yield Call("imagebuilder:TagResource", arn)
    if role := body.get("executionRole"):
        yield Call("iam:PassRole", role)
    parts = {value for key, value in body.items() if key.endswith("Arn")}
    for part in parts | {each["componentArn"] for each in body.get("components", [])}:
        yield from (
            Call(f"imagebuilder:Get{name}", part) for name, of in _IMAGE_BUILDER_KINDS.items() if f":{of}/" in part
        )
    if parent := body.get("parentImage"):
        yield Call("imagebuilder:GetImage", parent)


def _iam(account: str, action: str, form: dict[str, list[str]]) -> Call:
    for key, kind in (("RoleName", "role"), ("InstanceProfileName", "instance-profile")):
        if key in form:
            return Call(f"iam:{action}", f"arn:aws:iam::{account}:{kind}/{form[key][0]}")
    return Call(f"iam:{action}", "*")


def calls(environ: dict[str, Any], text: bytes, account: str) -> list[Call]:
    """Return which rights a request makes use of."""
    scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    if scope is None:
        return []
    service, method, path = scope["service"], environ["REQUEST_METHOD"], environ["PATH_INFO"]
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    if service == "sts":  # needs no right
        return []
    if service == "s3":
        query.pop("x-id", None)
        return list(_s3(method, path, query, environ))
    if service == "imagebuilder":
        prefix = f"arn:aws:imagebuilder:{scope['region']}:{account}"
        return list(_image_builder(prefix, method, path, query, json.loads(text or b"{}")))
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        body = json.loads(text or b"{}")
        return [Call(f"{service}:{target.rpartition('.')[2]}", body.get("resourceArn", "*"))]
    form = parse_qs(text.decode(), keep_blank_values=True)
    action = form.get("Action", [f"{method} {path}"])[0]
    return [_iam(account, action, form) if service == "iam" else Call(f"{service}:{action}", "*")]


def recording(others: Wsgi, account: str) -> Wsgi:
    """Keep which rights Terraform, and nobody else, makes use of; leave the answers to `others`."""
    kept: dict[Call, None] = {}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == PATH:
            body = json.dumps(list(kept)).encode()
            if environ["REQUEST_METHOD"] == "DELETE":
                kept.clear()
            start_response("200 OK", [("Content-Type", "application/json")])
            return [body]
        if _TERRAFORM.search(environ.get("HTTP_USER_AGENT", "")):
            text = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(text)
            kept.update(dict.fromkeys(calls(environ, text, account)))
        return others(environ, start_response)

    return app
