//! Posts in random order: a computed permutation of the key range says which key is next, and the rows of many keys are
//! looked up at a time. Keys of the range that no row has are skipped.

mod ahead;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::mpsc;
use tracing::{info, warn};

use self::ahead::Ahead;
use super::{Chunk, Oddities, Options, Reader, Table, lock};
use crate::{
    failure::Failure,
    permutation::Permutation,
    post::{Cursor, Key, Kind, PerKind, Post, Record},
    shard::Shard,
};

/// Keys that are looked up at a time. MariaDB turns a list of 1,000 into a table of its own, which costs more.
pub(super) const WINDOW: usize = 900;
/// The first look-up is small, so that the first post goes out soon.
const FIRST_WINDOW: usize = 100;
/// So many look-ups in a row that find nothing are worth a word: a single key far away from the others makes a run look idle.
const EMPTY_WINDOWS: u32 = 100;

/// Sends posts in passes over the range, for ever; ends when nobody takes them, or when a pass finds none.
pub(super) async fn read(
    mut readers: PerKind<Reader>,
    options: &Options,
    random_seed: u64,
    oddities: &Arc<Mutex<Oddities>>,
    chunks: &mpsc::Sender<Result<Chunk, Failure>>,
) -> Result<(), Failure> {
    for (_, reader) in readers.iter() {
        advise(&reader.table, "random order");
    }
    let mut empty = 0;
    let (mut pass, mut resumed) = match options.after {
        Some(Cursor::Random {
            pass,
            low,
            high,
            next,
        }) => (pass, Some((low, high, next))),
        _ => (0, None),
    };
    loop {
        // What is left of a pass may hold no post although the next one does.
        let mut posted = resumed.is_some();
        let (low, high, mut position) = match resumed.take() {
            Some(place) => place,
            None => match bounds(&mut readers, options).await? {
                Some((low, high)) => (low, high, 0),
                None => return count_keyless(&mut readers, options.shard, pass).await,
            },
        };
        let walk = Pass::new(pass, low, high, options.shard, random_seed);
        let mut window = first_window(options.count);
        // What a later pass meets has been counted in the first.
        let counted = (pass == 0).then_some(oddities);
        let mut ahead = Ahead::start(readers, counted);
        loop {
            while ahead.has_room() && position < walk.order.len() {
                let places = walk.window(position, window);
                position += places.len() as u128;
                window = WINDOW;
                ahead.look_up(places).await;
            }
            let Some(posts) = ahead.next().await else {
                break;
            };
            let posts = posts?;
            posted |= !posts.is_empty();
            empty = if posts.is_empty() { empty + 1 } else { 0 };
            if empty == EMPTY_WINDOWS {
                warn!(
                    "Few of the keys from {low} to {high} have rows, so random order looks up many for each post; --from and --to narrow the range, --order index reads only what is there."
                );
            }
            if !posts.is_empty() && chunks.send(Ok(posts)).await.is_err() {
                return Ok(());
            }
        }
        readers = ahead.end().await?;
        count_keyless(&mut readers, options.shard, pass).await?;
        if !posted {
            return Ok(());
        }
        pass += 1;
    }
}

/// Says what makes look-ups by key slow, where something does. `order`: what needs them.
pub(super) fn advise(table: &Table, order: &str) {
    let (name, key) = (&table.name, table.key_name());
    if table.access.view {
        info!(
            "{name} is a view: {order} is fast only where the table behind it has an index on {key}."
        );
    } else if !table.access.indexed {
        warn!(
            "The table {name} has no index on its key, so {order} scans it for every {WINDOW} posts. This makes one: {}",
            table.create_index()
        );
    }
}

/// Keys of the first look-up, for a run of so many posts.
pub(super) fn first_window(count: Option<u64>) -> usize {
    count.map_or(FIRST_WINDOW, |count| {
        usize::try_from(count)
            .unwrap_or(WINDOW)
            .clamp(1, FIRST_WINDOW)
    })
}

/// Keys as SQL.
pub(super) fn list(keys: impl Iterator<Item = Key>) -> String {
    keys.map(|key| key.to_string())
        .collect::<Vec<_>>()
        .join(",")
}

/// A pass: every key of a shard between two keys stands at one position, whether it has rows or not.
struct Pass {
    number: u64,
    /// The lowest and the highest key, which are the shard's.
    low: Key,
    high: Key,
    /// From a key of the shard to its next.
    step: u32,
    order: Permutation,
}

