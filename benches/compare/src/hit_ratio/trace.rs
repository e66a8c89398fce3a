//! A recorded sequence of accesses.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use foldhash::fast::RandomState;
use ruzstd::decoding::StreamingDecoder;

use crate::error::Error;

const SUFFIX: &str = ".u64.zst";

/// One key per access.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) name: String,
    /// As recorded: what caches are asked for.
    pub(crate) keys: Vec<u64>,
    /// The same numbered from zero in the order of their first access, for policies that keep arrays.
    pub(crate) ids: Vec<u32>,
    pub(crate) distinct: usize,
}

impl Trace {
    pub(crate) fn read(name: String, path: &Path) -> Result<Self, Error> {
        let keys = File::open(path).and_then(decode).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Ok(Self::of(name, keys))
    }

    pub(crate) fn of(name: String, keys: Vec<u64>) -> Self {
        let mut numbers = HashMap::with_hasher(RandomState::default());
        let ids = keys
            .iter()
            .map(|key| {
                let next = numbers.len() as u32;
                *numbers.entry(*key).or_insert(next)
            })
            .collect();
        Self { name, ids, distinct: numbers.len(), keys }
    }
}

/// Names and paths of the traces in a folder, in the order of the names.
pub(crate) fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(SUFFIX)) {
            files.push((name.to_owned(), entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

fn decode(file: impl Read) -> io::Result<Vec<u64>> {
    let invalid =
        |error: ruzstd::decoding::errors::FrameDecoderError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let mut decoder = StreamingDecoder::new(BufReader::new(file)).map_err(invalid)?;
    let mut bytes = Vec::new();
    decoder.read_to_end(&mut bytes)?;
    let (ids, rest) = bytes.as_chunks::<8>();
    if rest.is_empty() {
        Ok(ids.iter().map(|id| u64::from_le_bytes(*id)).collect())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "not a whole number of 8-byte key ids"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zstd frame with the content in one raw block.
    fn frame(content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        let header = (u32::from(length) << 3) | 1;
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x20, length];
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.extend_from_slice(content);
        frame
    }

    #[test]
    fn keys_are_little_endian_and_numbered_by_their_first_access() {
        let content: Vec<u8> = [7_u64, 1 << 40, 7, 3].into_iter().flat_map(u64::to_le_bytes).collect();
        let trace = Trace::of("t".into(), decode(&*frame(&content)).unwrap());
        assert_eq!(trace.keys, [7, 1 << 40, 7, 3]);
        assert_eq!((trace.ids, trace.distinct), (vec![0, 1, 0, 2], 3));
    }

    #[test]
    fn a_cut_file_is_not_a_shorter_trace() {
        assert!(decode(&*frame(&[0; 12])).is_err());
        assert!(decode(&frame(&[0; 16])[..20]).is_err());
        assert!(decode(&b"no zstd"[..]).is_err());
    }
}
