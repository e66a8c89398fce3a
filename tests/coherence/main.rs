//! Several nodes over one store: what one writes, the others follow, whatever becomes of the messages.

mod bound;
mod checker;
mod messages;
mod nodes;
mod outages;
mod polling;
mod records;
mod revalidated;
#[path = "../support/slow.rs"]
mod slow;
#[path = "../support/mod.rs"]
mod support;
mod tracking;
mod user_code;
