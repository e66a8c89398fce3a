//! The verbs of a remote tier as values, so that a layer can treat them differently.

/// A verb of [`RemoteTier`](crate::RemoteTier).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Reads one key, or the head of its record.
    Get,
    /// Reads many keys.
    GetMany,
    /// Asks for a lease.
    Acquire,
    /// Stores the value of a load.
    Fill,
    /// Gives a lease back.
    Release,
    /// Invalidates keys.
    Invalidate,
    /// Stores a versioned value.
    Put,
    /// Invalidates a namespace, or what begins alike in one.
    Clear,
    /// Announces a write.
    Mark,
    /// Ends an announcement.
    Unmark,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Get,
        Self::GetMany,
        Self::Acquire,
        Self::Fill,
        Self::Release,
        Self::Invalidate,
        Self::Put,
        Self::Clear,
        Self::Mark,
        Self::Unmark,
    ];

    /// The name of the trait's method: `"get_many"`. For metrics and traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetMany => "get_many",
            Self::Acquire => "acquire",
            Self::Fill => "fill",
            Self::Release => "release",
            Self::Invalidate => "invalidate",
            Self::Put => "put",
            Self::Clear => "clear",
            Self::Mark => "mark",
            Self::Unmark => "unmark",
        }
    }
}
