//! The body of an answer, which may break off on purpose.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// How much of an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    All,
    /// Its head, which promises all of the body, and half of that.
    Half,
}

#[derive(Debug)]
pub(super) struct Reply {
    left: Option<Bytes>,
    promised: u64,
    end: End,
}

#[derive(Debug)]
enum End {
    Regular,
    /// Breaks off once what has been handed over is written.
    Written,
    Broken,
}

impl Reply {
    pub(super) fn new(mut body: Bytes, extent: Extent) -> Self {
        let length = body.len();
        let (promised, end) = match extent {
            Extent::All => (length, End::Regular),
            Extent::Half => {
                body.truncate(length / 2);
                // What is empty cannot be halved, but more can be promised.
                (length.max(1), End::Written)
            }
        };
        Self {
            left: (!body.is_empty()).then_some(body),
            promised: promised as u64,
            end,
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if let Some(part) = this.left.take() {
            this.promised -= part.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        match this.end {
            End::Regular => Poll::Ready(None),
            End::Written => {
                // hyper writes what it has when there is nothing to add yet; an error would make it forget that.
                this.end = End::Broken;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            End::Broken => Poll::Ready(Some(Err(io::Error::other("broken off on purpose")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_none() && matches!(self.end, End::Regular)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised)
    }
}
