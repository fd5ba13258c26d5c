//! A machine's share of a run that many do together. Pure.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::post::Key;

/// With more, index order would make the database step over a thousand rows for each that is read.
const MOST: u32 = 1000;

/// Share `number` of `of`, counted from 1: the posts with `key mod of = number - 1`. Shares are disjoint and complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Shard {
    number: u32,
    of: u32,
}

impl Shard {
    /// Of a run on one machine.
    pub(crate) const WHOLE: Self = Self { number: 1, of: 1 };

    pub(crate) fn number(self) -> u32 {
        self.number
    }

    pub(crate) fn of(self) -> u32 {
        self.of
    }

    /// What its keys leave when divided by `of`; never negative.
    pub(crate) fn remainder(self) -> u32 {
        self.number - 1
    }

    /// Its lowest and highest key between two keys, ends included; none if it has none there.
    pub(crate) fn within(self, low: Key, high: Key) -> Option<(Key, Key)> {
        let (of, remainder) = (i128::from(self.of), i128::from(self.remainder()));
        let low = low.0 + (remainder - low.0).rem_euclid(of);
        let high = high.0 - (high.0 - remainder).rem_euclid(of);
        (low <= high).then_some((Key(low), Key(high)))
    }

    /// Its part of so many posts; the first shards take the rest.
    pub(crate) fn part_of(self, posts: u64) -> u64 {
        let rest = posts % u64::from(self.of);
        posts / u64::from(self.of) + u64::from(u64::from(self.remainder()) < rest)
    }

    /// A stream of random numbers of its own, for what the whole run has in stream `purpose`.
    pub(crate) fn stream(self, purpose: u8) -> u64 {
        u64::from(self.remainder()) << u8::BITS | u64::from(purpose)
    }
}

impl FromStr for Shard {
    type Err = String;

    /// `I/N`.
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text
            .split_once('/')
            .and_then(|(number, of)| Some((number.parse::<u128>().ok()?, of.parse().ok()?)));
        let Some((number, of)) = numbers else {
            return Err("a shard is written I/N, such as 1/4 for the first of four".to_owned());
        };
        if of == 0 {
            return Err("there is at least one shard: 1/1 is the whole run".to_owned());
        }
        if of > u128::from(MOST) {
            return Err(format!("there are at most {MOST} shards"));
        }
        if !(1..=of).contains(&number) {
            return Err(format!("the {of} shards are 1/{of} to {of}/{of}"));
        }
        match (u32::try_from(number), u32::try_from(of)) {
            (Ok(number), Ok(of)) => Ok(Self { number, of }),
            _ => Err(format!("there are at most {MOST} shards")),
        }
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

/// As it is given: `1/4`.
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn shards(of: u32) -> impl Iterator<Item = Shard> {
        (1..=of).map(move |number| Shard { number, of })
    }

    #[test]
    fn a_shard_is_read_as_it_is_written() {
        for text in ["1/1", "1/4", "4/4", "1000/1000"] {
            assert_eq!(text.parse::<Shard>().unwrap().to_string(), text);
        }
        for (text, cure) in [
            ("0/4", "1/4 to 4/4"),
            ("5/4", "1/4 to 4/4"),
            ("18446744073709551617/4", "1/4 to 4/4"),
            ("1/0", "1/1"),
            ("0/0", "1/1"),
            ("1/1001", "at most 1000"),
            ("1/18446744073709551616", "at most 1000"),
            ("1", "I/N"),
            ("", "I/N"),
            ("1/", "I/N"),
            ("/4", "I/N"),
            ("-1/4", "I/N"),
            ("1/4/4", "I/N"),
            ("1 of 4", "I/N"),
        ] {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(error.contains(cure), "{text}: {error}");
        }
    }

    #[test]
    fn every_key_belongs_to_one_shard() {
        let places = [Key::MIN.0, -8, -1, 0, 1, i128::from(i64::MAX), Key::MAX.0];
        for of in [1, 2, 3, 7, 1000] {
            for key in places.into_iter().map(Key) {
                let holders = shards(of).filter(|it| it.within(key, key).is_some());
                let numbers: Vec<_> = holders.map(|it| i128::from(it.number()) - 1).collect();
                assert_eq!(numbers, [key.0.rem_euclid(i128::from(of))]);
            }
        }
    }

    #[test]
    fn the_keys_of_a_shard_begin_and_end_inside_the_range() {
        let all = |number, low, high| Shard { number, of: 4 }.within(Key(low), Key(high));
        assert_eq!(all(1, -5, 5), Some((Key(-4), Key(4))));
        assert_eq!(all(4, -5, 5), Some((Key(-5), Key(3))));
        assert_eq!(all(3, -1, 1), None);
        assert_eq!(
            all(1, Key::MIN.0, Key::MAX.0),
            Some((Key::MIN, Key(Key::MAX.0 - 3)))
        );
    }

    #[test]
    fn the_parts_add_up_and_the_first_shards_take_the_rest() {
        let parts = |posts| shards(4).map(|it| it.part_of(posts)).collect::<Vec<_>>();
        assert_eq!(parts(1000), [250; 4]);
        assert_eq!(parts(1002), [251, 251, 250, 250]);
        assert_eq!(parts(3), [1, 1, 1, 0]);
        assert_eq!(
            parts(u64::MAX)
                .iter()
                .copied()
                .map(u128::from)
                .sum::<u128>(),
            u64::MAX.into()
        );
    }
}
