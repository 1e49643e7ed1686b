"""Tokens that attackers send, each by its name, and good ones made the same way.

Most are signed with our own key, so that nothing but the one fault in them keeps them out.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from jose import jwk

from tests.tokens import (
    ABSENT,
    AUDIENCE,
    ISSUER,
    JWKS_URL,
    NOW,
    access_claims,
    id_claims,
    segment,
    signer,
)

OURS, SECOND, WEAK = signer("key-1"), signer("key-2"), signer("weak", 1_024)
ATTACKER = signer("attacker")
GOOD = OURS.access()
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")
RIGHT: Final = {"alg": "RS256", "kid": OURS.kid}
B64: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def headed(**changes: Any) -> str:
    """Sign a good payload with our own key under a header that was changed: only the header is wrong."""
    header = {name: value for name, value in (RIGHT | changes).items() if value is not ABSENT}
    return OURS.sign(access_claims(), header)


def as_attacker(**header: Any) -> str:
    """Sign a good payload with the attacker's key."""
    return ATTACKER.sign(access_claims(), RIGHT | header)


def mac(secret: bytes, algorithm: str = "HS256") -> str:
    """Sign with a secret that everybody knows, as a verifier would that takes the public key for it."""
    signed = f"{segment(RIGHT | {'alg': algorithm})}.{PAYLOAD}"
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384}[algorithm]
    return f"{signed}.{segment(hmac.digest(secret, signed.encode(), digest))}"


def unsigned(algorithm: str, signature: str = "") -> str:
    """Ask for no check at all."""
    return f"{segment(RIGHT | {'alg': algorithm})}.{PAYLOAD}.{signature}"


def raw(algorithm: str, sign: Callable[[bytes], bytes]) -> str:
    """Sign a good payload by any function."""
    signed = f"{segment(RIGHT | {'alg': algorithm})}.{PAYLOAD}"
    return f"{signed}.{segment(sign(signed.encode()))}"


def with_payload(text: str) -> str:
    """Sign a payload that no JSON writer makes."""
    return OURS.sign(text.encode())


def spliced(more: str) -> str:
    """Sign good claims with more text before their end."""
    return with_payload(json.dumps(access_claims())[:-1] + more + "}")


def other_spelling(text: str, at: int) -> str:
    """Return `text` with one character changed."""
    other = "A" if text[at] != "A" else "B"
    return text[:at] + other + text[at:][1:]


def stray_bits() -> str:
    """Spell the same signature another way: the last character has bits that decoders drop (256 bytes leave four)."""
    assert SIGNATURE[-1] in "AQgw"
    return SIGNATURE[:-1] + B64[B64.index(SIGNATURE[-1]) + 1]


PEM = OURS.key.public_key().to_pem()
PUBLIC = serialization.load_pem_public_key(PEM)
assert isinstance(PUBLIC, rsa.RSAPublicKey)
DER = PUBLIC.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
PKCS1 = PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
MODULUS = base64.urlsafe_b64decode(OURS.jwk["n"] + "==")
PRIVATE = serialization.load_pem_private_key(OURS.key.to_pem(), None)
assert isinstance(PRIVATE, rsa.RSAPrivateKey)
CURVE = ec.generate_private_key(ec.SECP256R1())


def rsa_signer(
    padding: PSS | PKCS1v15, digest: hashes.HashAlgorithm, private: rsa.RSAPrivateKey = PRIVATE
) -> Callable[[bytes], bytes]:
    """Return our own key's signature by a scheme that is not RS256."""
    return lambda signed: private.sign(signed, padding, digest)


PSS_SHA256 = rsa_signer(PSS(MGF1(hashes.SHA256()), 32), hashes.SHA256())

