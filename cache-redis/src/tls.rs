//! TLS: whom a tier trusts, how it shows itself, and why a handshake failed.

use crate::error::config_error;
use cache_core::{Error, ErrorKind};
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore};

/// Turns connections into such that nobody else reads or changes. A tier that has one makes no others.
pub(crate) struct Tls(TlsConnector);

impl Tls {
    /// Shakes hands, and makes sure that the server is who its host name says. Nothing of ours is sent before that.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, Error> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| config_error("no certificate can be for the host name of Redis"))?;
        self.0.connect(name, stream).await.map_err(|err| {
            tls_error(&err).map_or_else(
                || Error::new(ErrorKind::Unavailable, format!("the TLS handshake with Redis broke off: {}", err.kind())),
                refusal,
            )
        })
    }
}

#[cfg(feature = "fred")]
impl Tls {
    /// What fred connects by.
    pub(crate) fn connector(&self) -> TlsConnector {
        self.0.clone()
    }
}

/// What the builder was told. The default is the platform's roots, and no certificate of ours.
#[derive(Default)]
pub(crate) struct Trust {
    roots: Option<RootCertStore>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Trust {
    pub(crate) fn set_roots(&mut self, pem: &[u8]) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        for root in certificates(pem).ok_or_else(|| config_error("the TLS roots are not certificates in PEM"))? {
            roots.add(root).map_err(|_| config_error("a certificate of the TLS roots is malformed"))?;
        }
        self.roots = Some(roots);
        Ok(())
    }

    pub(crate) fn set_identity(&mut self, certificate: &[u8], key: &[u8]) -> Result<(), Error> {
        let chain = certificates(certificate).ok_or_else(|| config_error("the TLS client certificate is not in PEM"))?;
        let key = PrivateKeyDer::from_pem_slice(key);
        let key = key.map_err(|_| config_error("the key of the TLS client certificate is not an unencrypted one in PEM"))?;
        self.identity = Some((chain, key));
        Ok(())
    }

    pub(crate) fn is_given(&self) -> bool {
        self.roots.is_some() || self.identity.is_some()
    }

    pub(crate) fn build(self) -> Result<Tls, Error> {
        let roots = self.roots.map_or_else(platform_roots, Ok)?;
        // By name: the program may have another provider as well, and then there is no default.
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(|_| config_error("TLS has no versions"))?;
        let config = config.with_root_certificates(roots);
        let mut config = match self.identity {
            None => config.with_no_client_auth(),
            Some((chain, key)) => config.with_client_auth_cert(chain, key).map_err(|_| {
                config_error("the TLS client certificate and its key do not belong together, or are of an unknown kind")
            })?,
        };
        // A resumed session is not shown the certificate, which may have expired since. Dials are rare; each checks it anew.
        config.resumption = Resumption::disabled();
        Ok(Tls(TlsConnector::from(Arc::new(config))))
    }
}

/// `None` if there is none, or one that is not understood.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok()?;
    Some(all).filter(|all| !all.is_empty())
}

fn platform_roots() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    // Platforms have the odd root that is not understood. What is left out is not trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(config_error("this machine has no root certificates: install some, or name yours by `tls_roots`"));
    }
    Ok(roots)
}

/// What ended a connection, if that is TLS: by TLS 1.3 a server says only after the handshake that it does not like our certificate.
pub(crate) fn late_refusal(cause: &io::Error) -> Option<Error> {
    tls_error(cause).map(refusal)
}

fn tls_error(err: &io::Error) -> Option<&TlsError> {
    err.get_ref()?.downcast_ref()
}

/// What a person must mend is [`ErrorKind::Config`]. Names and dates in rustls' error stay there.
fn refusal(err: &TlsError) -> Error {
    use CertificateError as Bad;
    let text = match err {
        TlsError::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => "the certificate of Redis has expired",
        TlsError::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "the certificate of Redis is not valid yet"
        }
        TlsError::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "the certificate of Redis is for another host name"
        }
        // The signature is a bad one if an issuer that is trusted has the same name.
        TlsError::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "the certificate of Redis is from an issuer that is not trusted"
        }
        TlsError::InvalidCertificate(_) | TlsError::NoCertificatesPresented => "the certificate of Redis is not a valid one",
        TlsError::InvalidMessage(_) => "Redis does not speak TLS at this address",
        TlsError::PeerIncompatible(_) => "Redis and the tier have no version or cipher of TLS in common",
        TlsError::AlertReceived(alert) if *alert != AlertDescription::InternalError => {
            return config_error(format!("Redis refused the TLS handshake, or the tier's certificate: {alert:?}"));
        }
        _ => return Error::new(ErrorKind::Unavailable, "TLS with Redis failed"),
    };
    config_error(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(err: TlsError) -> Option<Error> {
        late_refusal(&io::Error::new(io::ErrorKind::InvalidData, err))
    }

    #[test]
    fn a_refusal_of_our_certificate_is_known_from_what_ended_the_connection() {
        let err = late(TlsError::AlertReceived(AlertDescription::CertificateRequired)).expect("an error of TLS");
        assert_eq!(err.kind(), ErrorKind::Config);
        assert!(err.to_string().contains("CertificateRequired"), "{err}");
        assert!(late_refusal(&io::ErrorKind::ConnectionReset.into()).is_none());
    }

    #[test]
    fn what_may_pass_by_itself_is_weather() {
        for passing in [TlsError::AlertReceived(AlertDescription::InternalError), TlsError::DecryptError] {
            assert_eq!(late(passing).expect("an error of TLS").kind(), ErrorKind::Unavailable);
        }
    }

    #[test]
    fn no_name_that_the_server_shows_gets_into_our_text() {
        let presented = vec!["DnsName(\"canary.example\")".to_owned()];
        let expected = ServerName::try_from("canary.example").expect("a host name");
        let err = late(TlsError::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }))
            .expect("one of TLS");
        assert!(!format!("{err} {err:?}").contains("canary"), "{err:?}");
    }
}
