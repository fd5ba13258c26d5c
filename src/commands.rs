//! One file per verb.

pub(crate) mod demo;
pub(crate) mod post;
pub(crate) mod seed;
pub(crate) mod serve;
