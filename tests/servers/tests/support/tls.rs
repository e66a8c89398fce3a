//! A client that speaks TLS and trusts one authority.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Sends an inline command to a loopback port and returns the first line that comes back, or why the certificate was refused.
pub(crate) fn ask(port: u16, host: &'static str, authority: &str, command: &str) -> Result<String, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM")).expect("an authority");
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host).expect("a host name");
    let tls = ClientConnection::new(Arc::new(config), name).expect("a valid configuration");
    let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("redis accepts");
    tcp.set_read_timeout(Some(Duration::from_secs(5))).expect("a valid timeout");
    let mut stream = StreamOwned::new(tls, tcp);
    let mut reply = String::new();
    let outcome =
        stream.write_all(format!("{command}\r\n").as_bytes()).and_then(|()| BufReader::new(&mut stream).read_line(&mut reply));
    match outcome {
        Ok(_) => Ok(reply),
        Err(err) => match err.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(cause) => Err(cause.clone()),
            None => panic!("{err}"),
        },
    }
}
