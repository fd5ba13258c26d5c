//! Posts in the order of their recorded times: the rows of where and when are read by time, the others are looked up by
//! key. Then the three tables are gone through by key: for the posts without a time, which come last, and for keys that
//! have no row of where and when and have not been met before.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Chunk, Oddities, Options, Order, Place, Reader, Row, RowError, Walk, in_order::Scan, lock,
    shuffled, time_column,
};
use crate::{
    failure::Failure,
    post::{Cursor, Key, Kind, PerKind, Post, Record},
    wall_time::WallTime,
};

type Chunks = mpsc::Sender<Result<Chunk, Failure>>;

/// Sends every post of the range, once. Ends early when nobody takes them.
pub(super) async fn read(
    mut readers: PerKind<Reader>,
    options: &Options,
    oddities: &Arc<Mutex<Oddities>>,
    chunks: &Chunks,
) -> Result<(), Failure> {
    let geo = &readers[Kind::Geo].table;
    if let Some(column) = &geo.time {
        time_column::advise(geo, column);
    }
    let looked_up = |kind: &Kind| *kind != Kind::Geo || !geo.access.unique;
    for kind in Kind::ALL.into_iter().filter(looked_up) {
        shuffled::advise(&readers[kind].table, "order by time");
    }
    let (after, rest_after) = match options.after {
        Some(Cursor::Time { after: None, key }) => (None, Some(Place::of_key(key))),
        Some(Cursor::Time { after, key }) => (Some(Place { time: after, key }), None),
        _ => (None, None),
    };
    if rest_after.is_none() && !timed(&mut readers, after, options, oddities, chunks).await? {
        return Ok(());
    }
    rest(&mut readers, rest_after, options, oddities, chunks).await
}

