//! The target: from its name to its topics or streams. Asks with GET only.

mod place;
mod unreached;

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use tokio::time::timeout;

use super::{
    network::{known, look_up, shown},
    rows::{Outcome, Row},
};
use crate::{
    failure::Exit,
    http::{Hop, Http, InvokeUrl, NoAnswer},
    post::{Kind, PerKind},
    sink::{Answer, Described, Listed, Reason, Request, Sink, Verdict},
};

/// How long an answer to a question is waited for: a gateway over a slow line needs a second.
const PATIENCE: Duration = Duration::from_secs(5);
const PERMISSION: &str = "permission";
/// Clocks that are further apart than this are told.
const CLOCKS_APART: Duration = Duration::from_mins(1);

pub(super) use self::place::count;

/// A target and how it is asked.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) sink: &'a Sink,
    pub(super) http: &'a Http,
    pub(super) url: &'a InvokeUrl,
    /// Whether requests carry credentials.
    pub(super) credentials: bool,
}

/// What is known of a topic or stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Place {
    Here(Described),
    /// A stream that is being made or unmade.
    NotReady,
    Missing,
    #[default]
    Unknown,
}

/// What is known of the target.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) rows: Vec<Row>,
    pub(super) places: PerKind<Place>,
    /// Whether anything answers.
    pub(super) reached: bool,
}

type Asked = Result<Answer, NoAnswer>;

/// All answers, and the clock that they can be compared with.
struct Answers {
    list: Asked,
    places: PerKind<Asked>,
    now: SystemTime,
}

impl Answers {
    fn of_places(&self) -> impl Iterator<Item = &Answer> {
        self.places
            .iter()
            .filter_map(|(_, asked)| asked.as_ref().ok())
    }

    fn whole(&self) -> impl Iterator<Item = &Answer> {
        self.of_places().chain(self.list.as_ref().ok())
    }
}

