//! A relay to a Redis server that can be pointed elsewhere, as a name in DNS is, and that can have the server refuse commands.

use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};

/// Lives as long as the test's runtime.
pub(crate) struct Relay {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    upstream: AtomicU16,
    accepted: AtomicU64,
    /// Names of commands, and the error that stands in place of their replies.
    refused: Mutex<(&'static [&'static str], &'static str)>,
}

impl Relay {
    pub(crate) async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Shared { upstream: AtomicU16::new(upstream), accepted: AtomicU64::new(0), refused: Mutex::new((&[], "")) };
        let shared = Arc::new(shared);
        let ours = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                ours.accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(client, ours.clone()));
            }
        });
        Self { shared, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// How many connections there have been.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// New connections lead there. Those that are open stay where they are.
    pub(crate) fn point_to(&self, upstream: u16) {
        self.shared.upstream.store(upstream, Ordering::Relaxed);
    }

    /// From now on the server does none of these commands, and answers each with this error. An empty list ends it.
    pub(crate) fn refuse(&self, commands: &'static [&'static str], error: &'static str) {
        *self.shared.refused.lock() = (commands, error);
    }

    /// From now on none of these commands does anything, and each is answered as if it had reached nobody.
    pub(crate) fn swallow(&self, commands: &'static [&'static str]) {
        *self.shared.refused.lock() = (commands, "");
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", shared.upstream.load(Ordering::Relaxed))).await?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async {
        let mut from_client = BufReader::new(from_client);
        while let Some((name, mut command)) = read_command(&mut from_client).await? {
            let (refused, error) = *shared.refused.lock();
            if refused.contains(&name.as_str()) {
                // The server says it itself, so that replies keep their order.
                let script = if error.is_empty() { "return 0" } else { "return redis.error_reply(ARGV[1])" };
                command = redis::cmd("EVAL").arg(script).arg(0).arg(error).get_packed_command();
            }
            to_server.write_all(&command).await?;
        }
        Ok::<_, io::Error>(())
    };
    // The end of either direction ends the connection.
    tokio::select! {
        ended = requests => ended,
        ended = tokio::io::copy(&mut from_server, &mut to_client) => ended.map(drop),
    }
}

/// A command as it came, and its name in capitals; `None` at the end.
async fn read_command(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<(String, Vec<u8>)>> {
    let (mut raw, mut name) = (Vec::new(), String::new());
    if from.read_until(b'\n', &mut raw).await? == 0 {
        return Ok(None);
    }
    for part in 0..number(&raw) {
        let line = raw.len();
        from.read_until(b'\n', &mut raw).await?;
        let (length, start) = (number(&raw[line..]), raw.len());
        raw.resize(start + length + 2, 0);
        from.read_exact(&mut raw[start..]).await?;
        if part == 0 {
            name = String::from_utf8_lossy(&raw[start..start + length]).to_uppercase();
        }
    }
    Ok(Some((name, raw)))
}

/// `*3` and `$11` say how many.
fn number(line: &[u8]) -> usize {
    let digits = std::str::from_utf8(&line[1..]).ok().map(str::trim);
    digits.and_then(|digits| digits.parse().ok()).expect("drivers send arrays of strings")
}
