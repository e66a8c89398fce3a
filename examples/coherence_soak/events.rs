//! What nodes log: each invalidation that was told, and each read. Records of a fixed length, so that one cut short by `kill -9` is known as such.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const LENGTH: usize = 24;

/// An `Ok` for an invalidation, or for a write, which is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// When the `Ok` came, by the boot-time clock.
    pub(crate) at: u64,
    pub(crate) version: u64,
    pub(crate) key: u32,
    pub(crate) node: u32,
}

/// How a value was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Verified,
    /// The cache itself said that it may be old.
    Marked,
    /// The value of another key.
    Wrong,
}

/// A read that returned a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// Taken before the cache was asked.
    pub(crate) began: u64,
    pub(crate) version: u64,
    pub(crate) key: u32,
    pub(crate) mark: Mark,
}

impl Told {
    fn bytes(self) -> [u8; LENGTH] {
        record(self.at, self.version, self.key, self.node)
    }
}

impl Observed {
    fn bytes(self) -> [u8; LENGTH] {
        record(self.began, self.version, self.key, self.mark as u32)
    }
}

fn record(time: u64, version: u64, key: u32, last: u32) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(&time.to_le_bytes());
    bytes[8..16].copy_from_slice(&version.to_le_bytes());
    bytes[16..20].copy_from_slice(&key.to_le_bytes());
    bytes[20..].copy_from_slice(&last.to_le_bytes());
    bytes
}

/// Time, version, key, and what is last. A part of a record at the end is left out.
fn records(bytes: &[u8]) -> impl Iterator<Item = (u64, u64, u32, u32)> + '_ {
    let long = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let short = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    bytes.chunks_exact(LENGTH).map(move |one| (long(&one[..8]), long(&one[8..16]), short(&one[16..20]), short(&one[20..])))
}

fn told_path(folder: &Path, node: u32) -> PathBuf {
    folder.join(format!("{node}.told"))
}

fn observed_path(folder: &Path, node: u32, phase: u32) -> PathBuf {
    folder.join(format!("{node}-{phase}.reads"))
}

/// A node's log of what it told, written through at once: a node that is killed has logged all but its last.
pub(crate) struct ToldLog(File);

impl ToldLog {
    pub(crate) fn create(folder: &Path, node: u32) -> io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(told_path(folder, node)).map(Self)
    }

    pub(crate) fn add(&self, told: Told) -> io::Result<()> {
        // One write of an appending file is not torn by another thread's.
        (&self.0).write_all(&told.bytes())
    }
}

/// A node's log of its reads in one phase, buffered.
pub(crate) struct ReadLog(BufWriter<File>);

impl ReadLog {
    pub(crate) fn create(folder: &Path, node: u32, phase: u32) -> io::Result<Self> {
        File::create(observed_path(folder, node, phase)).map(|file| Self(BufWriter::with_capacity(1 << 16, file)))
    }

    pub(crate) fn add(&mut self, read: Observed) -> io::Result<()> {
        self.0.write_all(&read.bytes())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What a node has told since byte `from` of its log, which is moved on.
pub(crate) fn told_since(folder: &Path, node: u32, from: &mut u64) -> io::Result<Vec<Told>> {
    let mut bytes = Vec::new();
    let mut file = match File::open(told_path(folder, node)) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    file.seek(SeekFrom::Start(*from))?;
    file.read_to_end(&mut bytes)?;
    *from += (bytes.len() - bytes.len() % LENGTH) as u64;
    Ok(records(&bytes).map(|(at, version, key, node)| Told { at, version, key, node }).collect())
}

/// Takes the log of a node's reads in one phase, and removes it. Nothing if there is none.
pub(crate) fn take_observed(folder: &Path, node: u32, phase: u32, mut each: impl FnMut(Observed)) -> io::Result<()> {
    let path = observed_path(folder, node, phase);
    let mut file = match File::open(&path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    // A long phase has gigabytes.
    let mut part = vec![0; LENGTH << 12];
    let mut filled = 0;
    loop {
        let read = file.read(&mut part[filled..])?;
        filled += read;
        let whole = filled - filled % LENGTH;
        for (began, version, key, mark) in records(&part[..whole]) {
            let mark = match mark {
                0 => Mark::Verified,
                1 => Mark::Marked,
                _ => Mark::Wrong,
            };
            each(Observed { began, version, key, mark });
        }
        part.copy_within(whole..filled, 0);
        filled -= whole;
        if read == 0 {
            return std::fs::remove_file(path);
        }
    }
}
