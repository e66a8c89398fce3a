//! Real servers for tests.
#![forbid(unsafe_code)]
