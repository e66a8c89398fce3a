//! The recorded page views: see `examples/data/README.md`.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;

use ruzstd::decoding::StreamingDecoder;

use crate::product::ProductId;

static WEB07: &[u8] = include_bytes!("../data/web07.u64.zst");

/// Page views, one product each, in the order they came.
pub(crate) struct Trace {
    pub(crate) views: Arc<[ProductId]>,
    /// Each product once.
    pub(crate) products: Vec<ProductId>,
}

impl Trace {
    pub(crate) fn web07() -> io::Result<Self> {
        let mut bytes = Vec::new();
        StreamingDecoder::new(WEB07).map_err(io::Error::other)?.read_to_end(&mut bytes)?;
        let (ids, []) = bytes.as_chunks::<8>() else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the trace does not end with a whole id"));
        };
        let views: Arc<[_]> = ids.iter().map(|id| ProductId(u64::from_le_bytes(*id))).collect();
        let products = views.iter().copied().collect::<HashSet<_>>().into_iter().collect();
        Ok(Self { views, products })
    }
}
