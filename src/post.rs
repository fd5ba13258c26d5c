//! The domain: what a post is. No I/O, no target, no database.

use std::{
    fmt,
    ops::{Index, IndexMut},
    str::FromStr,
};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::wall_time::WallTime;

/// What a row tells of a post: the pin itself, where and when, or who.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Pin,
    Geo,
    User,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Pin, Self::Geo, Self::User];

    /// The word in topic and stream names, in summaries and in files.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Geo => "geo",
            Self::User => "user",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One value for each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PerKind<T>([T; 3]);

impl<T> PerKind<T> {
    pub(crate) fn new(make: impl FnMut(Kind) -> T) -> Self {
        Self(Kind::ALL.map(make))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Kind, &T)> {
        Kind::ALL.into_iter().zip(&self.0)
    }

    pub(crate) fn each_mut(&mut self) -> [&mut T; 3] {
        self.0.each_mut()
    }

    pub(crate) fn into_array(self) -> [T; 3] {
        self.0
    }
}

/// In the order of [`Kind::ALL`].
impl<T> From<[T; 3]> for PerKind<T> {
    fn from(values: [T; 3]) -> Self {
        Self(values)
    }
}

impl<T> Index<Kind> for PerKind<T> {
    type Output = T;

    fn index(&self, kind: Kind) -> &T {
        &self.0[kind as usize]
    }
}

impl<T> IndexMut<Kind> for PerKind<T> {
    fn index_mut(&mut self, kind: Kind) -> &mut T {
        &mut self.0[kind as usize]
    }
}

/// The key that makes three rows one post: any integer that `BIGINT` or `BIGINT UNSIGNED` can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i128")]
pub(crate) struct Key(pub(crate) i128);

impl Key {
    pub(crate) const MIN: Self = Self(i64::MIN as i128);
    pub(crate) const MAX: Self = Self(u64::MAX as i128);
}

/// The error is a sentence about the number.
impl TryFrom<i128> for Key {
    type Error = String;

    fn try_from(number: i128) -> Result<Self, String> {
        if (Self::MIN.0..=Self::MAX.0).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!(
                "{number} is not a key: no BIGINT column can hold it"
            ))
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An end of the range that is posted: a key or, in the order of time, a recorded time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Key(Key),
    Time(WallTime),
}

impl Bound {
    pub(crate) fn key(self) -> Option<Key> {
        match self {
            Self::Key(key) => Some(key),
            Self::Time(_) => None,
        }
    }

    pub(crate) fn time(self) -> Option<WallTime> {
        match self {
            Self::Time(time) => Some(time),
            Self::Key(_) => None,
        }
    }
}

/// The error is a sentence about the text.
impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(number) = text.parse::<i128>() {
            // No key lies beyond, so the range stays the same.
            return Ok(Self::Key(Key(number.clamp(Key::MIN.0, Key::MAX.0))));
        }
        let time: WallTime = text.parse().map_err(|error| {
            format!("it is a key, a whole number, or with --order time a time; {error}")
        })?;
        Ok(Self::Time(time.normal()))
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Time(time) => time.fmt(f),
        }
    }
}

/// A number or a string.
impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Key(key) => key.serialize(serializer),
            Self::Time(time) => time.serialize(serializer),
        }
    }
}

// By hand, since what serde derives for either of two forms cannot hold integers of 128 bits.
impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl de::Visitor<'_> for Either {
            type Value = Bound;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key or a time")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Bound, E> {
                Ok(Bound::Key(Key(number.into())))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Bound, E> {
                Ok(Bound::Key(Key(number.into())))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bound, E> {
                text.parse().map(Bound::Time).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A row as the JSON object that is posted, a part of a buffer that its page shares.
pub(crate) type Record = Bytes;

/// Three rows with the same key.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) key: Key,
    /// All three, but for a post of which only a part is to be sent again.
    pub(crate) records: PerKind<Option<Record>>,
    /// Where the reading stands behind this post.
    pub(crate) cursor: Cursor,
}

/// A place in the order of the posts: all before it are settled.
// Tagged from the outside, since serde loses integers of 128 bits in all other forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cursor {
    /// By key, behind this one.
    Index { after: Key },
    /// In shuffled order, at position `next` of a pass over the keys from `low` to `high`.
    Random {
        pass: u64,
        low: Key,
        high: Key,
        next: u128,
    },
    /// By recorded time and key, behind these. Without a time: behind this key among the posts that have none, which
    /// follow all others.
    Time { after: Option<WallTime>, key: Key },
}

impl Cursor {
    /// The word for the order that it belongs to.
    pub(crate) fn order(&self) -> &'static str {
        match self {
            Self::Index { .. } => "index",
            Self::Random { .. } => "random",
            Self::Time { .. } => "time",
        }
    }

    /// The recorded time of the post that stands before it, where posts are read by time and it has one.
    pub(crate) fn recorded(&self) -> Option<WallTime> {
        match self {
            Self::Time { after, .. } => *after,
            Self::Index { .. } | Self::Random { .. } => None,
        }
    }
}