impl Pass {
    fn new(number: u64, low: Key, high: Key, shard: Shard, random_seed: u64) -> Self {
        let step = shard.of();
        let keys = (high.0 - low.0).unsigned_abs() / u128::from(step) + 1;
        Self {
            number,
            low,
            high,
            step,
            order: Permutation::new(keys, random_seed, shard, number),
        }
    }

    /// The keys at up to so many positions, each with the place behind it.
    fn window(&self, position: u128, most: usize) -> Vec<(Key, Cursor)> {
        let end = self.order.len().min(position + most as u128);
        let place = |position| {
            // At most the width of the range, so the sum is a key again.
            let offset = self.order.at(position) * u128::from(self.step);
            let cursor = Cursor::Random {
                pass: self.number,
                low: self.low,
                high: self.high,
                next: position + 1,
            };
            (Key(self.low.0.wrapping_add_unsigned(offset)), cursor)
        };
        (position..end).map(place).collect()
    }
}

/// Once: what a later pass meets has been counted in the first.
async fn count_keyless(
    readers: &mut PerKind<Reader>,
    shard: Shard,
    pass: u64,
) -> Result<(), Failure> {
    for kind in Kind::ALL.into_iter().filter(|_| pass == 0) {
        readers[kind].count_keyless(shard).await?;
    }
    Ok(())
}

/// The lowest and the highest key of the shard within those of all three tables together.
async fn bounds(
    readers: &mut PerKind<Reader>,
    options: &Options,
) -> Result<Option<(Key, Key)>, Failure> {
    let mut range: Option<(Key, Key)> = None;
    for kind in Kind::ALL {
        if let Some((low, high)) = readers[kind].bounds(options).await? {
            range = Some(range.map_or((low, high), |(lowest, highest)| {
                (lowest.min(low), highest.max(high))
            }));
        }
    }
    Ok(range.and_then(|(low, high)| options.shard.within(low, high)))
}

/// The posts at `places`, in their order.
pub(super) async fn look_up(
    readers: &mut PerKind<Reader>,
    places: &[(Key, Cursor)],
    oddities: Option<&Arc<Mutex<Oddities>>>,
) -> Result<Chunk, Failure> {
    let list = list(places.iter().map(|(key, _)| *key));
    let [pin, geo, user] = readers
        .each_mut()
        .map(|reader| find(reader, &list, oddities));
    let (pin, geo, user) = tokio::try_join!(pin, geo, user)?;
    Ok(join(places, [pin, geo, user], oddities))
}

/// Makes posts of what was found, in the order of `places`.
fn join(
    places: &[(Key, Cursor)],
    [mut pin, mut geo, mut user]: [Found; 3],
    oddities: Option<&Arc<Mutex<Oddities>>>,
) -> Chunk {
    let mut posts = Vec::with_capacity(places.len());
    for (key, cursor) in places {
        match (pin.remove(key), geo.remove(key), user.remove(key)) {
            (Some(pin), Some(geo), Some(user)) => {
                posts.push(Post {
                    key: *key,
                    records: PerKind::from([Some(pin), Some(geo), Some(user)]),
                    cursor: *cursor,
                });
            }
            (None, None, None) => {}
            _ => {
                if let Some(oddities) = oddities {
                    lock(oddities).incomplete.add(*key);
                }
            }
        }
    }
    posts
}

/// The first row of each key that has one.
type Found = HashMap<Key, Record>;