ALGORITHMS = {
    **{f"alg-{name}": unsigned(name) for name in ("none", "None", "NONE", "nOnE", "")},
    **{f"alg-{name}-signature-kept": unsigned(name, SIGNATURE) for name in ("none", "None", "NONE", "nOnE", "")},
    "alg-none-without-last-dot": unsigned("none").rstrip("."),
    "hs256-public-pem": mac(PEM),
    "hs256-public-pem-stripped": mac(PEM.strip()),
    "hs256-pkcs1-pem": mac(PKCS1),
    "hs256-public-der": mac(DER),
    "hs256-jwk": mac(json.dumps(OURS.jwk).encode()),
    "hs256-modulus": mac(MODULUS),
    "hs256-modulus-base64": mac(OURS.jwk["n"].encode()),
    "hs256-kid": mac(OURS.kid.encode()),
    "hs256-empty-secret": mac(b""),
    "hs384-public-pem": mac(PEM, "HS384"),
    "rs384": raw("RS384", jwk.construct(OURS.key.to_pem(), "RS384").sign),
    "rs512": raw("RS512", jwk.construct(OURS.key.to_pem(), "RS512").sign),
    "ps256": raw("PS256", PSS_SHA256),
    "ps256-as-rs256": raw("RS256", PSS_SHA256),
    "es256": raw("ES256", lambda signed: CURVE.sign(signed, ec.ECDSA(hashes.SHA256()))),
    "sha1-as-rs256": raw("RS256", rsa_signer(PKCS1v15(), hashes.SHA1())),  # noqa: S303 - that is the attack
    "lower-case-rs256": headed(alg="rs256"),
    "alg-missing": headed(alg=ABSENT),
    "alg-list": headed(alg=["RS256"]),
    "alg-object": headed(alg={"RS256": 1}),
    "alg-null": headed(alg=None),
    "alg-number": headed(alg=256),
    "alg-true": headed(alg=True),
    "alg-with-null-byte": headed(alg="RS256\0"),
}

KEY_IDS = {
    "kid-missing": headed(kid=ABSENT),
    "kid-empty": headed(kid=""),
    "kid-path": headed(kid="../../../../../../dev/null"),
    "kid-path-empty-secret": OURS.sign(access_claims(), {"alg": "HS256", "kid": "/dev/null"}),
    "kid-file-url": headed(kid="file:///etc/passwd"),
    "kid-sql": headed(kid="key-1' UNION SELECT 'x' -- "),
    "kid-shell": headed(kid="key-1|id"),
    "kid-null-byte": headed(kid="key-1\0"),
    "kid-newline": headed(kid="key-1\n"),
    "kid-space": headed(kid=" key-1"),
    "kid-case": headed(kid="KEY-1"),
    "kid-very-long": headed(kid="k" * 3_000),
    "kid-list": headed(kid=["key-1"]),
    "kid-object": headed(kid={"key-1": 1}),
    "kid-null": headed(kid=None),
    "kid-number": headed(kid=1),
    "kid-fullwidth": headed(kid="key-\uff11"),
    "kid-surrogate": headed(kid="\ud800"),
    "kid-dunder": headed(kid="__class__"),
    "kid-of-another-key": headed(kid=SECOND.kid),
    "kid-ours-signed-by-another": SECOND.sign(access_claims(), RIGHT),
    "kid-unknown": signer("unknown").access(),
    "kid-weak-key": WEAK.access(),
    "attackers-key": as_attacker(),
}

