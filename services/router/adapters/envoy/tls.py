"""TLS: at the gateway's own port, and towards servers elsewhere whose certificate is checked."""

import ipaddress
from pathlib import PurePosixPath

from meshxds.envoy.config.core.v3 import base_pb2
from meshxds.envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from meshxds.envoy.type.matcher.v3 import string_pb2

from services.common.grpc.tls import AUTHORITY, CERTIFICATE, PRIVATE_KEY
from services.router.adapters.envoy import names
from services.router.adapters.envoy.messages import over_ads, packed

_Parameters = common_pb2.TlsParameters
_PARAMETERS = _Parameters(tls_minimum_protocol_version=_Parameters.TlsProtocol.TLSv1_2)


def own_certificate() -> base_pb2.TransportSocket:
    """For the gateway's port. The certificate is a secret of its own, so that another one is no other listener."""
    return _socket(
        tls_pb2.DownstreamTlsContext(
            common_tls_context=tls_pb2.CommonTlsContext(
                tls_params=_PARAMETERS,
                alpn_protocols=["h2", "http/1.1"],
                tls_certificate_sds_secret_configs=[_told(names.CERTIFICATE)],
            )
        )
    )


def certificate(certificate_file: str, private_key_file: str, *, name: str = names.CERTIFICATE) -> secret_pb2.Secret:
    """The names of the files, as the gateway sees them, and no secret at all. It reads them, and reads them again
    whenever a file is moved into the folder of the certificate, so certificates are renewed without a restart."""
    return secret_pb2.Secret(
        name=name,
        tls_certificate=common_pb2.TlsCertificate(
            certificate_chain=base_pb2.DataSource(filename=certificate_file),
            private_key=base_pb2.DataSource(filename=private_key_file),
            watched_directory=_folder_of(certificate_file),
        ),
    )


def peer_secrets(folder: str) -> tuple[secret_pb2.Secret, secret_pb2.Secret]:
    """What `peer` goes by: the gateway's certificate among services and the authority that it believes."""
    authority = f"{folder}/{AUTHORITY}"
    return (
        certificate(f"{folder}/{CERTIFICATE}", f"{folder}/{PRIVATE_KEY}", name=names.PEER_CERTIFICATE),
        secret_pb2.Secret(
            name=names.PEER_AUTHORITY,
            validation_context=common_pb2.CertificateValidationContext(
                trusted_ca=base_pb2.DataSource(filename=authority), watched_directory=_folder_of(authority)
            ),
        ),
    )


def _folder_of(file: str) -> base_pb2.WatchedDirectory:
    return base_pb2.WatchedDirectory(path=str(PurePosixPath(file).parent))


def verified_server(host: str, *, ca_file: str) -> base_pb2.TransportSocket:
    """Towards `host`, which must prove by an authority of `ca_file` (PEM, as the gateway sees it) that it is that."""
    validated = _named(host)
    validated.trusted_ca.filename = ca_file
    return _socket(_towards(host, tls_pb2.CommonTlsContext(tls_params=_PARAMETERS, validation_context=validated)))


def peer(host: str) -> base_pb2.TransportSocket:
    """Towards a service of the mesh that must prove to be `host`, and to which the gateway proves what it is."""
    validated = tls_pb2.CommonTlsContext.CombinedCertificateValidationContext(
        default_validation_context=_named(host), validation_context_sds_secret_config=_told(names.PEER_AUTHORITY)
    )
    context = tls_pb2.CommonTlsContext(
        tls_params=_PARAMETERS,
        alpn_protocols=["h2"],
        tls_certificate_sds_secret_configs=[_told(names.PEER_CERTIFICATE)],
        combined_validation_context=validated,
    )
    return _socket(_towards(host, context))


def _told(secret: str) -> secret_pb2.SdsSecretConfig:
    return secret_pb2.SdsSecretConfig(name=secret, sds_config=over_ads(first_fetch_timeout_s=0))


def _named(host: str) -> common_pb2.CertificateValidationContext:
    matcher = common_pb2.SubjectAltNameMatcher
    kind = matcher.SanType.IP_ADDRESS if _is_ip(host) else matcher.SanType.DNS
    named = matcher(san_type=kind, matcher=string_pb2.StringMatcher(exact=host))
    return common_pb2.CertificateValidationContext(match_typed_subject_alt_names=[named])


def _towards(host: str, context: tls_pb2.CommonTlsContext) -> tls_pb2.UpstreamTlsContext:
    return tls_pb2.UpstreamTlsContext(sni="" if _is_ip(host) else host, common_tls_context=context)


def _socket(context: tls_pb2.DownstreamTlsContext | tls_pb2.UpstreamTlsContext) -> base_pb2.TransportSocket:
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
