//! Certificates for servers that speak TLS, made in the test.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::error::StartError;

const CERTIFICATE_FILE: &str = "server.crt";
const KEY_FILE: &str = "server.key";
const AUTHORITY_FILE: &str = "authority.crt";

/// An authority of the test's own, unknown to every other machine and to every other value of this type. ECDSA P-256; under a
/// millisecond each.
///
/// ```
/// use test_servers::{CertificateAuthority, Redis};
///
/// let authority = CertificateAuthority::new();
/// let redis = Redis::builder().tls(&authority.issue()).start();
/// let (url, trusted) = (redis.tls_url(), authority.pem()); // rediss://localhost:PORT/
/// # assert!(url.starts_with("rediss://localhost:") && trusted.starts_with("-----BEGIN CERTIFICATE-----"));
/// ```
#[derive(Debug)]
pub struct CertificateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A server's certificate with its private key, from a [`CertificateAuthority`].
#[derive(Clone)]
pub struct ServerCertificate {
    certificate: String,
    key: String,
    authority: String,
}

impl CertificateAuthority {
    /// Makes one with a new key.
    ///
    /// # Panics
    /// Without a source of randomness.
    #[expect(clippy::new_without_default, reason = "each has another key: nothing about it is a default")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "the tests' own authority");
        let issuer = CertifiedIssuer::self_signed(params, new_key()).expect("constant parameters");
        Self { issuer }
    }

    /// Its own certificate in PEM, for clients to trust.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for `localhost` and the loopback addresses.
    pub fn issue(&self) -> ServerCertificate {
        self.sign(&parameters(&["localhost", "127.0.0.1", "::1"]))
    }

    /// A certificate for this host name or address and no other.
    ///
    /// # Panics
    /// When no certificate can carry the name.
    pub fn issue_for(&self, host: &str) -> ServerCertificate {
        self.sign(&parameters(&[host]))
    }

    /// Like [`issue`](Self::issue), except that it ended in 2021.
    pub fn issue_expired(&self) -> ServerCertificate {
        let mut params = parameters(&["localhost", "127.0.0.1", "::1"]);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> ServerCertificate {
        let key = new_key();
        let certificate: Certificate = params.signed_by(&key, &self.issuer).expect("names were checked");
        ServerCertificate { certificate: certificate.pem(), key: key.serialize_pem(), authority: self.pem() }
    }
}

impl ServerCertificate {
    /// The certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.certificate
    }

    /// Its private key in PEM.
    pub fn key_pem(&self) -> &str {
        &self.key
    }

    pub(crate) fn write(&self, directory: &Path) -> Result<(), StartError> {
        let files = [(CERTIFICATE_FILE, &self.certificate), (KEY_FILE, &self.key), (AUTHORITY_FILE, &self.authority)];
        files
            .into_iter()
            .try_for_each(|(name, text)| fs::write(directory.join(name), text))
            .map_err(StartError::io("write the server's certificate"))
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").finish_non_exhaustive()
    }
}

/// Redis' directives for the files that [`ServerCertificate::write`] wrote.
pub(crate) fn directives(directory: &Path) -> [(&'static str, PathBuf); 3] {
    [("tls-cert-file", CERTIFICATE_FILE), ("tls-key-file", KEY_FILE), ("tls-ca-cert-file", AUTHORITY_FILE)]
        .map(|(directive, file)| (directive, directory.join(file)))
}

fn parameters(hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("a name that certificates can carry");
    // Between nodes of a cluster a server is a client too.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a source of randomness")
}
