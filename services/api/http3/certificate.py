"""Is it a certificate to serve with? Asked before anything listens, and answered in words."""

import ssl
from datetime import datetime
from pathlib import Path

from cryptography import x509

from shared.config_sections import Http3
from shared.errors import ConfigurationError

_CERTIFICATE = "server.http3.certificate_file"
_KEY = "server.http3.key_file"


def check_certificate(file: Path | None, section: Http3, now: datetime) -> None:
    """Raises ``ConfigurationError`` naming the key and what is wrong with its file."""
    for key, path in ((_CERTIFICATE, section.certificate_file), (_KEY, section.key_file)):
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigurationError(file, [(key, f"{path}: {error.strerror}")]) from error
    if reason := _why_not(section.certificate_file, now):
        raise ConfigurationError(file, [(_CERTIFICATE, f"{section.certificate_file} {reason}")])
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            section.certificate_file, section.key_file, password=_nobody_to_ask
        )
    except ssl.SSLError as error:
        reason = f"{section.key_file} is not the unencrypted PEM key of {_CERTIFICATE}"
        raise ConfigurationError(file, [(_KEY, reason)]) from error


def _why_not(certificate_file: Path, now: datetime) -> str | None:
    try:
        certificate = x509.load_pem_x509_certificates(certificate_file.read_bytes())[0]
    except ValueError:
        return "is no PEM certificate"
    if now >= certificate.not_valid_after_utc:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}; renew it"
    if now < certificate.not_valid_before_utc:
        return f"counts only from {certificate.not_valid_before_utc:%Y-%m-%d}"
    if _is_an_authority(certificate):
        return (
            "is a certificate authority's own, which HTTP/3 clients refuse from a server; "
            "have it issue one (deploy/edge/make_certificates.sh does)"
        )
    if not _names(certificate):
        return "has no subjectAltName: clients find no name in it"
    return None


def _is_an_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _names(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName))
    except x509.ExtensionNotFound:
        return False


def _nobody_to_ask() -> str:
    """Else OpenSSL asks at the terminal for the password of an encrypted key."""
    return ""
