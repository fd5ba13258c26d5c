//! Names and connections, tried one by one, so that a check can tell which of them fails.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::rows::Row;
use crate::failure::Exit;

/// How long a thing that answers at once when it is well is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// For one that was waited for already.
pub(super) const SECOND_TRY: Duration = Duration::from_secs(1);

/// The addresses of a host, or why there are none.
pub(super) async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    match timeout(PATIENCE, lookup_host((host, port))).await {
        Err(_) => Err(format!("no answer within {}", shown(PATIENCE))),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(addresses)) => Ok(addresses.collect()),
    }
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connecting {
    Done,
    Refused,
    Silent,
    Failed(io::ErrorKind),
}

/// Connects to one of the addresses and says nothing there.
pub(super) async fn connect(addresses: &[SocketAddr]) -> Connecting {
    match timeout(SECOND_TRY, TcpStream::connect(addresses)).await {
        Err(_) => Connecting::Silent,
        Ok(Ok(_)) => Connecting::Done,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Connecting::Refused,
        Ok(Err(error)) => Connecting::Failed(error.kind()),
    }
}

/// The row of a name that is known.
pub(super) fn known(name: &str, host: &str, addresses: &[SocketAddr]) -> Row {
    let all: Vec<_> = addresses.iter().map(|it| it.ip().to_string()).collect();
    if all.iter().any(|address| address == host) {
        Row::ok(name, format!("{host} is an address"))
    } else {
        Row::ok(name, format!("{host} is {}", all.join(", ")))
    }
}

pub(super) fn unknown(name: &str, host: &str, why: &str, option: &str) -> Row {
    Row::failed(
        name,
        Exit::Unreachable,
        format!("the name {host} leads nowhere: {why}"),
        format!("check the host in {option}, and whether this machine has a network"),
    )
}

pub(super) fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
