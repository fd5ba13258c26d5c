//! The topics and streams, one by one.

use super::{Asked, Place, Target};
use crate::{
    commands::check::rows::{Outcome, Row},
    failure::Exit,
    post::Kind,
    sink::{Described, Listed, Sink},
};

impl Target<'_> {
    /// The row of a topic or stream, and what is known of it.
    pub(super) fn place(&self, kind: Kind, asked: &Asked, listed: Option<&Listed>) -> (Row, Place) {
        let (name, noun, target) = (
            self.place_name(kind),
            self.sink.noun(),
            self.sink.target(kind),
        );
        let in_list = listed.map(|listed| listed.names.iter().any(|name| name == target));
        let absent = in_list == Some(false) && listed.is_some_and(|listed| !listed.more);
        let unclear = |what: String| {
            let cure = "a run tries all the same; --probe finds out";
            (Row::warning(name.clone(), what, cure), Place::Unknown)
        };
        let answer = match asked {
            Ok(answer) => answer,
            Err(no_answer) => return unclear(format!("{target}: {no_answer}")),
        };
        if let Some(described) = self.sink.described(answer) {
            return described_row(name, target, described);
        }
        let refusal = self.refusal(answer);
        // Who may not describe a topic may not write to it and does not see it in the list; a gateway's role may write all
        // the same.
        if let (Some(reason), Sink::KafkaRest(_)) = (&refusal, self.sink) {
            let refused = Outcome::Failed(Exit::Refused);
            let row = Row::of_sentence(name, refused, &reason.to_string());
            return (row, Place::Unknown);
        }
        if self.sink.is_missing(answer) || absent {
            let what = format!("there is no {noun} {target}");
            let row = Row::failed(name, Exit::Configuration, what, self.hint(kind, listed));
            return (row, Place::Missing);
        }
        if in_list == Some(true) {
            let what = format!("{target} is there; the target does not describe it");
            return (Row::ok(name, what), Place::Unknown);
        }
        match refusal {
            Some(reason) => unclear(format!("{target}: {reason}")),
            None => unclear(format!("{target}: HTTP {} does not tell", answer.status)),
        }
    }

    /// What to do about a topic or stream that is not there.
    fn hint(&self, kind: Kind, listed: Option<&Listed>) -> String {
        let target = self.sink.target(kind);
        let (prefix, joint) = target.split_at(target.len() - kind.as_str().len() - 1);
        let joint = &joint[..1];
        let names = listed.map(|listed| &*listed.names).unwrap_or_default();
        let others: Vec<&str> = names
            .iter()
            .filter_map(|name| name.strip_suffix(kind.as_str())?.strip_suffix(joint))
            .take(3)
            .collect();
        let (flag, make) = match self.sink {
            Sink::KafkaRest(_) => (
                "--topic-prefix",
                format!(
                    "kafka-topics.sh --bootstrap-server BROKER:9092 --create --topic {target} (brokers that create topics by themselves make it with the first record)"
                ),
            ),
            Sink::KinesisGateway(_) => {
                let region = match self.url.gateway_region() {
                    Some(region) => format!(
                        "the region of the integration, mostly that of the gateway ({region})"
                    ),
                    None => "the region that the gateway's integration names".to_owned(),
                };
                (
                    "--stream-prefix",
                    format!(
                        "--create does it; one in another region does not count, only {region}"
                    ),
                )
            }
        };
        if others.is_empty() {
            format!("make it: {make}")
        } else {
            format!(
                "there is {}: is {flag} {prefix} right, or should it be {}? To make it: {make}",
                others
                    .iter()
                    .map(|other| format!("{other}{joint}{kind}"))
                    .collect::<Vec<_>>()
                    .join(", "),
                others.join(", ")
            )
        }
    }
}

fn described_row(name: String, target: &str, described: Described) -> (Row, Place) {
    let (status, noun) = match described.status.as_deref() {
        Some(status) => (Some(status), "shard"),
        None => (None, "partition"),
    };
    // While it is being resharded it takes records.
    if let Some(status) = status.filter(|status| !matches!(*status, "ACTIVE" | "UPDATING")) {
        let what = format!("{target} is {status}, and takes no records");
        let cure = "wait until it is ACTIVE, which takes half a minute; --create waits for it";
        return (
            Row::failed(name, Exit::Configuration, what, cure),
            Place::NotReady,
        );
    }
    let status = status
        .map(|status| format!(" {status},"))
        .unwrap_or_default();
    let parts = if described.on_demand {
        "on demand, now ".to_owned()
    } else {
        String::new()
    };
    let more = if described.more { "more than " } else { "" };
    let kept = described
        .retention_hours
        .map(|hours| format!(", kept for {hours} h"));
    let what = format!(
        "{target}:{status} {parts}{more}{}{}",
        count(described.parts, noun),
        kept.unwrap_or_default()
    );
    (Row::ok(name, what), Place::Here(described))
}

pub(in crate::commands::check) fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}
