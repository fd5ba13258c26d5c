//! How records are taken: each lands or is refused, and its result stands where it stood in the request.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    answer::Answer,
    fault::Dice,
    gateway,
    json::one_line,
    kafka::{self, Dialect, Fate},
    kinesis::{self, Receipt},
    partitioner,
    service::{Asked, Service},
};

/// Where a record is to go, and why it does not get there if it does not.
type Placed = (i32, Option<kafka::Refusal>);

impl Service {
    pub(super) fn produce(
        &self,
        topic: &str,
        asked: &Asked<'_>,
        dice: Option<&mut Dice>,
    ) -> Result<Answer, Answer> {
        let dialect = self.dialect;
        let records = kafka::parse(dialect, asked.headers, asked.body)?;
        let refusal = if kafka::is_legal(topic) {
            kafka::Refusal::TopicMissing
        } else {
            kafka::Refusal::TopicIllegal
        };
        let log = Some(topic)
            .filter(|topic| kafka::is_legal(topic))
            .and_then(|topic| self.topics.log(topic, Instant::now()))
            .ok_or_else(|| kafka::no_topic(dialect, topic, refusal, records.len()))?;
        let (partitions, turn) = (log.partitions(), log.turn());
        let mut placed: Vec<Placed> = records
            .iter()
            .map(|record| record.place(partitions, turn))
            .collect();
        if let Some(dice) = dice {
            spoil(dialect, &records, &mut placed, dice);
        }
        if dialect == Dialect::Redpanda {
            share_refusals(&mut placed);
        }
        let landing: Vec<_> = placed
            .iter()
            .zip(&records)
            .filter(|((_, refusal), _)| refusal.is_none())
            .map(|(&(partition, _), record)| (partition.cast_unsigned(), record))
            .collect();
        let offsets = log.land(&landing, Instant::now(), |(_, record), _, line| {
            line.extend_from_slice(one_line(record.value()).as_bytes());
        });
        let offsets = offsets.map_err(|error| kafka::not_landed(dialect, error))?;
        let mut landed = landing.iter().zip(offsets);
        let fates: Vec<_> = placed
            .iter()
            .filter_map(|&(partition, refusal)| match refusal {
                Some(refusal) => Some(Fate::Refused { partition, refusal }),
                None => landed
                    .next()
                    .map(|(&(partition, _), offset)| Fate::Landed { partition, offset }),
            })
            .collect();
        Ok(kafka::produced(dialect, topic, &fates))
    }

    pub(super) fn put_record(
        &self,
        stream: &str,
        asked: &Asked<'_>,
        dice: Option<&mut Dice>,
    ) -> Result<Answer, Answer> {
        gateway::check_media_type(asked.headers)?;
        let record = kinesis::record(stream, asked.body)?;
        let results = self.land_in_stream(stream, vec![record], dice)?;
        Ok(kinesis::put_record(stream, &results[0]))
    }

    pub(super) fn put_records(
        &self,
        stream: &str,
        asked: &Asked<'_>,
        dice: Option<&mut Dice>,
    ) -> Result<Answer, Answer> {
        gateway::check_media_type(asked.headers)?;
        let records = kinesis::records(stream, asked.body)?;
        let results = self.land_in_stream(stream, records, dice)?;
        Ok(kinesis::put_records(stream, &results))
    }

    /// One result a record, in order.
    fn land_in_stream(
        &self,
        stream: &str,
        records: Vec<kinesis::Record<'_>>,
        dice: Option<&mut Dice>,
    ) -> Result<Vec<Result<Receipt, kinesis::Refusal>>, Answer> {
        let log = Some(stream)
            .filter(|stream| kinesis::is_legal(stream))
            .and_then(|stream| self.streams.log(stream, Instant::now()));
        let log = log.ok_or_else(|| kinesis::stream_not_found(stream))?;
        let shards = log.partitions();
        let mut placed: Vec<_> = records
            .into_iter()
            .map(|record| (partitioner::of_key(&record.key, shards), record))
            .collect();
        let mut refused = Vec::new();
        if let Some(dice) = dice {
            let mut index = 0;
            placed.retain(|(shard, record)| {
                let refusal = refusal(*shard, record, dice);
                refused.extend(refusal.map(|refusal| (index, refusal)));
                index += 1;
                refusal.is_none()
            });
        }
        let arrived_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let positions = log.land(
            &placed,
            Instant::now(),
            |(shard, record), position, line| {
                let shard = *shard;
                let receipt = Receipt { shard, position };
                kinesis::land(record, stream, &receipt, arrived_ms, line);
            },
        );
        let positions = positions.map_err(|error| kinesis::not_landed(&error.to_string()))?;
        let receipts = placed.iter().zip(positions);
        let mut results: Vec<_> = receipts
            .map(|(&(shard, _), position)| Ok(Receipt { shard, position }))
            .collect();
        for (index, refusal) in refused {
            results.insert(index, Err(refusal));
        }
        Ok(results)
    }
}

/// Refuses what the dice say. Where an entry of the answer stands for a partition, they are rolled for the partition.
fn spoil(dialect: Dialect, records: &[kafka::Record<'_>], placed: &mut [Placed], dice: &mut Dice) {
    let mut rolled = BTreeMap::new();
    for ((partition, refusal), record) in placed.iter_mut().zip(records) {
        let failed = match dialect {
            Dialect::Redpanda => *rolled.entry(*partition).or_insert_with(|| dice.fails()),
            _ => dice.fails(),
        };
        if refusal.is_none() {
            *refusal = if dice.rejects(record.value()) {
                Some(kafka::Refusal::Rejected)
            } else {
                failed.map(kafka::Refusal::Failed)
            };
        }
    }
}

/// Records that go to the same partition go as one batch, which is taken or refused as one.
fn share_refusals(placed: &mut [Placed]) {
    let mut refused = BTreeMap::new();
    for &(partition, refusal) in placed.iter() {
        if let Some(refusal) = refusal {
            // What is refused for good decides: it does not pass, whatever else does.
            let gravest = refused.entry(partition).or_insert(refusal);
            if matches!(gravest, kafka::Refusal::Failed(_)) {
                *gravest = refusal;
            }
        }
    }
    for (partition, refusal) in placed {
        *refusal = refused.get(partition).copied();
    }
}

fn refusal(shard: u32, record: &kinesis::Record<'_>, dice: &mut Dice) -> Option<kinesis::Refusal> {
    let failed = dice.fails();
    if dice.rejects(&record.data) {
        return Some(kinesis::Refusal::Rejected);
    }
    failed.map(|how| kinesis::Refusal::Failed { shard, how })
}
