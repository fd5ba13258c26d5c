//! Why a target gives no answer.

use std::net::SocketAddr;

use super::Target;
use crate::{
    commands::check::{
        network::{Connecting, connect, known, unknown},
        rows::Row,
    },
    failure::Exit,
    http::{Hop, NoAnswer},
};

const CONNECTION: &str = "target connection";
const API: &str = "target API";

impl Target<'_> {
    /// The rows from the name to the API, of which one has failed.
    pub(super) async fn diagnosis(
        &self,
        hop: &Hop,
        addresses: Result<Vec<SocketAddr>, String>,
        no_answer: &NoAnswer,
    ) -> Vec<Row> {
        let place = hop.to_string();
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(why) => {
                let because = "the name leads nowhere";
                return vec![
                    unknown("target name", &hop.host, &why, option(hop)),
                    Row::untried(CONNECTION, because),
                    Row::untried(API, because),
                ];
            }
        };
        let name = known("target name", &hop.host, &addresses);
        if let Some(row) = self.no_connection_row(&place, hop, &addresses).await {
            return vec![name, row, Row::untried(API, "there is no connection")];
        }
        let failed = |row| {
            let exit = no_answer.lasting.unwrap_or(Exit::Unreachable);
            let cure = no_answer.cure.as_deref();
            let cure =
                cure.unwrap_or("check the host in --invoke-url, and the clock of this machine");
            Row::failed(row, exit, format!("{place}: {}", no_answer.text), cure)
        };
        if no_answer.by_proxy {
            let row = failed(CONNECTION);
            return vec![name, row, Row::untried(API, "there is no connection")];
        }
        let connection = Row::ok(CONNECTION, format!("{place} takes connections"));
        if self.url.is_tls() && no_answer.connecting {
            let tls = failed("target TLS");
            return vec![name, connection, tls, Row::untried(API, "there is no TLS")];
        }
        let tls = if self.url.is_tls() {
            ""
        } else {
            "; one that speaks TLS wants https:// in --invoke-url"
        };
        let cure = format!(
            "is --invoke-url the address of the REST proxy or gateway? A proxy whose Kafka is down may say nothing{tls}"
        );
        let what = format!("{place}: {no_answer}");
        let api = Row::failed(API, Exit::Unreachable, what, cure);
        vec![name, connection, api]
    }

    /// None if there is a connection.
    async fn no_connection_row(
        &self,
        place: &str,
        hop: &Hop,
        addresses: &[SocketAddr],
    ) -> Option<Row> {
        let option = option(hop);
        let (what, cure) = match connect(addresses).await {
            Connecting::Done => return None,
            Connecting::Refused => (
                format!("{place} refused the connection"),
                format!("is it running, and on this port? Check host and port in {option}"),
            ),
            Connecting::Silent => (
                format!("{place} does not answer"),
                "it is stopped, or a firewall drops what this machine sends: start it, and let this machine in (on EC2: an inbound rule of the security group for this port; a host has a new name after a restart)".to_owned(),
            ),
            Connecting::Failed(kind) => (
                format!("there is no way to {place}: {kind}"),
                format!("check host and port in {option}, and the network of this machine"),
            ),
        };
        let cure = if self.url.gateway_region().is_some() && !self.url.is_tls() {
            "a gateway speaks only TLS: write https:// in --invoke-url".to_owned()
        } else {
            cure
        };
        Some(Row::failed(CONNECTION, Exit::Unreachable, what, cure))
    }
}

/// Where the first address comes from.
fn option(hop: &Hop) -> &'static str {
    if hop.is_proxy {
        "the variables that name a proxy"
    } else {
        "--invoke-url"
    }
}
