"""How clients of ours prove who they are to Kafka, and Kafka to them."""

import ssl
from typing import Any

from contracts.errors import SettingError
from contracts.settings import Settings


def aiokafka_security(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for every aiokafka client: `security_protocol`, `ssl_context`, `sasl_*`.

    Reads the certificate files; raises SettingError when one cannot be used.
    """
    arguments: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if settings.security_protocol in {"SSL", "SASL_SSL"}:
        arguments["ssl_context"] = ssl_context(settings)
    if settings.security_protocol.startswith("SASL"):
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        arguments["sasl_plain_username"] = settings.sasl_username
        arguments["sasl_plain_password"] = settings.sasl_password
    return arguments


def ssl_context(settings: Settings) -> ssl.SSLContext:
    """A context that checks the brokers' names and certificates, with the client's own where there is one."""
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file or None)
    except OSError as error:
        raise SettingError(
            "ssl_ca_file", f"expected a PEM file of certificates; {settings.ssl_ca_file!r}: {error}"
        ) from error
    if settings.ssl_cert_file:
        try:
            context.load_cert_chain(
                settings.ssl_cert_file,
                settings.ssl_key_file or None,
                # Without a text here OpenSSL would ask on the terminal.
                password=settings.ssl_key_password,
            )
        except OSError as error:
            raise SettingError(
                "ssl_cert_file",
                "expected PEM files of a certificate and its key, and the key's password in "
                f"ssl_key_password; {settings.ssl_cert_file!r}, {settings.ssl_key_file!r}: {error}",
            ) from error
    return context