CERTIFICATE = base64.b64encode(DER).decode()
HEADERS = {
    "jku": as_attacker(jku="https://attacker.test/jwks.json"),
    "jku-of-the-issuer": headed(jku=JWKS_URL),
    "jku-metadata": as_attacker(jku="http://169.254.169.254/latest/meta-data/"),
    "x5u": as_attacker(x5u="https://attacker.test/certificate.pem"),
    "x5c": as_attacker(x5c=[CERTIFICATE]),
    "x5t": headed(x5t="AAAA"),
    "embedded-jwk": as_attacker(jwk=ATTACKER.jwk),
    "embedded-jwk-as-ours": as_attacker(jwk=ATTACKER.jwk | {"kid": OURS.kid}),
    "embedded-jwk-without-kid": ATTACKER.sign(access_claims(), {"alg": "RS256", "jwk": ATTACKER.jwk}),
    "crit": headed(crit=["exp"]),
    "crit-empty": headed(crit=[]),
    "b64-false": headed(b64=False, crit=["b64"]),
    "b64-false-alone": headed(b64=False),
    "zip": headed(zip="DEF"),
    "nested-jwt": OURS.sign(GOOD.encode(), RIGHT | {"cty": "JWT"}),
    "cty": headed(cty="JWT"),
    "enc": headed(enc="A128GCM"),
    "claim-in-header": headed(sub="admin"),
    "typ-list": headed(typ=["JWT"]),
    "typ-null": headed(typ=None),
    "typ-other": headed(typ="secevent+jwt"),
    "header-alg-twice": OURS.sign(access_claims(), b'{"alg":"none","alg":"RS256","kid":"key-1"}'),
    "header-kid-twice": OURS.sign(access_claims(), b'{"kid":"attacker","alg":"RS256","kid":"key-1"}'),
    "header-kid-twice-escaped": OURS.sign(access_claims(), b'{"\\u006bid":"attacker","alg":"RS256","kid":"key-1"}'),
    "header-list": OURS.sign(access_claims(), [RIGHT]),
    "header-null": OURS.sign(access_claims(), b"null"),
    "header-text": OURS.sign(access_claims(), b"RS256"),
    "header-utf16": OURS.sign(access_claims(), json.dumps(RIGHT).encode("utf-16")),
    "header-byte-order-mark": OURS.sign(access_claims(), b"\xef\xbb\xbf" + json.dumps(RIGHT).encode()),
    "header-nested": OURS.sign(access_claims(), b'{"alg":"RS256","kid":"key-1","typ":' + b"[" * 4_000),
    "header-more-after": OURS.sign(access_claims(), json.dumps(RIGHT).encode() + b"{}"),
}

CLAIMS = {
    **{
        f"iss-{name}": OURS.access(iss=value)
        for name, value in {
            "missing": ABSENT,
            "null": None,
            "empty": "",
            "list": [ISSUER],
            "slash": f"{ISSUER}/",
            "prefix": ISSUER[:-1],
            "longer": f"{ISSUER}.attacker.test",
            "http": ISSUER.replace("https", "http"),
            "case": ISSUER.upper(),
            "other-pool": f"{ISSUER}2",
            "homoglyph": ISSUER.replace("e", "\u0435"),
            "zero-width": f"{ISSUER}\u200b",
        }.items()
    },
    "id-aud-wrong": OURS.sign(id_claims(aud="other")),
    "id-aud-missing": OURS.sign(id_claims(aud=ABSENT)),
    "id-aud-null": OURS.sign(id_claims(aud=None)),
    "id-aud-object": OURS.sign(id_claims(aud={AUDIENCE: 1})),
    "id-aud-empty-list": OURS.sign(id_claims(aud=[])),
    "id-aud-list-without-us": OURS.sign(id_claims(aud=["other"])),
    "id-aud-mixed-list": OURS.sign(id_claims(aud=[AUDIENCE, 5])),
    "id-aud-nested-list": OURS.sign(id_claims(aud=[[AUDIENCE]])),
    "id-aud-longer": OURS.sign(id_claims(aud=f"{AUDIENCE} other")),
    "id-with-client-id": OURS.sign(id_claims(aud=ABSENT, client_id=AUDIENCE)),
    "access-client-id-wrong": OURS.access(client_id="other"),
    "access-client-id-missing": OURS.access(client_id=ABSENT),
    "access-client-id-list": OURS.access(client_id=[AUDIENCE]),
    "access-with-aud": OURS.access(client_id=ABSENT, aud=AUDIENCE),
    **{
        f"token-use-{value!r}": OURS.access(token_use=value, aud=AUDIENCE)
        for value in ("refresh", "ACCESS", "", None, True, ["access"], {"access": 1})
    },
    "token-use-missing": OURS.access(token_use=ABSENT, aud=AUDIENCE),
    "expired": OURS.access(exp=int(NOW) - 11),
    "expired-long-ago": OURS.access(exp=1),
    "exp-negative": OURS.access(exp=-1),
    "exp-missing": OURS.access(exp=ABSENT),
    **{f"exp-{value!r}": OURS.access(exp=value) for value in (None, True, str(int(NOW) + 60), [int(NOW) + 60])},
    **{
        f"exp-{text[:20]}": OURS.sign(json.dumps(access_claims(exp=0)).replace('"exp": 0', f'"exp": {text}').encode())
        for text in ("NaN", "Infinity", "-Infinity", "1e400", "1e300", "9" * 400, "9" * 5_000, "0x7fffffff", "1_000")
    },
    "nbf-future": OURS.access(nbf=int(NOW) + 60),
    "nbf-text": OURS.access(nbf="0"),
    "nbf-null": OURS.access(nbf=None),
    "nbf-huge": OURS.access(nbf=10**300),
    "iat-future": OURS.access(iat=int(NOW) + 60),
    "iat-true": OURS.access(iat=True),
    "sub-missing": OURS.access(sub=ABSENT),
    "sub-newline": OURS.access(sub="user\nadmin"),
    "sub-null-byte": OURS.access(sub="user\0"),
    "sub-right-to-left": OURS.access(sub="\u202eresu"),
    "sub-of-redis-keys": OURS.access(sub="a b"),
    "sub-very-long": OURS.access(sub="a" * 129),
    "sub-twice": spliced(', "sub": "admin"'),
    "sub-twice-escaped": spliced(', "\\u0073ub": "admin"'),
    "iss-twice": spliced(f', "iss": "{ISSUER}"'),
    "exp-twice": spliced(', "exp": 9999999999'),
    "nested-member-twice": spliced(', "x": {"a": 1, "a": 2}'),
    "payload-nested": spliced(', "x": ' + "[" * 2_000 + "]" * 2_000),
    "payload-list": OURS.sign([access_claims()]),
    "payload-text": with_payload(json.dumps(json.dumps(access_claims()))),
    "payload-null": with_payload("null"),
    "payload-not-json": with_payload("{'sub': 'admin'}"),
    "payload-not-utf8": OURS.sign(json.dumps(access_claims()).encode() + b"\xff"),
    "payload-utf16": OURS.sign(json.dumps(access_claims()).encode("utf-16")),
    "payload-more-after": with_payload(json.dumps(access_claims()) + "{}"),
}

