"""TLS: a certificate authority of our own, and certificates that are good or wrong on request."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sandbox.faults import FaultBoard

Key = ec.EllipticCurvePrivateKey
LOCAL = ("localhost", "127.0.0.1")
FAULTS = ("tls-expired", "tls-self-signed", "tls-wrong-host")


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class Authority:
    """A CA that writes its files into `folder`; `ca_file` is what a client must trust."""

    def __init__(self, folder: Path, name: str = "Sandbox CA", *, days: float = 365) -> None:
        self.folder = folder
        self.ca_file = folder / "ca.pem"
        self._key: Key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = self._builder(self._name, self._key, days)
        builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
        usage = _key_usage(key_cert_sign=True, crl_sign=True)
        builder = builder.add_extension(usage, critical=True)
        self.certificate = builder.sign(self._key, hashes.SHA256())
        self.ca_file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: Key, days: float) -> x509.CertificateBuilder:
        """A certificate that ends `days` from now (negative: in the past)."""
        now = datetime.now(timezone.utc)
        ca_key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=min(0, days) - 30))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(key_id, critical=False)
            .add_extension(ca_key_id, critical=False)
        )

    def issue(self, name: str, *hosts: str, days: float = 90) -> Path:
        """A PEM file with key and certificate for `hosts` (default: loopback)."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([_alternative(h) for h in hosts or LOCAL])
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            self._builder(_name(name), key, days)
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        path = self.folder / f"{name}.pem"
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        chain = [certificate, self.certificate]
        pems = [c.public_bytes(serialization.Encoding.PEM) for c in chain]
        path.write_bytes(secret + b"".join(pems))
        return path


def _key_usage(**wanted: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in names})


def server_context(pem: Path) -> ssl.SSLContext:
    """A server's context for a PEM file of `Authority.issue`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(pem))
    return context


class TlsKit:
    """Hands every new connection the context that the faults of the moment call for."""

    def __init__(self, folder: Path, faults: FaultBoard) -> None:
        self._faults = faults
        self._authority = Authority(folder)
        self._folder = folder
        self._contexts: dict[Optional[str], ssl.SSLContext] = {}
        self.ca_file = self._authority.ca_file

    def _make(self, fault: Optional[str]) -> ssl.SSLContext:
        if fault == "tls-self-signed":
            elsewhere = self._folder / "elsewhere"
            elsewhere.mkdir(exist_ok=True)
            return server_context(Authority(elsewhere, "Nobody You Know").issue("self-signed"))
        if fault == "tls-wrong-host":
            return server_context(self._authority.issue("wrong-host", "payments.example.org"))
        days = -1 if fault == "tls-expired" else 90
        return server_context(self._authority.issue(fault or "good", days=days))

    def __call__(self) -> ssl.SSLContext:
        """The context for a connection made now."""
        fault = next((name for name in FAULTS if self._faults.on(name)), None)
        if fault not in self._contexts:
            self._contexts[fault] = self._make(fault)
        return self._contexts[fault]
