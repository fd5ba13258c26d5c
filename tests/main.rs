//! Everything that is tested through the built program, as a user starts it, against real servers.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod end_to_end;
mod sources;
#[expect(dead_code, reason = "other tests need the rest")]
mod support;
mod values;
