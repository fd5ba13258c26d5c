//! Why a record is not taken, in the words and codes of each proxy. Pure.

use crate::receiver::fault::Passing;

/// Why one record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::receiver) enum Refusal {
    /// A proxy finds out after a minute of asking for the topic, once for every record.
    TopicMissing,
    TopicIllegal,
    PartitionMissing {
        partitions: u32,
    },
    /// For the proxy's producer.
    TooLarge {
        size: usize,
    },
    /// For the broker: what a record is told that is refused on purpose.
    Rejected,
    Failed(Passing),
}

/// `max.request.size` of a producer that nobody configured.
pub(super) const MAX_RECORD: usize = 1_048_576;

const REJECTED: &str =
    "The request included a message larger than the max message size the server will accept.";
const NOT_LEADER: &str = "For requests intended only for the leader, this error indicates that the broker is not the \
     current leader. For requests intended for any replica, this error indicates that the broker is not a replica of \
     the topic partition.";

impl Refusal {
    pub(super) fn confluent_code(self) -> u32 {
        match self {
            Self::TopicIllegal | Self::TooLarge { .. } | Self::Rejected => 50002,
            Self::TopicMissing | Self::PartitionMissing { .. } | Self::Failed(_) => 50003,
        }
    }

    /// The bridge tells only a missing topic or partition from everything else, so what is refused for good looks like
    /// what passes.
    pub(super) fn strimzi_code(self) -> u32 {
        match self {
            Self::TopicMissing | Self::PartitionMissing { .. } => 404,
            _ => 500,
        }
    }

    /// What Kafka's Java client says, which Confluent's proxy and Strimzi's bridge pass on.
    pub(super) fn java_message(self, topic: &str, partition: i32) -> String {
        match self {
            Self::TopicMissing => format!("Topic {topic} not present in metadata after 60000 ms."),
            Self::TopicIllegal => format!("Invalid topics: [{topic}]"),
            Self::PartitionMissing { partitions } => format!(
                "Partition {partition} of topic {topic} with partition count {partitions} \
                 is not present in metadata after 60000 ms."
            ),
            Self::TooLarge { size } => format!(
                "The message is {size} bytes when serialized which is larger than {MAX_RECORD}, \
                 which is the value of the max.request.size configuration."
            ),
            Self::Rejected => REJECTED.to_owned(),
            Self::Failed(Passing::Elsewhere) => NOT_LEADER.to_owned(),
            Self::Failed(Passing::Late) => format!(
                "Expiring 1 record(s) for {topic}-{partition}:120001 ms has passed since batch creation"
            ),
        }
    }

    /// Code and text. A timeout is coded like what is refused for good: only the text tells them apart.
    pub(super) fn karapace(self, topic: &str) -> (u32, String) {
        let (code, message) = match self {
            Self::TopicMissing | Self::TopicIllegal => {
                return (1, format!("Topic {topic} not found"));
            }
            Self::PartitionMissing { .. } => (1, "Unrecognized partition"),
            Self::TooLarge { .. } | Self::Rejected => (
                1,
                "The server has a configurable maximum message size to avoid unbounded memory allocation. \
                 This error is thrown if the client attempt to produce a message larger than this maximum.",
            ),
            Self::Failed(Passing::Elsewhere) => (
                2,
                "This error is thrown if the client attempts to send messages to a replica that is not the leader \
                 for some partition. It indicates that the clients metadata is out of date.",
            ),
            Self::Failed(Passing::Late) => (1, "timed out waiting to publish message"),
        };
        (code, message.to_owned())
    }

    /// Kafka's own code, as Redpanda passes it on.
    pub(super) fn kafka_code(self) -> u32 {
        match self {
            Self::TopicMissing | Self::PartitionMissing { .. } => 3,
            Self::TopicIllegal => 17,
            Self::TooLarge { .. } | Self::Rejected => 10,
            Self::Failed(Passing::Elsewhere) => 6,
            Self::Failed(Passing::Late) => 7,
        }
    }
}
