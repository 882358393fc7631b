"""TLS of the RESP port: the context for its connections, and new certificates without a restart."""

import os
import ssl
from typing import Any, Final

from ...errors import ConfigError
from ...protocol.secret_files import check_private

_FILES: Final = ("cert", "key")


def make_context(settings: dict[str, Any]) -> ssl.SSLContext:
    """TLS 1.2 or later. With a CA, clients show a certificate that it signed: all of them, or those that want to. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, settings)
    if settings["ca"]:
        try:
            context.load_verify_locations(settings["ca"])
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"resp_tls_ca: {settings['ca']}: {_reason(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED if settings["clients"] == "required" else ssl.CERT_OPTIONAL
    return context


def _load(context: ssl.SSLContext, settings: dict[str, Any]) -> None:
    check_private("resp_tls_key:", settings["key"])

    def no_passphrase() -> str:
        raise ConfigError(f"resp_tls_key: {settings['key']} is encrypted: only keys without a passphrase are taken")

    try:
        context.load_cert_chain(settings["cert"], settings["key"], no_passphrase)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"resp_tls_cert: {settings['cert']} with {settings['key']}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or str(error)


class Certificates:
    """The context in force. Certificate and key are read again when their files change; connections that exist stay."""

    def __init__(self, settings: dict[str, Any], log: Any) -> None:
        """Raises ConfigError."""
        self._settings, self._log = settings, log
        self.context = make_context(settings)
        self._seen = self._times()

    def _times(self) -> tuple[int, ...]:
        found = []
        for name in _FILES:
            try:
                status = os.stat(self._settings[name])
                found += [status.st_mtime_ns, status.st_ino]
            except OSError:
                found += [0, 0]
        return tuple(found)

    def review(self, *, always: bool = False) -> None:
        """Take new files, if there are any that belong together; else the old ones go on."""
        times = self._times()
        if times == self._seen and not always:
            return
        self._seen = times
        try:
            # Tried where nobody is served: a wrong pair would spoil the context.
            make_context(self._settings)
            _load(self.context, self._settings)
        except ConfigError as error:
            self._log.error("new certificates are not taken", reason=str(error))
        else:
            self._log.info("new certificates are in use")
