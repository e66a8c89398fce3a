//! What the service serves.

use cachestack::{Key, KeyParts};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct ProductId(pub(crate) u64);

impl Key for ProductId {
    fn write(&self, parts: &mut KeyParts) {
        self.0.write(parts);
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) id: ProductId,
    pub(crate) name: String,
    pub(crate) cents: i64,
}

impl Product {
    /// The row that the shop has for an id.
    pub(crate) fn made_up(id: ProductId) -> Self {
        const NAMES: [&str; 8] = ["kettle", "lamp", "mug", "pan", "rug", "shelf", "towel", "vase"];
        let ProductId(number) = id;
        let name = format!("{} no. {number}", NAMES[number as usize % NAMES.len()]);
        Self { id, name, cents: 199 + (number as i64 * 7_919) % 50_000 }
    }

    /// The id as databases store it, which know no unsigned integers.
    pub(crate) fn row_id(&self) -> i64 {
        self.id.row_id()
    }
}

impl ProductId {
    pub(crate) fn row_id(self) -> i64 {
        self.0 as i64
    }
}
