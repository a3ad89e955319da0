"""A record system that people log in at: a real server with its documents, keys and token endpoint, which tests let err."""

import base64
import json
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from vigil.serving.login.attempts import challenge_of

FAMILIES = {"RS": jwt.algorithms.RSAAlgorithm, "ES": jwt.algorithms.ECAlgorithm}
KEYS = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "RS384": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
}
GRANTED = "openid fhirUser user/RiskAssessment.rs user/Patient.read"


def public_jwk(algorithm, **changes):
    jwk = FAMILIES[algorithm[:2]].to_jwk(KEYS[algorithm].public_key(), as_dict=True)
    return {**jwk, "kid": algorithm, "alg": algorithm, "use": "sig", **changes}


class FakeEhr:
    """What the record system says and was asked.

    Attributes:
        claims: changes of the claims of id_tokens; None removes one.
        answer: changes of the answer of the token endpoint; None removes a field.
        document: changes of its configuration.
        algorithm: of id_tokens.
        header: changes of their header.
        asked: paths that were asked for, with the headers and form of requests for a token.
    """

    def __init__(self, url):
        self.url, self.asked, self.codes = url, [], {}
        self.reset()

    def reset(self):
        self.claims, self.answer, self.document, self.header = {}, {}, {}, {}
        self.algorithm, self.key, self.status = "RS256", None, 200
        self.asked.clear()

    @property
    def fhir(self):
        return f"{self.url}/fhir"

    def configuration(self):
        own = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "code_challenge_methods_supported": ["S256"],
            "capabilities": ["launch-ehr", "launch-standalone", "sso-openid-connect"],
        }
        return {name: value for name, value in (own | self.document).items() if value is not None}

    def authorize(self, location):
        """Do what a browser and a person do at the authorization endpoint; return the query of the way back."""
        query = {name: value for name, (value,) in parse_qs(urlsplit(location).query, strict_parsing=True).items()}
        code = str(uuid.uuid4())
        self.codes[code] = query
        return {"code": code, "state": query["state"]}

    def token(self, form):
        asked = self.codes.pop(form["code"], None)
        if asked is None or form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        if challenge_of(form["code_verifier"]) != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": asked["client_id"],
            "sub": "u-17",
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "fhirUser": f"{self.fhir}/Practitioner/17",
        } | self.claims
        claims = {name: value for name, value in claims.items() if value is not None}
        key = self.key or KEYS[self.algorithm]
        header = {"kid": self.algorithm} | self.header
        answer = {
            "access_token": "secret-access-token",
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": GRANTED,
            "id_token": jwt.encode(claims, key, self.algorithm, header),
        } | self.answer
        return self.status, {name: value for name, value in answer.items() if value is not None}


@contextmanager
def running_ehr():
    """Run a record system on a free port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def reply(self, status, content):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            ehr.asked.append((self.path, {}, {}))
            if self.path in {"/fhir/.well-known/smart-configuration", "/.well-known/openid-configuration"}:
                self.reply(200, ehr.configuration())
            elif self.path == "/jwks":
                self.reply(200, {"keys": [public_jwk(algorithm) for algorithm in KEYS]})
            else:
                self.reply(404, {})

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: value for name, (value,) in parse_qs(body).items()}
            ehr.asked.append((self.path, dict(self.headers), form))
            self.reply(*ehr.token(form))

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        ehr = FakeEhr(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield ehr
        finally:
            server.shutdown()
            thread.join()


def basic(client_id, secret):
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()
