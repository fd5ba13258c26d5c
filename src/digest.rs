//! One number for all that a run posted and when, so that two runs can be compared. Pure.

use std::{fmt, time::Duration};

use sha2::{Digest as _, Sha256};

use crate::post::Post;

/// SHA-256 over the posts that left the pacer, in their order. Of each post four lines, each with a line feed:
///
/// ```text
/// KEY DUE
/// PIN
/// GEO
/// USER
/// ```
/// KEY is a decimal number, DUE whole microseconds from the start of the run, rounded down, or `-` where nothing was due at a
/// time; the others are the records as they are sent, which hold no line feed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Digest {
    hash: Sha256,
    posts: u64,
}

impl Digest {
    pub(crate) fn add(&mut self, post: &Post, due: Option<Duration>) {
        let due = due.map_or_else(|| "-".to_owned(), |due| due.as_micros().to_string());
        self.hash.update(format!("{} {due}\n", post.key));
        for (_, record) in post.records.iter() {
            self.hash.update(record.as_deref().unwrap_or_default());
            self.hash.update(b"\n");
        }
        self.posts += 1;
    }

    pub(crate) fn posts(&self) -> u64 {
        self.posts
    }
}

/// In hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.hash.clone().finalize();
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::post::{Cursor, Key, PerKind};

    fn post(key: i128, pin: &'static str) -> Post {
        let key = Key(key);
        Post {
            key,
            records: PerKind::from([pin, "{\"b\":2}", "{\"c\":3}"].map(|it| Some(Bytes::from(it)))),
            cursor: Cursor::Index { after: key },
        }
    }

    fn digest(posts: &[(Post, Option<u64>)]) -> String {
        let mut digest = Digest::default();
        for (post, micros) in posts {
            digest.add(post, micros.map(Duration::from_micros));
        }
        assert_eq!(digest.posts(), posts.len() as u64);
        digest.to_string()
    }

    #[test]
    fn it_can_be_computed_by_others() {
        // printf '7 1500000\n{"a":1}\n{"b":2}\n{"c":3}\n-8 -\n{"a":1}\n{"b":2}\n{"c":3}\n' | sha256sum
        let posts = [
            (post(7, "{\"a\":1}"), Some(1_500_000)),
            (post(-8, "{\"a\":1}"), None),
        ];
        assert_eq!(
            digest(&posts),
            "7a7e280b361df2600c60eb662ab89f158cb64e168f5a98206b7fc31d975e44a6"
        );
    }

    #[test]
    fn key_payload_due_time_and_order_all_count() {
        let one = (post(1, "{}"), Some(5));
        let other = (post(2, "{}"), Some(6));
        let all = [
            vec![],
            vec![one.clone()],
            vec![one.clone(), other.clone()],
            vec![other.clone(), one.clone()],
            vec![(post(2, "{}"), Some(5))],
            vec![(post(1, "{} "), Some(5))],
            vec![(post(1, "{}"), Some(6))],
            vec![(post(1, "{}"), None)],
        ];
        let digests: std::collections::HashSet<_> = all.iter().map(|posts| digest(posts)).collect();
        assert_eq!(digests.len(), all.len());
    }
}