/// The rows of the keys in `list`, the first of each.
pub(super) async fn find(
    reader: &mut Reader,
    list: &str,
    oddities: Option<&Arc<Mutex<Oddities>>>,
) -> Result<Found, Failure> {
    let key = reader.table.key_name();
    let rows = reader
        .rows(&format!(
            "{} WHERE {key} IN ({list})",
            reader.table.select()
        ))
        .await?;
    let mut repeated = rows.repeated().to_vec();
    let mut records = HashMap::with_capacity(rows.len());
    for (key, record) in rows.into_records() {
        // Rows of one key need not stand together here.
        if let std::collections::hash_map::Entry::Vacant(vacant) = records.entry(key) {
            vacant.insert(record);
        } else {
            repeated.push(key);
        }
    }
    if let Some(oddities) = oddities
        && !repeated.is_empty()
    {
        let tally = &mut lock(oddities).repeated[reader.table.kind];
        for key in repeated {
            tally.add(key);
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command};

    use bytes::Bytes;

    use super::*;
    use crate::{shard::tests::shards, summary::peak_rss_bytes, telemetry::print};

    /// The keys of a pass, in its order.
    fn keys(low: i128, high: i128, shard: Shard) -> impl Iterator<Item = Key> {
        let (low, high) = shard.within(Key(low), Key(high)).unwrap();
        let pass = Pass::new(0, low, high, shard, 100);
        let mut position = 0;
        std::iter::from_fn(move || {
            let window = pass.window(position, WINDOW);
            position += window.len() as u128;
            (!window.is_empty()).then_some(window)
        })
        .flatten()
        .map(|(key, _)| key)
    }

    #[test]
    fn a_pass_over_a_million_keys_has_each_key_once_whole_and_in_eight_shards() {
        const LOW: i128 = -400_003;
        for of in [1, 8] {
            let mut times = vec![0_u8; 1_000_000];
            let end = LOW + times.len() as i128 - 1;
            for shard in shards(of) {
                for key in keys(LOW, end, shard) {
                    let remainder = key.0.rem_euclid(i128::from(of));
                    assert_eq!(remainder, i128::from(shard.remainder()), "{key}");
                    times[usize::try_from(key.0 - LOW).unwrap()] += 1;
                }
            }
            assert!(times.iter().all(|times| *times == 1));
        }
    }

    #[test]
    fn the_widest_range_of_keys_fits_in_every_shard() {
        for of in [1, 2, 7, 1000] {
            for shard in shards(of).take(8) {
                let (low, high) = shard.within(Key::MIN, Key::MAX).unwrap();
                let pass = Pass::new(0, low, high, shard, 7);
                let last = pass.window(pass.order.len() - 1, WINDOW);
                assert_eq!(last.len(), 1);
                for (key, _) in pass.window(0, WINDOW).into_iter().chain(last) {
                    assert!(key >= low && key <= high);
                    assert_eq!(shard.within(key, key), Some((key, key)));
                }
            }
        }
    }

    /// Set for a process that walks through a pass: how many keys it has and how many of them to visit.
    const WALK: &str = "PINEMU_TEST_WALK";

    /// Goes through a pass as a run does, with look-ups that find a row for every key, and tells its memory.
    fn walk(text: &str) {
        let (keys, visits) = text.split_once(' ').unwrap();
        let (keys, visits): (i128, u128) = (keys.parse().unwrap(), visits.parse().unwrap());
        let pass = Pass::new(0, Key(0), Key(keys - 1), Shard::WHOLE, 100);
        let mut position = 0;
        let record = Bytes::from_static(b"{}");
        while position < visits {
            let places = pass.window(position, WINDOW);
            position += places.len() as u128;
            let post = |(key, cursor)| Post {
                key,
                records: PerKind::new(|_| Some(record.clone())),
                cursor,
            };
            let chunk: Chunk = places.into_iter().map(post).collect();
            assert!(!chunk.is_empty());
        }
        print(&format!("peak {} bytes\n", peak_rss_bytes().unwrap()));
    }

    /// The peak of a process of its own that does nothing but walk, since this one does much else.
    fn peak(name: &str, keys: u32, visits: u32) -> u64 {
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--include-ignored", "--nocapture"])
            .arg(format!("source::shuffled::tests::{name}"))
            .env(WALK, format!("{keys} {visits}"))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        let peak = text.lines().find_map(|line| {
            let (_, peak) = line.split_once("peak ")?;
            peak.strip_suffix(" bytes")?.parse().ok()
        });
        peak.unwrap_or_else(|| panic!("{text}"))
    }

    const TEN_MEBIBYTES: u64 = 10 << 20;

    /// Only the first million positions of the large pass; the test below goes through all of it.
    #[test]
    fn memory_grows_neither_with_the_keys_of_a_pass_nor_with_those_visited() {
        const NAME: &str = "memory_grows_neither_with_the_keys_of_a_pass_nor_with_those_visited";
        if let Ok(text) = env::var(WALK) {
            return walk(&text);
        }
        let few = peak(NAME, 1_000_000, 10_000);
        let visited = peak(NAME, 1_000_000, 1_000_000);
        let many = peak(NAME, 100_000_000, 1_000_000);
        assert!(visited < few + TEN_MEBIBYTES, "{visited} {few}");
        assert!(many < visited + TEN_MEBIBYTES, "{many} {visited}");
    }

    #[test]
    #[ignore = "takes minutes"]
    fn a_pass_over_a_hundred_million_keys_takes_the_memory_of_one_over_a_million() {
        const NAME: &str =
            "a_pass_over_a_hundred_million_keys_takes_the_memory_of_one_over_a_million";
        if let Ok(text) = env::var(WALK) {
            return walk(&text);
        }
        let small = peak(NAME, 1_000_000, 1_000_000);
        let large = peak(NAME, 100_000_000, 100_000_000);
        assert!(large < small + TEN_MEBIBYTES, "{large} {small}");
    }
}
