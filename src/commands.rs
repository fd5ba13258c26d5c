//! One file per verb, and what several verbs have in common.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod dry_run;
pub(crate) mod post;
pub(crate) mod replay;
mod report;
pub(crate) mod resend;
pub(crate) mod seed;
pub(crate) mod sending;
pub(crate) mod serve;
pub(crate) mod settings;
