"""Google as far as OIDC goes: a key of its own, tokens, and a server of certificates."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from google.auth import crypt, jwt

AUDIENCE = "https://worker.example.com"
ACCOUNT = "pusher@demo.iam.gserviceaccount.com"


class Google:
    """Signs what it is asked to, and serves its certificates while it is entered."""

    key_id = "key-1"

    def __init__(self) -> None:
        key, self.certificate = _key_and_certificate()
        self.signer = _signer(key, self.key_id)
        self.signer_without_id = _signer(key, None)
        self.other_signer = _signer(_key_and_certificate()[0], self.key_id)
        self.requests = 0
        self.status = 200
        self.headers = {}

    def claims(self, **claims) -> dict:
        """Those of a good token, but for what is named; None leaves one out."""
        now = int(time.time())
        plain = {
            "iss": "https://accounts.google.com",
            "aud": AUDIENCE,
            "azp": "1234567890",
            "sub": "1234567890",
            "email": ACCOUNT,
            "email_verified": True,
            "iat": now,
            "exp": now + 3600,
        }
        return {name: value for name, value in {**plain, **claims}.items() if value is not None}

    def token(self, *, signer: crypt.Signer | None = None, **claims) -> str:
        return jwt.encode(signer or self.signer, self.claims(**claims)).decode()

    @property
    def certificates_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/oauth2/v1/certs"

    def __enter__(self) -> Self:
        google = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                google.requests += 1
                body = json.dumps({google.key_id: google.certificate}).encode()
                self.send_response(google.status)
                for name, value in {**google.headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error) -> None:
        self._server.shutdown()
        self._server.server_close()


def _key_and_certificate() -> tuple[rsa.RSAPrivateKey, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federated-signon.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return key, certificate.public_bytes(serialization.Encoding.PEM).decode()


def _signer(key: rsa.RSAPrivateKey, key_id: str | None) -> crypt.Signer:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return crypt.RSASigner.from_string(pem, key_id)
