//! What is asked for, and by which of the two APIs: from a request to its answer. Knows no socket.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{HeaderMap, Method, StatusCode};

use super::{
    answer::{Answer, Speaker},
    catalog::Catalog,
    fault::{Dice, Plan, Whole},
    gateway::{self, GatewayErrors},
    kafka::{self, Dialect},
    kinesis,
    landing::Landing,
    layout::Layout,
    reply::Extent,
};

/// How long a new stream is in the making; Kinesis takes half a minute.
const IN_THE_MAKING: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Service {
    pub(super) topics: Catalog,
    pub(super) streams: Catalog,
    pub(super) dialect: Dialect,
    gateway: GatewayErrors,
    faults: Option<Plan>,
}

/// A request that has been read.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

/// What a client gets to see.
#[derive(Debug)]
pub(super) enum Outcome {
    Answered(Answer, Extent),
    /// The connection ends.
    Cut,
    /// Nothing, for as long as it waits.
    Silence,
}

/// The resources of both APIs. `None`: a path that leads nowhere.
#[derive(Debug, PartialEq, Eq)]
enum Route<'a> {
    Topics,
    Topic(&'a str),
    Streams,
    Stream(&'a str),
    Record(&'a str),
    Records(&'a str),
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let mut segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        if !matches!(segments[0], "topics" | "streams") {
            // The stage of a gateway, as invoke URLs have it.
            segments.remove(0);
        }
        match *segments.as_slice() {
            ["topics"] => Some(Self::Topics),
            ["topics", topic] => Some(Self::Topic(topic)),
            ["streams"] => Some(Self::Streams),
            ["streams", stream] => Some(Self::Stream(stream)),
            ["streams", stream, "record"] => Some(Self::Record(stream)),
            ["streams", stream, "records"] => Some(Self::Records(stream)),
            _ => None,
        }
    }
}

impl Service {
    pub(super) fn open(
        landing: Landing,
        partitions: u32,
        topics: Option<&[String]>,
        streams: Option<&[String]>,
    ) -> io::Result<Self> {
        let landing = Arc::new(landing);
        Ok(Self {
            topics: Catalog::open(Arc::clone(&landing), Layout::Topics, topics, partitions)?,
            streams: Catalog::open(landing, Layout::Streams, streams, partitions)?,
            dialect: Dialect::Confluent,
            gateway: GatewayErrors::Default200,
            faults: None,
        })
    }

    pub(super) fn speaking(
        self,
        dialect: Dialect,
        gateway: GatewayErrors,
        faults: Option<Plan>,
    ) -> Self {
        Self {
            dialect,
            gateway,
            faults,
            ..self
        }
    }

    /// For the request that arrives now. `None`: nothing goes wrong on purpose.
    pub(super) fn roll(&self, now: Instant) -> Option<Dice> {
        self.faults.as_ref().map(|plan| plan.roll(now))
    }

    /// Answers as [`Self::answer`] does, but for what the dice say.
    pub(super) fn meet(&self, asked: &Asked<'_>, mut dice: Option<Dice>) -> Outcome {
        let Some(dice) = &mut dice else {
            return Outcome::Answered(self.answer(asked, None), Extent::All);
        };
        let mut extent = Extent::All;
        let answer = match dice.whole {
            _ if dice.limited => self.throttled(asked.path),
            None => self.answer(asked, Some(dice)),
            Some(Whole::Status(status)) => self.refused(asked.path, status),
            Some(Whole::Html) => gateway::stranger(),
            Some(Whole::Hang) => return Outcome::Silence,
            Some(Whole::Drop) => {
                self.answer(asked, Some(dice));
                return Outcome::Cut;
            }
            Some(Whole::Truncate) => {
                extent = Extent::Half;
                self.answer(asked, Some(dice))
            }
            Some(Whole::Empty) => {
                let Answer { speaker, .. } = self.answer(asked, Some(dice));
                Answer::new(speaker, StatusCode::OK, Vec::new())
            }
        };
        Outcome::Answered(answer, extent)
    }

    fn refused(&self, path: &str, status: StatusCode) -> Answer {
        match Route::of(path) {
            Some(Route::Topics | Route::Topic(_)) => self.dialect.refused(status),
            _ => gateway::refused(status),
        }
    }

    fn throttled(&self, path: &str) -> Answer {
        let by_proxy = match Route::of(path) {
            Some(Route::Topics | Route::Topic(_)) => self.dialect.throttled(),
            _ => None,
        };
        by_proxy.unwrap_or_else(gateway::throttled)
    }

    /// Blocks for as long as the operating system takes to copy the records into its cache, which is less than
    /// handing them to another thread would take.
    fn answer(&self, asked: &Asked<'_>, dice: Option<&mut Dice>) -> Answer {
        let result = match (asked.method.as_str(), Route::of(asked.path)) {
            ("GET", Some(Route::Topics)) => Ok(kafka::topics(&self.topics.names())),
            ("GET", Some(Route::Topic(topic))) => Ok(self.topic(topic)),
            ("POST", Some(Route::Topic(topic))) => self.produce(topic, asked, dice),
            ("GET", Some(Route::Streams)) => Ok(kinesis::streams(&self.streams.names())),
            ("GET", Some(Route::Stream(stream))) => Ok(self.stream(stream)),
            ("POST", Some(Route::Stream(stream))) => self.create_stream(stream, asked),
            ("DELETE", Some(Route::Stream(stream))) => Ok(self.delete_stream(stream)),
            ("PUT", Some(Route::Record(stream))) => self.put_record(stream, asked, dice),
            ("PUT", Some(Route::Records(stream))) => self.put_records(stream, asked, dice),
            _ => Err(gateway::missing_authentication_token()),
        };
        let mut answer = result.unwrap_or_else(|refusal| refusal);
        if answer.speaker == Speaker::Kinesis && self.gateway == GatewayErrors::Default200 {
            answer.status = StatusCode::OK;
        }
        answer
    }

    fn topic(&self, topic: &str) -> Answer {
        let known = kafka::is_legal(topic).then(|| self.topics.known(topic, Instant::now()));
        let partitions = known.flatten().map(|known| known.partitions);
        kafka::topic(self.dialect, topic, partitions)
    }

    fn stream(&self, stream: &str) -> Answer {
        match self
            .streams
            .known(stream, Instant::now())
            .filter(|_| kinesis::is_legal(stream))
        {
            Some(known) => kinesis::stream(stream, known),
            None => kinesis::stream_not_found(stream),
        }
    }

    fn create_stream(&self, stream: &str, asked: &Asked<'_>) -> Result<Answer, Answer> {
        gateway::check_media_type(asked.headers)?;
        let shards = kinesis::create(stream, asked.body)?;
        if !kinesis::is_legal(stream) {
            return Err(kinesis::stream_not_found(stream));
        }
        match self
            .streams
            .create(stream, shards, Instant::now() + IN_THE_MAKING)
        {
            Ok(true) => Ok(kinesis::done()),
            Ok(false) => Err(kinesis::stream_exists(stream)),
            Err(error) => Err(kinesis::not_landed(&error.to_string())),
        }
    }

    fn delete_stream(&self, stream: &str) -> Answer {
        if kinesis::is_legal(stream) && self.streams.delete(stream, Instant::now()) {
            kinesis::done()
        } else {
            kinesis::stream_not_found(stream)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_have_a_stage_and_a_slash_at_its_end() {
        assert_eq!(Route::of("/topics/x.pin"), Some(Route::Topic("x.pin")));
        assert_eq!(
            Route::of("/Pinetrest/topics/x.pin/"),
            Some(Route::Topic("x.pin"))
        );
        assert_eq!(
            Route::of("/dev/streams/x-pin/record"),
            Some(Route::Record("x-pin"))
        );
        assert_eq!(
            Route::of("/streams/x-pin/records"),
            Some(Route::Records("x-pin"))
        );
        assert_eq!(Route::of("/topics/"), Some(Route::Topics));
        assert_eq!(Route::of("/streams"), Some(Route::Streams));
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in [
            "/",
            "",
            "/a/b/topics/x",
            "/topics/x/y",
            "/streams/x/record/y",
            "/dev",
            "/records",
        ] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}