impl Target<'_> {
    pub(super) async fn look(&self) -> Found {
        let hop = self.url.first_hop();
        let (addresses, answers) = tokio::join!(look_up(&hop.host, hop.port), self.ask());
        let no_answer = match &answers.places[Kind::Pin] {
            Err(no_answer) if answers.whole().next().is_none() => no_answer,
            _ => return self.judge(&hop, addresses, &answers),
        };
        let mut rows = self.diagnosis(&hop, addresses, no_answer).await;
        let because = "there is no answer";
        rows.push(Row::untried(PERMISSION, because));
        rows.extend(Kind::ALL.map(|kind| Row::untried(self.place_name(kind), because)));
        rows.push(Row::untried("clock", because));
        Found {
            rows,
            ..Found::default()
        }
    }

    pub(super) fn place_name(&self, kind: Kind) -> String {
        format!("{kind} {}", self.sink.noun())
    }

    async fn ask(&self) -> Answers {
        let ask = async |request: Request| match timeout(PATIENCE, self.http.send(&request)).await {
            Ok(asked) => asked,
            Err(_) => Err(NoAnswer {
                text: format!("no answer within {}", shown(PATIENCE)),
                ..NoAnswer::default()
            }),
        };
        let [pin, geo, user] = Kind::ALL.map(|kind| ask(self.sink.existence(kind)));
        let list = ask(self.sink.listing());
        let (pin, geo, user, list) = tokio::join!(pin, geo, user, list);
        Answers {
            list,
            places: PerKind::from([pin, geo, user]),
            now: SystemTime::now(),
        }
    }

    fn judge(
        &self,
        hop: &Hop,
        addresses: Result<Vec<SocketAddr>, String>,
        answers: &Answers,
    ) -> Found {
        let mut rows = Vec::new();
        // The answers prove it, whatever was heard of the name.
        rows.push(match addresses {
            Ok(addresses) => known("target name", &hop.host, &addresses),
            Err(_) => Row::ok("target name", format!("{} is known", hop.host)),
        });
        let through = if hop.is_proxy {
            ", the proxy that the variables name"
        } else {
            ""
        };
        rows.push(Row::ok(
            "target connection",
            format!("{hop} takes connections{through}"),
        ));
        if self.url.is_tls() {
            rows.push(Row::ok("target TLS", "the certificate is good"));
        }
        let listed = answers
            .list
            .as_ref()
            .ok()
            .and_then(|answer| self.sink.listed(answer));
        let permission = self.permission(answers);
        let api = if permission.is_failed() {
            Row::untried("target API", "it does not let us in")
        } else {
            self.api(answers, listed.as_ref())
        };
        let talks = api.outcome == Outcome::Ok;
        rows.extend([api, permission]);
        let mut places = PerKind::<Place>::default();
        for kind in Kind::ALL {
            let row = if talks {
                let (row, place) = self.place(kind, &answers.places[kind], listed.as_ref());
                places[kind] = place;
                row
            } else {
                Row::untried(
                    self.place_name(kind),
                    "the API does not answer as it should",
                )
            };
            rows.push(row);
        }
        rows.push(clock(answers));
        Found {
            rows,
            places,
            reached: true,
        }
    }

    /// What the answer would mean to a run, if it is a refusal.
    fn stop(&self, answer: &Answer) -> Option<(Exit, Reason)> {
        match self.sink.verdicts(1, answer).pop() {
            Some(Verdict::Stop(exit, reason)) => Some((exit, reason)),
            _ => None,
        }
    }

    fn refusal(&self, answer: &Answer) -> Option<Reason> {
        let (exit, reason) = self.stop(answer)?;
        (exit == Exit::Refused).then_some(reason)
    }

    /// Failed only if nothing is let through: what single topics or streams refuse stands in their rows.
    fn permission(&self, answers: &Answers) -> Row {
        const NAME: &str = PERMISSION;
        let mut refusals = answers.whole().map(|answer| self.refusal(answer));
        let first = refusals.next().flatten();
        let Some(reason) = first.filter(|_| refusals.all(|refusal| refusal.is_some())) else {
            return Row::ok(
                NAME,
                if self.credentials {
                    "let in with the credentials given"
                } else {
                    "let in without credentials"
                },
            );
        };
        let no_stage = !self.url.has_path();
        let by_path = reason.text.starts_with("Missing Authentication Token");
        if by_path && no_stage {
            let cure = format!(
                "--invoke-url names no stage: put it behind the host, as in {}/Prod (the console shows it as invoke URL of the stage)",
                self.url
            );
            let what = format!(
                "HTTP {}: Missing Authentication Token",
                reason.status.unwrap_or_default()
            );
            return Row::failed(NAME, Exit::Refused, what, cure);
        }
        let sentence = reason.to_string();
        let mut row = Row::of_sentence(NAME, Outcome::Failed(Exit::Refused), &sentence);
        let more = match self.sink {
            _ if by_path => {
                let unasked = match self.sink {
                    Sink::KafkaRest(_) => "",
                    Sink::KinesisGateway(_) => {
                        "; an API without GET methods is checked with --probe"
                    }
                };
                format!(
                    "; check the stage, and that the API is deployed to it; a method with authorization AWS_IAM wants signatures, which pinemu does not make: set it to NONE or require an API key{unasked}"
                )
            }
            _ if reason.text.starts_with("Forbidden")
                && no_stage
                && self.url.gateway_region().is_some() =>
            {
                "; or is the stage missing from --invoke-url?".to_owned()
            }
            _ => String::new(),
        };
        row.cure = Some(row.cure.unwrap_or_default() + &more)
            .map(|cure| cure.trim_start_matches("; ").to_owned())
            .filter(|cure| !cure.is_empty());
        row
    }

    /// Whether what answers is what pinemu speaks to.
    fn api(&self, answers: &Answers, listed: Option<&Listed>) -> Row {
        const NAME: &str = "target API";
        let path = self.sink.listing().path;
        if let Some(listed) = listed {
            let more = if listed.more { "more than " } else { "" };
            let what = format!(
                "GET {path} lists {more}{}",
                count(listed.names.len(), self.sink.noun())
            );
            return Row::ok(NAME, what);
        }
        // A wrong path is answered with 404 as well, but then the list is not found either.
        let list_is_missing =
            matches!(&answers.list, Ok(answer) if matches!(answer.status, 404 | 405));
        let knows = |answer: &Answer| {
            self.sink.described(answer).is_some()
                || (self.sink.is_missing(answer) && !list_is_missing)
        };
        if answers.of_places().any(knows) {
            let noun = self.sink.noun();
            return Row::ok(NAME, format!("answers for its {noun}s; does not list them"));
        }
        let Some(answer) = answers
            .list
            .as_ref()
            .ok()
            .or_else(|| answers.of_places().next())
        else {
            return Row::untried(NAME, "there is no answer");
        };
        self.odd_api(answer)
    }

    fn odd_api(&self, answer: &Answer) -> Row {
        const NAME: &str = "target API";
        let (reason, exit) = match self.sink.verdicts(1, answer).pop() {
            Some(Verdict::Stop(exit, reason)) => {
                return Row::of_sentence(NAME, Outcome::Failed(exit), &reason.to_string());
            }
            Some(Verdict::Throttled(reason)) => {
                return Row::warning(
                    NAME,
                    reason.to_string(),
                    "the target is busy; ask again in a while",
                );
            }
            Some(Verdict::Retry(reason)) if answer.status >= 500 => (reason, Exit::Unreachable),
            Some(Verdict::Retry(reason) | Verdict::Halve(reason) | Verdict::Reject(reason)) => {
                (reason, Exit::Configuration)
            }
            Some(Verdict::Acknowledged) | None => {
                return Row::warning(
                    NAME,
                    "the answer fits no question",
                    "is --invoke-url right?",
                );
            }
        };
        let cure = match (exit, self.sink) {
            (Exit::Unreachable, Sink::KafkaRest(_)) if answer.error_type.is_some() => {
                "the gateway gets no answer from the REST proxy behind it: is that running, and does the endpoint URL of the integration begin with http:// (not https://) and hold the host's present name?"
            }
            (Exit::Unreachable, Sink::KafkaRest(_)) => "is Kafka running behind the REST proxy?",
            (Exit::Unreachable, Sink::KinesisGateway(_)) => {
                "look at the integration in the console: its role, its region, its mapping template"
            }
            (_, Sink::KafkaRest(_)) => {
                "is --invoke-url the address of a Kafka REST proxy, or of the gateway in front of it?"
            }
            (_, Sink::KinesisGateway(_)) => {
                "is --invoke-url the stage of a gateway that maps Kinesis?"
            }
        };
        Row::failed(NAME, exit, reason.to_string(), cure)
    }
}

/// An API may have methods for records and none for questions: what it takes outdoes what it refuses.
pub(super) fn let_in_after_all(row: &mut Row) {
    if row.name == PERMISSION && row.is_failed() {
        let what = format!(
            "records are taken, but questions (GET) are refused: {}",
            row.what
        );
        let cure = "a run can go on; GET methods would let a check see what is there";
        *row = Row::warning(PERMISSION, what, cure);
    }
}

fn clock(answers: &Answers) -> Row {
    const NAME: &str = "clock";
    let Some(date) = answers.whole().find_map(|answer| answer.date) else {
        return Row::ok(NAME, "the target does not tell its time");
    };
    let (apart, word) = match date.duration_since(answers.now) {
        Ok(ahead) => (ahead, "behind"),
        Err(error) => (error.duration(), "ahead of"),
    };
    if apart <= CLOCKS_APART {
        return Row::ok(NAME, "agrees with the target's to a minute");
    }
    let apart = shown(Duration::from_secs(apart.as_secs()));
    Row::warning(
        NAME,
        format!("the clock of this machine is {apart} {word} the target's"),
        "set one of them (timedatectl set-ntp true); certificates, signatures and times of arrival depend on it",
    )
}
