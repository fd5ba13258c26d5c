//! A local receiver that speaks the APIs of both targets. This file has its sockets; what is answered is decided in `service`.

mod answer;
mod catalog;
mod fault;
mod gateway;
mod json;
mod kafka;
mod kinesis;
mod landing;
mod layout;
mod partitioner;
mod reply;
mod service;
mod take;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub(crate) use self::{
    fault::{Fault, Plan},
    gateway::GatewayErrors,
    kafka::Dialect,
};
use self::{
    landing::{Flush, Landing},
    reply::{Extent, Reply},
    service::{Asked, Outcome, Service},
};
use crate::failure::{Exit, Failure, OrExit};

/// How long a stop waits for the requests it has begun to read.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Options {
    /// Port 0: any free port.
    pub(crate) listen: String,
    /// `None`: answer and count, keep nothing.
    pub(crate) data_dir: Option<PathBuf>,
    /// Of a topic, and shards of a stream.
    pub(crate) partitions: u32,
    /// A landed file is finished with so many records,
    pub(crate) flush_size: u64,
    /// or so long after its first.
    pub(crate) flush_after: Duration,
    /// `Some`: no other topics exist.
    pub(crate) topics: Option<Vec<String>>,
    /// `Some`: no other streams exist, but for those that are created.
    pub(crate) streams: Option<Vec<String>>,
    pub(crate) dialect: Dialect,
    pub(crate) gateway: GatewayErrors,
    /// What goes wrong on purpose.
    pub(crate) faults: Option<Plan>,
}

/// The records landed since the start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) topics: BTreeMap<String, u64>,
    pub(crate) streams: BTreeMap<String, u64>,
}

/// A running receiver.
#[derive(Debug)]
pub(crate) struct Receiver {
    addr: SocketAddr,
    service: Arc<Service>,
    stop: CancellationToken,
    accepting: JoinHandle<()>,
    finishing: JoinHandle<()>,
}

impl Receiver {
    /// Returns when connections are taken.
    pub(crate) async fn start(options: Options) -> Result<Self, Failure> {
        check_names("topic", options.topics.as_deref(), kafka::is_legal)?;
        check_names("stream", options.streams.as_deref(), kinesis::is_legal)?;
        let (listener, addr) = listen(&options.listen).await?;
        let flush = Flush {
            size: options.flush_size,
            after: options.flush_after,
        };
        let at = options
            .data_dir
            .as_ref()
            .map(|dir| dir.display().to_string())
            .unwrap_or_default();
        let landing = Landing::open(options.data_dir, flush)?;
        let service = Service::open(
            landing,
            options.partitions,
            options.topics.as_deref(),
            options.streams.as_deref(),
        );
        let service = service.or_exit(Exit::CannotWrite, || {
            format!("cannot go on in the data directory {at}")
        })?;
        let service = service.speaking(options.dialect, options.gateway, options.faults);
        let service = Arc::new(service);
        let stop = CancellationToken::new();
        Ok(Self {
            addr,
            accepting: tokio::spawn(accept(listener, Arc::clone(&service), stop.clone())),
            finishing: tokio::spawn(finish_files(Arc::clone(&service), options.flush_after)),
            service,
            stop,
        })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers what it has begun to read, and finishes the landed files.
    pub(crate) async fn stop(self) -> Result<Counts, Failure> {
        self.stop.cancel();
        let ended = self.accepting.await;
        ended.or_exit(Exit::Bug, || "the receiver ended before it was told to")?;
        self.finishing.abort();
        // Only when it is gone is the data directory free for the next.
        let _ = self.finishing.await;
        let Service {
            topics, streams, ..
        } = &*self.service;
        let finished = topics.finish().and_then(|()| streams.finish());
        finished.or_exit(
            Exit::CannotWrite,
            || "cannot finish the landed files; the next start will",
        )?;
        Ok(Counts {
            topics: topics.counts(),
            streams: streams.counts(),
        })
    }
}

fn check_names(
    kind: &str,
    names: Option<&[String]>,
    is_legal: fn(&str) -> bool,
) -> Result<(), Failure> {
    match names
        .unwrap_or_default()
        .iter()
        .find(|name| !is_legal(name))
    {
        Some(name) => Err(Failure::new(
            Exit::Usage,
            format_args!("{name:?} cannot be the name of a {kind}"),
        )),
        None => Ok(()),
    }
}

async fn listen(address: &str) -> Result<(TcpListener, SocketAddr), Failure> {
    let bound = match TcpListener::bind(address).await {
        Ok(listener) => listener.local_addr().map(|addr| (listener, addr)),
        Err(error) => Err(error),
    };
    bound.map_err(|error| {
        let (exit, cure) = match error.kind() {
            io::ErrorKind::InvalidInput => (Exit::Usage, "an address looks like 127.0.0.1:8082"),
            _ => (
                Exit::Unreachable,
                "take another with --listen, or --listen 127.0.0.1:0 for any free port",
            ),
        };
        let message = format!("cannot listen on {address}: {error}; {cure}");
        Failure::new(exit, message)
    })
}

async fn accept(listener: TcpListener, service: Arc<Service>, stop: CancellationToken) {
    // Begins with the time, so that no two runs give the same request ids.
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let requests = Arc::new(AtomicU64::new(started << 32));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(serve(socket, Arc::clone(&service), Arc::clone(&requests), stop.clone()));
                }
                Err(error) => {
                    // Mostly too many open files: it passes when a connection ends.
                    warn!(%error, "A connection could not be taken.");
                    time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let settled = time::timeout(GRACE, async {
        while connections.join_next().await.is_some() {}
    });
    if settled.await.is_err() {
        warn!("A request that was not sent to its end was dropped.");
        connections.shutdown().await;
    }
}

async fn serve(
    socket: TcpStream,
    service: Arc<Service>,
    requests: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%error, "Small answers may be slow.");
    }
    let answer = service_fn(|request| respond(&service, &requests, &stop, request));
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(socket), answer));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "A connection ended early.");
    }
}

