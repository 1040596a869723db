"""A certificate below a root of our own, for signing in tests: no reader trusts it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from synthgen.pack_settings import C2pa


def write_certificate(folder: Path) -> C2pa:
    """Write `chain.pem` and `key.pem`; they hold for nine days. Needs cryptography, which c2pa-python brings."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def certificate(subject: str, key: Any, issuer_key: Any, *extensions: tuple[Any, bool]) -> Any:
        names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (subject, "root")]
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        made = x509.CertificateBuilder(
            names[1], names[0], key.public_key(), x509.random_serial_number(), start, start + datetime.timedelta(days=9)
        )
        made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)
        for extension, critical in extensions:
            made = made.add_extension(extension, critical)
        return made.sign(issuer_key, hashes.SHA256())

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    unused = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    of_root = x509.KeyUsage(False, **unused, key_cert_sign=True, crl_sign=True)
    of_signer = x509.KeyUsage(True, **unused, key_cert_sign=False, crl_sign=False)
    root = certificate("root", root_key, root_key, (x509.BasicConstraints(True, None), True), (of_root, True))
    usage = (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
    leaf = certificate("signer", key, root_key, (x509.BasicConstraints(False, None), True), (of_signer, True), usage)
    (folder / "chain.pem").write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in (leaf, root)))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(secret)
    return C2pa(certificate=str(folder / "chain.pem"), private_key=str(folder / "key.pem"))
