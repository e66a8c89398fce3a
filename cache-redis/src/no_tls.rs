//! What stands for `tls` while its feature is off: a tier that is asked for TLS is not built, so none has it.

use crate::error::config_error;
use cache_core::Error;
use tokio::net::TcpStream;

/// There is none.
pub(crate) enum Tls {}

impl Tls {
    #[expect(clippy::unused_async, reason = "as with the feature")]
    pub(crate) async fn connect(&self, _host: &str, _stream: TcpStream) -> Result<TcpStream, Error> {
        match *self {}
    }
}

#[derive(Default)]
pub(crate) struct Trust {}

impl Trust {
    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(crate) fn is_given(&self) -> bool {
        false
    }

    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(crate) fn build(self) -> Result<Tls, Error> {
        Err(config_error("a Redis URL asks for TLS, and the feature `tls` is off: nothing is sent in plain instead"))
    }
}

pub(crate) fn late_refusal(_: &std::io::Error) -> Option<Error> {
    None
}
