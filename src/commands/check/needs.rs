//! What the rate that is asked for needs of the target. Pure.

use super::{
    rows::Row,
    target::{Place, count},
};
use crate::{
    http::InvokeUrl,
    pace::Rate,
    pipeline::BatchLimits,
    post::{Kind, PerKind},
    sink::{Described, Sink, kinesis_gateway::Endpoint},
    summary::grouped,
};

/// What one shard takes in a second.
const SHARD_BYTES: f64 = 1e6;
const SHARD_RECORDS: f64 = 1e3;
/// Requests in a second to all gateways of an account, unless AWS has raised it.
const ACCOUNT_REQUESTS: f64 = 10_000.0;

/// What is to be sent.
#[derive(Debug)]
pub(super) struct Load<'a> {
    pub(super) sink: &'a Sink,
    pub(super) url: &'a InvokeUrl,
    pub(super) rate: Rate,
    /// Mean bytes of the records.
    pub(super) sizes: PerKind<f64>,
    pub(super) limits: BatchLimits,
    /// Posts in the tables, about.
    pub(super) total: Option<u64>,
}

impl Load<'_> {
    fn rate(&self) -> Option<f64> {
        match self.rate {
            Rate::PerSecond(rate) => Some(rate),
            Rate::Max => None,
        }
    }

    /// The shards that the stream of `kind` needs; with `--rate max` one.
    pub(super) fn shards(&self, kind: Kind) -> u64 {
        let rate = self.rate().unwrap_or_default();
        let by_bytes = rate * self.sizes[kind] / SHARD_BYTES;
        whole(by_bytes.max(rate / SHARD_RECORDS)).max(1)
    }

    /// Posts in a second that so many shards take.
    fn most(&self, kind: Kind, shards: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "shards are few")]
        let shards = shards as f64;
        shards * SHARD_RECORDS.min(SHARD_BYTES / self.sizes[kind].max(1.0))
    }

    /// Requests in a second for all three kinds, where a request holds at most so many posts.
    fn requests(&self, rate: f64, most: usize) -> f64 {
        let kinds = Kind::ALL.into_iter();
        kinds
            .map(|kind| {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "limits of requests are small numbers"
                )]
                let (most, bytes) = (most as f64, self.limits.bytes as f64);
                let waiting = 1.0 + rate * self.limits.linger.as_secs_f64();
                let posts = waiting
                    .floor()
                    .min(most)
                    .min((bytes / self.sizes[kind].max(1.0)).floor());
                rate / posts.max(1.0)
            })
            .sum()
    }

    pub(super) fn row(&self, places: &PerKind<Place>) -> Row {
        let [pin, geo, user] = Kind::ALL.map(|kind| self.sizes[kind].round());
        let sizes = format!("{pin}, {geo} and {user} bytes a post (pin, geo, user)");
        match (self.rate(), self.sink) {
            (None, Sink::KafkaRest(_)) => Row::ok(
                "rate",
                format!("as fast as the target takes them, at {sizes}"),
            ),
            (None, Sink::KinesisGateway(_)) => self.fastest(places, &sizes),
            (Some(rate), Sink::KafkaRest(_)) => {
                let bytes: f64 = Kind::ALL.iter().map(|kind| self.sizes[*kind]).sum();
                let requests = self.requests(rate, self.limits.posts);
                let what = format!(
                    "{} at {sizes} make {} kB/s in {} requests/s{}",
                    posts(rate),
                    number(rate * bytes / 1000.0),
                    number(requests),
                    self.pass(rate)
                );
                self.within_account(
                    what,
                    requests,
                    "--batch-size 500 and a longer --linger need fewer",
                )
            }
            (Some(rate), Sink::KinesisGateway(sink)) => {
                let one_shard = sink.uses_one_shard();
                self.shards_row(rate, &sizes, places, one_shard, sink.endpoint())
            }
        }
    }

    fn shards_row(
        &self,
        rate: f64,
        sizes: &str,
        places: &PerKind<Place>,
        one_shard: bool,
        endpoint: Endpoint,
    ) -> Row {
        let needed = PerKind::new(|kind| self.shards(kind));
        let [pin, geo, user] = Kind::ALL.map(|kind| needed[kind]);
        let shards = if pin == geo && geo == user {
            format!(
                "{} each",
                count(usize::try_from(pin).unwrap_or(usize::MAX), "shard")
            )
        } else {
            format!("{pin}, {geo} and {user} shards")
        };
        let requests = self.requests(rate, self.limits.posts);
        let batched = match endpoint {
            Endpoint::Record => {
                let few = Load {
                    limits: BatchLimits {
                        posts: 500,
                        bytes: 1 << 20,
                        linger: std::time::Duration::from_secs(1),
                    },
                    ..*self
                };
                format!(" (--endpoint records: {})", number(few.requests(rate, 500)))
            }
            Endpoint::Records => String::new(),
        };
        let what = format!(
            "{} at {sizes} need {shards} and {} requests/s of the {} that an account has by default{batched}{}",
            posts(rate),
            number(requests),
            number(ACCOUNT_REQUESTS),
            self.pass(rate)
        );
        match self.short(&needed, places, one_shard) {
            Some((kind, shards)) => {
                let asked = needed[kind];
                self.short_row(&what, kind, shards, asked, one_shard)
            }
            None => self.within_account(what, requests, "--endpoint records needs fewer"),
        }
    }

    /// The stream that takes the least of those that do not take the rate, and its shards.
    fn short(
        &self,
        needed: &PerKind<u64>,
        places: &PerKind<Place>,
        one_shard: bool,
    ) -> Option<(Kind, usize)> {
        let shards = |kind: Kind| match &places[kind] {
            _ if one_shard => Some(1),
            Place::Here(Described {
                parts,
                more: false,
                on_demand: false,
                ..
            }) => Some(*parts),
            _ => None,
        };
        let short = Kind::ALL.into_iter().filter_map(|kind| {
            let shards = shards(kind)?;
            (needed[kind] > shards as u64).then_some((kind, shards))
        });
        short.min_by(|one, other| {
            let [one, other] = [one, other].map(|(kind, shards)| self.most(*kind, *shards));
            one.total_cmp(&other)
        })
    }

    fn short_row(
        &self,
        what: &str,
        kind: Kind,
        shards: usize,
        needed: u64,
        one_shard: bool,
    ) -> Row {
        // As the option takes it.
        let most = self.most(kind, shards).floor();
        let stream = self.sink.target(kind);
        if one_shard {
            let what = format!(
                "{what}; but with one partition key all records of {stream} go to one shard"
            );
            let cure = format!("--partition-key index spreads them; or --rate {most}");
            Row::warning("rate", what, cure)
        } else {
            let what = format!("{what}; but {stream} has {}", count(shards, "shard"));
            let cure = format!(
                "aws kinesis update-shard-count --stream-name {stream} --target-shard-count {needed} --scaling-type UNIFORM_SCALING; or --rate {most}, or let pinemu slow down to what is taken"
            );
            Row::warning("rate", what, cure)
        }
    }

    fn fastest(&self, places: &PerKind<Place>, sizes: &str) -> Row {
        let limits = Kind::ALL
            .into_iter()
            .filter_map(|kind| match &places[kind] {
                Place::Here(described) if !described.on_demand => {
                    Some((self.most(kind, described.parts), described.parts, kind))
                }
                _ => None,
            });
        let slowest = limits.min_by(|one, other| one.0.total_cmp(&other.0));
        let end = slowest.map(|(most, shards, kind)| {
            format!(
                ": at most {} posts/s, which is what {} takes with {}",
                number(most.floor()),
                self.sink.target(kind),
                count(shards, "shard")
            )
        });
        let what = format!(
            "as fast as the target takes them, at {sizes}{}",
            end.unwrap_or_default()
        );
        Row::ok("rate", what)
    }

    fn within_account(&self, what: String, requests: f64, cure: &str) -> Row {
        let behind_gateway =
            self.url.gateway_region().is_some() || matches!(self.sink, Sink::KinesisGateway(_));
        if behind_gateway && requests > ACCOUNT_REQUESTS {
            Row::warning("rate", format!("{what}: more than a gateway takes"), cure)
        } else {
            Row::ok("rate", what)
        }
    }

    /// How long all posts take.
    fn pass(&self, rate: f64) -> String {
        let Some(total) = self.total else {
            return String::new();
        };
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = (total as f64 / rate).ceil();
        let time = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
        format!(
            "; all {} posts once take {}",
            grouped(total),
            humantime::format_duration(time)
        )
    }
}

fn posts(rate: f64) -> String {
    format!("{} posts/s", number(rate))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts, which saturate"
)]
fn whole(number: f64) -> u64 {
    number.ceil() as u64
}

/// Whole numbers with commas, small ones to a tenth.
fn number(number: f64) -> String {
    if number < 10.0 {
        let tenths = (number * 10.0).round() / 10.0;
        format!("{tenths}")
    } else {
        grouped(whole(number.round()))
    }
}
