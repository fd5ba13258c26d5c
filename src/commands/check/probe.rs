//! `--probe`: one marked post, and what its receipts tell of the target.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::Value;

use super::{
    database::time,
    rows::{Outcome, Row},
    target::{Place, Target},
};
use crate::{
    failure::Exit,
    post::{Key, Kind, PerKind, Post, Record},
    sink::{Entry, Request, Sink, Verdict, kinesis_gateway::Endpoint},
};

/// What every text of a probe says.
const MARK: &str = "pinemu check --probe";
/// No row of the seed database has it: its keys begin at 0.
const KEY: Key = Key(-1);

/// Sends one record to each topic or stream and reads the receipts; also whether any was acknowledged. `posts`: what the
/// others look like.
pub(super) async fn send(
    target: &Target<'_>,
    posts: &[Post],
    places: &PerKind<Place>,
) -> (Vec<Row>, bool) {
    let name = |kind: Kind| format!("{kind} probe");
    let Some(template) = posts.first() else {
        let because = "it has the form of your rows, and none could be read";
        let rows = Kind::ALL.map(|kind| Row::untried(name(kind), because));
        return (rows.into(), false);
    };
    let [pin, geo, user] = Kind::ALL.map(|kind| async move {
        let record = template.records[kind].as_ref().and_then(marked);
        match (&places[kind], record) {
            // A proxy may hang for a minute over a topic that is not there.
            (Place::Missing | Place::NotReady, _) => {
                let because = format!("the {} is not ready", target.sink.noun());
                (Row::untried(name(kind), &because), false)
            }
            (_, None) => (Row::untried(name(kind), "a row is no JSON object"), false),
            (_, Some(record)) => send_one(target, kind, record, name(kind)).await,
        }
    });
    let (pin, geo, user) = tokio::join!(pin, geo, user);
    let acknowledged = [&pin, &geo, &user].iter().any(|(_, taken)| *taken);
    let mut rows = vec![pin.0, geo.0, user.0];
    if let Sink::KinesisGateway(sink) = target.sink {
        rows.push(errors_row(target).await);
        rows.push(template_row(sink.endpoint(), acknowledged));
    }
    (rows, acknowledged)
}

/// The row, and whether the record was acknowledged.
async fn send_one(target: &Target<'_>, kind: Kind, record: Record, name: String) -> (Row, bool) {
    let entry = Entry {
        key: KEY,
        record: &record,
    };
    let request = target.sink.request(kind, &[entry]);
    let place = target.sink.target(kind);
    let answer = match target.http.send(&request).await {
        Ok(answer) => answer,
        Err(no_answer) => {
            let cure = "it may have landed all the same; is what stands behind the target running?";
            return (
                Row::failed(
                    name,
                    Exit::Unreachable,
                    format!("{place}: {no_answer}"),
                    cure,
                ),
                false,
            );
        }
    };
    let row = match target.sink.verdicts(1, &answer).pop() {
        Some(Verdict::Acknowledged) => {
            return (
                Row::ok(
                    name,
                    format!("{place} acknowledged a record with key {KEY}"),
                ),
                true,
            );
        }
        Some(Verdict::Stop(exit, reason)) => {
            Row::of_sentence(name, Outcome::Failed(exit), &format!("{place}: {reason}"))
        }
        Some(Verdict::Throttled(reason)) => Row::warning(
            name,
            format!("{place}: {reason}"),
            "the target is busy; a run slows down",
        ),
        Some(Verdict::Retry(reason)) => {
            let cure = "a run would try again; look at what stands behind the target";
            Row::failed(name, Exit::Unreachable, format!("{place}: {reason}"), cure)
        }
        Some(Verdict::Halve(reason) | Verdict::Reject(reason)) => {
            let cure = match target.sink {
                Sink::KinesisGateway(_) if reason.text.starts_with("SerializationException") => {
                    "the mapping template does not fit: it takes $util.base64Encode($input.json('$.Data')) for record, $util.base64Encode($elem.data) for records"
                }
                _ => "a run would set every such record aside",
            };
            Row::failed(name, Exit::SetAside, format!("{place}: {reason}"), cure)
        }
        None => Row::untried(name, "nothing was sent"),
    };
    (row, false)
}

/// How errors come out of the gateway: a record to a stream that is not there tells, and lands nowhere.
async fn errors_row(target: &Target<'_>) -> Row {
    const NAME: &str = "gateway errors";
    let entry = Entry {
        key: KEY,
        record: b"{}",
    };
    let request = target.sink.request(Kind::Pin, &[entry]);
    let path = request.path.replacen(
        target.sink.target(Kind::Pin),
        "pinemu-check-no-such-stream",
        1,
    );
    let nowhere = Request {
        path: path.into(),
        ..request
    };
    let Ok(answer) = target.http.send(&nowhere).await else {
        return Row::warning(
            NAME,
            "cannot tell: no answer for a stream that is not there",
            "see the rows above",
        );
    };
    match answer.status {
        _ if !target.sink.is_missing(&answer) => Row::warning(
            NAME,
            format!(
                "cannot tell: HTTP {} for a stream that is not there, without Kinesis' own words",
                answer.status
            ),
            "pass the body of Kinesis on in the integration response, so that a run can tell errors apart",
        ),
        200..=299 => Row::ok(
            NAME,
            "come with HTTP 200, as AWS's tutorial maps them; pinemu reads the body",
        ),
        status => Row::ok(NAME, format!("come with their own status (HTTP {status})")),
    }
}

fn template_row(endpoint: Endpoint, acknowledged: bool) -> Row {
    const NAME: &str = "mapping template";
    match (endpoint, acknowledged) {
        (_, false) => Row::warning(
            NAME,
            "cannot tell: nothing was acknowledged",
            "see the rows above",
        ),
        // Kinesis takes nothing but base64, and a JSON text between quotes is not even JSON.
        (Endpoint::Record, true) => Row::ok(
            NAME,
            "encodes Data in base64: the object that was sent would not have been taken otherwise",
        ),
        (Endpoint::Records, true) => Row::ok(
            NAME,
            "encodes data in base64; whether it takes objects as well as the strings that pinemu sends, receipts cannot tell",
        ),
    }
}

/// A record of the same form that readers recognise and that adds nothing to sums: every key field is -1, every other
/// number 0, every text the mark; times stay, so that they still can be read as such.
fn marked(record: &Record) -> Option<Record> {
    let mut fields: Fields = serde_json::from_slice(record).ok()?;
    for (name, value) in &mut fields.0 {
        let is_key = ["index", "ind", "idx"]
            .iter()
            .any(|key| name.eq_ignore_ascii_case(key));
        *value = match value.take() {
            Value::Number(_) if is_key => KEY.0.to_string().parse().ok()?,
            Value::Number(_) => 0.into(),
            Value::String(text) if time(&text).is_some() => text.into(),
            Value::String(_) => MARK.into(),
            other => other,
        };
    }
    serde_json::to_vec(&fields).ok().map(Record::from)
}

/// The fields of an object in their order, which a map would lose.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_has_the_form_of_a_row_and_says_what_it_is() {
        let row = r#"{"index":7,"title":"x","follower_count":"12k","downloaded":1,"lat":-89.5,"timestamp":"2018-02-14 00:28:07","none":null}"#;
        let probe = marked(&Record::from_static(row.as_bytes())).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&probe),
            r#"{"index":-1,"title":"pinemu check --probe","follower_count":"pinemu check --probe","downloaded":0,"lat":0,"timestamp":"2018-02-14 00:28:07","none":null}"#
        );
    }
}
