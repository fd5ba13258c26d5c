//! A target that says what a test has it say, without a socket, so that its answers come on a paused clock.

use std::{fmt, sync::Mutex};

use futures_util::future::BoxFuture;

use super::{Hop, Http, NoAnswer, Wire};
use crate::sink::{Answer, Request};

type Answering = BoxFuture<'static, Result<Answer, NoAnswer>>;

pub(crate) struct Script(Box<dyn Fn(&Request) -> Answering + Send + Sync>);

impl Script {
    pub(super) async fn answer(&self, request: &Request) -> Result<Answer, NoAnswer> {
        (self.0)(request).await
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Http {
    /// Every request is answered by `answer`.
    pub(crate) fn scripted(answer: impl Fn(&Request) -> Answering + Send + Sync + 'static) -> Self {
        Self {
            wire: Wire::Script(Script(Box::new(answer))),
            base: "http://target".to_owned(),
            urls: Mutex::default(),
            hop: Hop::default(),
            secrets: Vec::new(),
        }
    }
}
