"""Certificates of a lab: one authority for all of its clusters (S4). The only door to cryptography."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshobs import private

# A lab that is forgotten must not hold keys that are good for years.
_DAYS = 30


@dataclass(frozen=True)
class Pair:
    """Files of a certificate and its key, and of the authority that signed it."""

    ca: Path
    cert: Path
    key: Path


class Authority:
    """A new certificate authority; its files lie in a folder.

    Raises:
        OSError: they cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Cilium CA")])
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        made = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca, self.ca_key = folder / "ca.crt", folder / "ca.key"
        private.write(self.ca, made.public_bytes(serialization.Encoding.PEM))
        private.write(self.ca_key, pem(self._key))

    def issue(self, name: str, common: str, names: Sequence[str] = (), organization: str = "") -> Pair:
        """Make a certificate for servers and clients.

        Args:
            name: of its files.
            common: its common name.
            names: DNS names and addresses that it is good for.
            organization: Kubernetes' group.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
        if organization:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            self._builder(x509.Name(attributes), key.public_key())
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            # Python's own checks want it from 3.13 on.
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general(one) for one in names]), critical=False
            )
        found = Pair(self.ca, self._folder / f"{name}.crt", self._folder / f"{name}.key")
        private.write(found.cert, builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        private.write(found.key, pem(key))
        return found

    def key_pair(self, name: str) -> tuple[Path, Path]:
        """Make a key as service accounts are signed with; return its file and that of its public half."""
        key = ec.generate_private_key(ec.SECP256R1())
        whole, public = self._folder / f"{name}.key", self._folder / f"{name}.pub"
        private.write(whole, pem(key))
        public_pem = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        private.write(public, public_pem)
        return whole, public

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            # Clocks of other machines do not matter; a clock that was set back a little does.
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=_DAYS))
        )


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as text without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