/// The posts that have a time. Whether somebody still takes posts.
async fn timed(
    readers: &mut PerKind<Reader>,
    after: Option<Place>,
    options: &Options,
    oddities: &Arc<Mutex<Oddities>>,
    chunks: &Chunks,
) -> Result<bool, Failure> {
    // Ends the scan with this function, however it ends.
    let mut tasks = JoinSet::new();
    let (sender, mut pages) = mpsc::channel(1);
    let geo = &readers[Kind::Geo];
    let scan = geo.like(Arc::clone(&geo.table));
    tasks.spawn(scan.scan(Walk::ByTime, after, options.clone(), sender));
    let mut window = shuffled::first_window(options.count);
    while let Some(page) = pages.recv().await {
        let mut rows = page?.into_placed();
        loop {
            let places: Vec<_> = rows.by_ref().take(window).collect();
            if places.is_empty() {
                break;
            }
            window = shuffled::WINDOW;
            let posts = join(readers, places, oddities).await?;
            if !posts.is_empty() && chunks.send(Ok(posts)).await.is_err() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The posts whose rows of where and when are at `places`: the other two rows are looked up.
async fn join(
    readers: &mut PerKind<Reader>,
    mut places: Vec<(Place, Record)>,
    oddities: &Arc<Mutex<Oddities>>,
) -> Result<Chunk, Failure> {
    let firsts = Firsts::of(
        &mut readers[Kind::Geo],
        places.iter().map(|(place, _)| place.key),
    )
    .await?;
    places.retain(|(place, _)| firsts.hold(*place));
    firsts.count_others(places.iter().map(|(place, _)| place.key), oddities);
    let list = shuffled::list(places.iter().map(|(place, _)| place.key));
    let [pin, _, user] = readers.each_mut();
    let pin = shuffled::find(pin, &list, Some(oddities));
    let user = shuffled::find(user, &list, Some(oddities));
    let (mut pin, mut user) = tokio::try_join!(pin, user)?;
    let mut posts = Vec::with_capacity(places.len());
    for (Place { time, key }, geo) in places {
        if let (Some(pin), Some(user)) = (pin.remove(&key), user.remove(&key)) {
            posts.push(Post {
                key,
                records: PerKind::from([Some(pin), Some(geo), Some(user)]),
                cursor: Cursor::Time { after: time, key },
            });
        } else {
            lock(oddities).incomplete.add(key);
        }
    }
    Ok(posts)
}

/// The posts that have no time, by key; and what else is to be known of the keys that have not been met.
async fn rest(
    readers: &mut PerKind<Reader>,
    after: Option<Place>,
    options: &Options,
    oddities: &Arc<Mutex<Oddities>>,
    chunks: &Chunks,
) -> Result<(), Failure> {
    // Posts without a time are in no range, and neither are those without a row that could hold one.
    let bounded = matches!(options.order, Order::Time(range) if range.is_bounded());
    let mut tasks = JoinSet::new();
    let mut tables: Vec<Scan> = Kind::ALL
        .into_iter()
        .filter(|kind| *kind == Kind::Geo || !bounded)
        .map(|kind| {
            let reader = &readers[kind];
            let lean = reader.like(Arc::new(reader.table.lean()));
            Scan::start(lean, after, options, &mut tasks)
        })
        .collect();
    // Rows that repeat a key are counted where the key is looked up.
    let scratch = Mutex::default();
    let mut untimed = Vec::new();
    loop {
        for table in &mut tables {
            table.advance(&scratch).await?;
        }
        let key = tables.iter().filter_map(Scan::key).min();
        if untimed.len() == shuffled::WINDOW || key.is_none() {
            let posts = look_up(readers, std::mem::take(&mut untimed), bounded, oddities).await?;
            if !posts.is_empty() && chunks.send(Ok(posts)).await.is_err() {
                return Ok(());
            }
        }
        let Some(key) = key else {
            return Ok(());
        };
        let mut geo = None;
        for table in &mut tables {
            let row = table.take(key);
            if table.kind == Kind::Geo {
                geo = row;
            }
        }
        match geo {
            None => lock(oddities).incomplete.add(key),
            Some((Place { time: None, .. }, _)) => untimed.push(key),
            Some(_) => {}
        }
    }
}

/// The posts with these keys, none of which is known to have a time.
async fn look_up(
    readers: &mut PerKind<Reader>,
    mut keys: Vec<Key>,
    bounded: bool,
    oddities: &Arc<Mutex<Oddities>>,
) -> Result<Chunk, Failure> {
    let firsts = Firsts::of(&mut readers[Kind::Geo], keys.iter().copied()).await?;
    keys.retain(|key| firsts.hold(Place::of_key(*key)));
    {
        let tally = &mut lock(oddities).untimed;
        for key in &keys {
            tally.add(*key);
        }
    }
    if bounded || keys.is_empty() {
        return Ok(Vec::new());
    }
    let place = |key| (key, Cursor::Time { after: None, key });
    let places: Vec<_> = keys.into_iter().map(place).collect();
    shuffled::look_up(readers, &places, Some(oddities)).await
}

/// Which of several rows of where and when is the first of its key, where keys may repeat.
struct Firsts(Option<HashMap<Key, First>>);

#[derive(Default)]
struct First {
    time: Option<WallTime>,
    rows: u64,
}

impl Firsts {
    async fn of(geo: &mut Reader, keys: impl Iterator<Item = Key>) -> Result<Self, Failure> {
        let list = shuffled::list(keys);
        if geo.table.access.unique || list.is_empty() {
            return Ok(Self(None));
        }
        let lean = geo.table.lean();
        let Some(column) = &lean.time else {
            return Ok(Self(None));
        };
        let sql = format!("{} WHERE {} IN ({list})", lean.select(), lean.key_name());
        let add = |firsts: &mut HashMap<Key, First>, row: &Row| -> Result<(), RowError> {
            let time = row.time(column.column)?;
            let in_range =
                !column.range.is_bounded() || time.is_none_or(|time| column.range.contains(time));
            if let Some(key) = row.key(lean.key)?.filter(|_| in_range) {
                let first = firsts.entry(key).or_default();
                first.rows += 1;
                first.time = first.time.into_iter().chain(time).min();
            }
            Ok(())
        };
        geo.fold(&sql, HashMap::new, add)
            .await
            .map(|firsts| Self(Some(firsts)))
    }

    /// Whether the row at this place is the first of its key.
    fn hold(&self, place: Place) -> bool {
        let Some(firsts) = &self.0 else {
            return true;
        };
        let first = firsts.get(&place.key);
        first.is_some_and(|first| first.time == place.time)
    }

    /// Counts the other rows of keys that are posted.
    fn count_others(&self, keys: impl Iterator<Item = Key>, oddities: &Mutex<Oddities>) {
        let Some(firsts) = &self.0 else {
            return;
        };
        for key in keys {
            let others = firsts.get(&key).map_or(0, |first| first.rows - 1);
            (0..others).for_each(|_| lock(oddities).repeated[Kind::Geo].add(key));
        }
    }
}
