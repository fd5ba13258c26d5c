//! What is asked for, and by which of the two APIs: from a request to its answer. Knows no socket.

use std::{
    io,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use hyper::{HeaderMap, Method};
use serde_json::value::RawValue;

use super::{
    answer::Answer,
    catalog::Catalog,
    gateway,
    json::one_line,
    kafka::{self, Fate},
    kinesis::{self, Receipt},
    landing::Landing,
    layout::Layout,
    partitioner,
};

#[derive(Debug)]
pub(super) struct Service {
    pub(super) topics: Catalog,
    pub(super) streams: Catalog,
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
        })
    }

    /// Blocks for as long as the operating system takes to copy the records into its cache, which is less than
    /// handing them to another thread would take.
    pub(super) fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Answer {
        let result = match (method.as_str(), Route::of(path)) {
            ("GET", Some(Route::Topics)) => Ok(kafka::topics(&self.topics.names())),
            ("GET", Some(Route::Topic(topic))) => Ok(self.topic(topic)),
            ("POST", Some(Route::Topic(topic))) => self.produce(topic, headers, body),
            ("GET", Some(Route::Streams)) => Ok(kinesis::streams(&self.streams.names())),
            ("GET", Some(Route::Stream(stream))) => Ok(self.stream(stream)),
            ("POST", Some(Route::Stream(stream))) => self.create_stream(stream, headers, body),
            ("DELETE", Some(Route::Stream(stream))) => Ok(self.delete_stream(stream)),
            ("PUT", Some(Route::Record(stream))) => self.put_record(stream, headers, body),
            ("PUT", Some(Route::Records(stream))) => self.put_records(stream, headers, body),
            _ => Err(gateway::missing_authentication_token()),
        };
        result.unwrap_or_else(|refusal| refusal)
    }

    fn topic(&self, topic: &str) -> Answer {
        let partitions = kafka::is_legal(topic).then(|| self.topics.partitions(topic));
        kafka::topic(topic, partitions.flatten())
    }

    fn produce(&self, topic: &str, headers: &HeaderMap, body: &[u8]) -> Result<Answer, Answer> {
        let records = kafka::parse(headers, body)?;
        let log = if kafka::is_legal(topic) {
            self.topics
                .log(topic)
                .ok_or_else(|| kafka::missing_topic(topic))
        } else {
            Err(kafka::illegal_topic(topic))
        };
        let log = match log {
            Ok(log) => log,
            Err(refusal) => {
                let fates: Vec<_> = records
                    .iter()
                    .map(|_| Fate::Refused(refusal.clone()))
                    .collect();
                return Err(kafka::produced(&fates));
            }
        };
        let (partitions, turn) = (log.partitions(), log.turn());
        let mut placed = Vec::with_capacity(records.len());
        let mut refused = Vec::new();
        for (index, record) in records.iter().enumerate() {
            match record.place(topic, partitions, turn) {
                Ok(partition) => placed.push((partition, record)),
                Err(refusal) => refused.push((index, refusal)),
            }
        }
        let offsets = log.land(&placed, Instant::now(), |(_, record), _, line| {
            let value = record.value.map_or("null", RawValue::get);
            line.extend_from_slice(one_line(value).as_bytes());
        });
        let offsets = offsets.map_err(kafka::not_landed)?;
        let landed = placed.iter().zip(offsets);
        let mut fates: Vec<_> = landed
            .map(|(&(partition, _), offset)| Fate::Landed { partition, offset })
            .collect();
        for (index, refusal) in refused {
            fates.insert(index, Fate::Refused(refusal));
        }
        Ok(kafka::produced(&fates))
    }

    fn stream(&self, stream: &str) -> Answer {
        match self
            .streams
            .partitions(stream)
            .filter(|_| kinesis::is_legal(stream))
        {
            Some(shards) => kinesis::stream(stream, shards),
            None => kinesis::stream_not_found(stream),
        }
    }

    fn create_stream(
        &self,
        stream: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Answer, Answer> {
        gateway::check_media_type(headers)?;
        let shards = kinesis::create(stream, body)?;
        if !kinesis::is_legal(stream) {
            return Err(kinesis::stream_not_found(stream));
        }
        match self.streams.create(stream, shards) {
            Ok(true) => Ok(kinesis::done()),
            Ok(false) => Err(kinesis::stream_exists(stream)),
            Err(error) => Err(kinesis::not_landed(&error.to_string())),
        }
    }

    fn delete_stream(&self, stream: &str) -> Answer {
        if kinesis::is_legal(stream) && self.streams.delete(stream) {
            kinesis::done()
        } else {
            kinesis::stream_not_found(stream)
        }
    }

    fn put_record(&self, stream: &str, headers: &HeaderMap, body: &[u8]) -> Result<Answer, Answer> {
        gateway::check_media_type(headers)?;
        let receipts = self.land_in_stream(stream, vec![kinesis::record(stream, body)?])?;
        Ok(kinesis::put_record(&receipts[0]))
    }

    fn put_records(
        &self,
        stream: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Answer, Answer> {
        gateway::check_media_type(headers)?;
        let receipts = self.land_in_stream(stream, kinesis::records(stream, body)?)?;
        Ok(kinesis::put_records(&receipts))
    }

    /// One receipt a record, in order.
    fn land_in_stream(
        &self,
        stream: &str,
        records: Vec<kinesis::Record<'_>>,
    ) -> Result<Vec<Receipt>, Answer> {
        let log = Some(stream)
            .filter(|stream| kinesis::is_legal(stream))
            .and_then(|stream| self.streams.log(stream));
        let log = log.ok_or_else(|| kinesis::stream_not_found(stream))?;
        let shards = log.partitions();
        let placed = records
            .into_iter()
            .map(|record| (partitioner::of_key(&record.key, shards), record));
        let placed: Vec<_> = placed.collect();
        let arrived_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let positions = log.land(
            &placed,
            Instant::now(),
            |(shard, record), position, line| {
                kinesis::land(
                    record,
                    stream,
                    &Receipt {
                        shard: *shard,
                        position,
                    },
                    arrived_ms,
                    line,
                );
            },
        );
        let positions = positions.map_err(|error| kinesis::not_landed(&error.to_string()))?;
        Ok(placed
            .iter()
            .zip(positions)
            .map(|(&(shard, _), position)| Receipt { shard, position })
            .collect())
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
