"""TLS for one dial: the context, with every file read anew, and the handshake. Verified unless told otherwise.

A certificate that is replaced while hawk runs is therefore in use from the next dial on.
"""

import ssl

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from hawk.asking import ask
from hawk.config import Config
from hawk.connecting import TLSContext
from hawk.errors import Unprepared, Untrusted
from hawk.links.stream import close_forcefully

HANDSHAKE_SHARE = 0.5
"""How much of `connection_timeout` a handshake may take; so its end is told as what it is."""


async def tls_context(config: Config) -> ssl.SSLContext:
    """The context of one dial. Raises `Unprepared`; the sentence names the setting and the file."""
    if config.tls_context is not None:
        context: TLSContext = await ask("tls_context", config.tls_context)
        if not isinstance(context, ssl.SSLContext):
            raise Unprepared(f"`tls_context` must be an ssl.SSLContext, not {type(context).__name__}")
        return context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if config.tls_insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif config.tls_ca_file is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(cafile=config.tls_ca_file)
        except (OSError, ValueError) as error:
            raise _unusable("tls_ca_file", config.tls_ca_file, error) from error
    if config.tls_certificate_file is not None:
        try:
            context.load_cert_chain(config.tls_certificate_file, config.tls_key_file, password=_no_passphrase)
        except (OSError, ValueError) as error:
            names = " with ".join(filter(None, (config.tls_certificate_file, config.tls_key_file)))
            raise _unusable("tls_certificate_file", names, error) from error
    if config.tls_alpn is not None:
        alpn = config.tls_alpn
        context.set_alpn_protocols(alpn.replace(",", " ").split() if isinstance(alpn, str) else list(alpn))
    return context


async def wrap(stream: ByteStream, *, config: Config, context: ssl.SSLContext, server_name: str) -> TLSStream:
    """Speak TLS over `stream`, as a client that asks for `server_name`. The TLS stream owns `stream` from then on.

    Raises `Untrusted`, also when the peer takes more than half of `connection_timeout`; and what the stream raises.
    `stream` is closed then, and when it is cancelled.
    """
    within_s = HANDSHAKE_SHARE * config.reconnection.connection_timeout
    try:
        with anyio.fail_after(within_s):
            # Brokers often close without TLS's own goodbye.
            return await TLSStream.wrap(
                stream,
                server_side=False,
                hostname=config.tls_server_name or server_name,
                ssl_context=context,
                standard_compatible=False,
            )
    except TimeoutError:
        await close_forcefully(stream)
        raise Untrusted(f"the TLS handshake did not end within {within_s:g} s") from None
    except ssl.SSLError as error:
        await close_forcefully(stream)
        raise Untrusted(_why(error)) from error
    except BaseException:
        await close_forcefully(stream)
        raise


def _why(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is not trusted: {error.verify_message}"
    if error.reason == "WRONG_VERSION_NUMBER":
        return "the peer does not speak TLS"
    reason = error.reason or error.strerror or "the peer ended it"
    return f"the TLS handshake failed: {reason.replace('_', ' ').lower()}"


def _no_passphrase() -> str:
    # Otherwise OpenSSL would ask the terminal, and hold up everything that runs.
    return ""


def _unusable(setting: str, names: str, error: OSError | ValueError) -> Unprepared:
    why = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else "not usable PEM"
    return Unprepared(f"{setting} {names} cannot be used: {why}")
