//! Everything that is tested through the built program, as a user starts it, against real servers.

#[expect(dead_code, reason = "the tests come next")]
mod support;
