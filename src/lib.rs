//! cachestack.
#![forbid(unsafe_code)]