/// An error ends the connection without an answer.
async fn respond(
    service: &Service,
    requests: &AtomicU64,
    stop: &CancellationToken,
    request: Request<Incoming>,
) -> Result<Response<Reply>, io::Error> {
    let dice = service.roll(Instant::now());
    let latency = dice.as_ref().map_or(Duration::ZERO, |dice| dice.latency);
    let (head, body) = request.into_parts();
    let outcome = match read(body).await.map_err(io::Error::other)? {
        Some(body) => service.meet(
            &Asked {
                method: &head.method,
                path: head.uri.path(),
                headers: &head.headers,
                body: &body,
            },
            dice,
        ),
        None => Outcome::Answered(gateway::too_large(), Extent::All),
    };
    if !latency.is_zero() {
        // A stop is not made to wait for what is slow on purpose.
        let _ = stop.run_until_cancelled(time::sleep(latency)).await;
    }
    match outcome {
        Outcome::Answered(answer, extent) => {
            let number = requests.fetch_add(1, Ordering::Relaxed);
            return Ok(answer.into_response(number, extent));
        }
        Outcome::Cut => {}
        Outcome::Silence => stop.cancelled().await,
    }
    Err(io::Error::other("cut on purpose"))
}

/// `None` if it is too large. It is read to its end all the same: who is cut off while sending never sees the answer.
async fn read(mut body: Incoming) -> Result<Option<Vec<u8>>, hyper::Error> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(expected.min(gateway::MAX_BODY));
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            length += data.len();
            if length <= gateway::MAX_BODY {
                bytes.extend_from_slice(&data);
            }
        }
    }
    Ok((length <= gateway::MAX_BODY).then_some(bytes))
}

/// Looks for files whose time is up, often enough to be late by a small part of it.
async fn finish_files(service: Arc<Service>, after: Duration) {
    let mut ticks =
        time::interval((after / 10).clamp(Duration::from_millis(10), Duration::from_secs(1)));
    loop {
        ticks.tick().await;
        let now = Instant::now();
        service.topics.finish_due(now);
        service.streams.finish_due(now);
    }
}
