//! Other ends than Redis: one that listens in plain and keeps what it hears, and one that speaks TLS and answers as it is told.

use parking_lot::Mutex;
use std::sync::Arc;
use test_servers::ServerCertificate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{HandshakeKind, ServerConfig};

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Answers whatever comes in plain, and keeps it. Lives as long as the test's runtime.
pub(crate) async fn plain() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let (listener, port) = listener().await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keep = heard.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 4_096];
            while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                keep.lock().extend_from_slice(&bytes[..count]);
                let _ = stream.write_all(b"-ERR Protocol error\r\n").await;
            }
        }
    });
    (port, heard)
}

/// What an end that speaks TLS has seen: how each handshake went, `None` if it failed, and all that was said then.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) handshakes: Vec<Option<HandshakeKind>>,
    pub(crate) heard: String,
}

/// Answers the first thing that it hears with these bytes, and closes.
pub(crate) async fn tls(certificate: &ServerCertificate, answer: String) -> (u16, Arc<Mutex<Seen>>) {
    answering(certificate, move |_| answer.clone()).await
}

/// The same, with an answer to each question.
pub(crate) async fn answering(
    certificate: &ServerCertificate,
    answer: impl Fn(&str) -> String + Send + 'static,
) -> (u16, Arc<Mutex<Seen>>) {
    let chain = vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()));
    let (listener, port) = listener().await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let note = seen.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                note.lock().handshakes.push(None);
                continue;
            };
            note.lock().handshakes.push(stream.get_ref().1.handshake_kind());
            let mut bytes = vec![0; 4_096];
            if let Ok(count) = stream.read(&mut bytes).await {
                let heard = String::from_utf8_lossy(&bytes[..count]);
                note.lock().heard.push_str(&heard);
                let _ = stream.write_all(answer(&heard).as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (port, seen)
}