SHAPES = {
    "payload-tampered": f"{HEADER}.{segment(access_claims(sub='admin'))}.{SIGNATURE}",
    "payload-one-letter": f"{HEADER}.{other_spelling(PAYLOAD, 40)}.{SIGNATURE}",
    "header-tampered": f"{segment(RIGHT | {'typ': 'JWT'})}.{PAYLOAD}.{SIGNATURE}",
    "header-spaced": f"{segment(json.dumps(RIGHT, indent=1).encode())}.{PAYLOAD}.{SIGNATURE}",
    **{
        f"signature-letter-{at}": f"{HEADER}.{PAYLOAD}.{other_spelling(SIGNATURE, at)}"
        for at in (0, 1, 2, 3, 170, -4, -3, -2, -1)
    },
    "signature-cut": GOOD[:-1],
    "signature-cut-byte": f"{HEADER}.{PAYLOAD}.{segment(base64.urlsafe_b64decode(SIGNATURE + '==')[:-1])}",
    "signature-longer": f"{HEADER}.{PAYLOAD}.{segment(base64.urlsafe_b64decode(SIGNATURE + '==') + bytes(1))}",
    "signature-zero-before": f"{HEADER}.{PAYLOAD}.{segment(bytes(1) + base64.urlsafe_b64decode(SIGNATURE + '=='))}",
    "signature-stray-bits": f"{HEADER}.{PAYLOAD}.{stray_bits()}",
    "signature-zeros": f"{HEADER}.{PAYLOAD}.{segment(bytes(256))}",
    "signature-one": f"{HEADER}.{PAYLOAD}.{segment(bytes(255) + bytes([1]))}",
    "signature-of-another-token": f"{HEADER}.{PAYLOAD}.{OURS.access(jti='2').split('.')[2]}",
    "signature-empty": f"{HEADER}.{PAYLOAD}.",
    "signature-null": f"{HEADER}.{PAYLOAD}.null",
    "signature-twice": f"{GOOD}{SIGNATURE}",
    "header-empty": f".{PAYLOAD}.{SIGNATURE}",
    "payload-empty": f"{HEADER}..{SIGNATURE}",
    "padding": GOOD + "==",
    "padding-one": GOOD + "=",
    "padding-header": f"{HEADER}=.{PAYLOAD}.{SIGNATURE}",
    "padding-escaped": GOOD + "%3D%3D",
    "standard-base64": f"{HEADER}.{PAYLOAD}.{SIGNATURE.replace('-', '+').replace('_', '/')}+/",
    "too-long": OURS.access(fill="x" * 8_192),
    "enormous": "A" * 1_000_000,
    "many-dots": "." * 8_000,
    "tab-before": f"\t{GOOD}",
    "space-after": f"{GOOD} ",
    "newline-after": f"{GOOD}\n",
    "newline-within": GOOD.replace(".", ".\n"),
    "null-byte-after": f"{GOOD}\0",
    "zero-width-space": GOOD.replace(".", ".\u200b"),
    "byte-order-mark": f"\ufeff{GOOD}",
    "fullwidth-dots": GOOD.replace(".", "\uff0e"),
    "ideographic-dots": GOOD.replace(".", "\u3002"),
    "fullwidth-letter": "\uff45" + GOOD[1:],
    "cyrillic-letter": "\u0435" + GOOD[1:],
    "surrogate": f"{GOOD}\ud800",
    "quoted": f'"{GOOD}"',
    "four-segments": f"{GOOD}.{SIGNATURE}",
    "empty-fourth-segment": f"{GOOD}.",
    "two-segments": f"{HEADER}.{PAYLOAD}",
    "one-segment": HEADER,
    "jwe": f"{segment({'alg': 'RSA-OAEP', 'enc': 'A256GCM', 'kid': OURS.kid})}.AAAA.AAAA.AAAA.AAAA",
    "json-serialisation": json.dumps({"protected": HEADER, "payload": PAYLOAD, "signature": SIGNATURE}),
    "json-general": json.dumps({"payload": PAYLOAD, "signatures": [{"protected": HEADER, "signature": SIGNATURE}]}),
    "detached-payload": f"{HEADER}..{SIGNATURE}",
    "two-tokens": f"{GOOD},{GOOD}",
    "two-tokens-space": f"{GOOD} {GOOD}",
    "empty": "",
    "null": "null",
    "undefined": "undefined",
    "dots": "..",
    "python-bytes": f"b'{GOOD}'",
}

