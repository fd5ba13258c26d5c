//! Everything that is tested through the built program, as a user starts it, against real servers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "tables of cases are long, and their types are nobody else's"
)]

mod access;
mod check;
mod cli;
mod database_faults;
mod digest;
mod disk;
mod end_to_end;
mod failures;
mod fake;
mod faults;
mod kill;
mod limiter;
mod lock;
mod replay;
mod resend;
mod resume;
mod secrets;
mod shard;
mod signals;
mod soak;
mod sources;
mod support;
mod values;