TOKENS = {**ALGORITHMS, **KEY_IDS, **HEADERS, **CLAIMS, **SHAPES}

AUTHORIZATIONS = {
    "missing": None,
    "empty": "",
    "scheme-alone": "Bearer",
    "scheme-and-space": "Bearer ",
    "token-alone": GOOD,
    "basic": f"Basic {GOOD}",
    "digest": f"Digest {GOOD}",
    "bearer-twice": f"Bearer Bearer {GOOD}",
    "bearer-twice-joined": f"Bearer {GOOD}, Bearer {GOOD}",
    "joined-without-scheme": f"Bearer {GOOD},{GOOD}",
    "basic-joined": f"Basic dTpw, Bearer {GOOD}",
    "tab": f"Bearer\t{GOOD}",
    "no-break-space": f"Bearer\u00a0{GOOD}",
    "space-before": f" Bearer {GOOD}",
    "space-after": f"Bearer {GOOD} ",
    "line-break": f"Bearer {GOOD}\r\nX-Sub: admin",
    "parameter": f'Bearer realm="x", token="{GOOD}"',
    "cyrillic-scheme": f"B\u0435arer {GOOD}",
    "many-spaces": "Bearer" + " " * 100_000,
}

GOOD_TOKENS = {
    "access": GOOD,
    "id": OURS.sign(id_claims()),
    "id-several-audiences": OURS.sign(id_claims(aud=["other", AUDIENCE])),
    "second-key": SECOND.access(),
    # What the attacks above are made with, used without malice: none of them is refused for its making.
    "headed": headed(),
    "spliced": spliced(', "x": {"a": 1, "b": [2]}'),
    "raw": raw("RS256", jwk.construct(OURS.key.to_pem(), "RS256").sign),
    "with-payload": with_payload(json.dumps(access_claims())),
}
