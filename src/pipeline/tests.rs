//! Whole runs against a scripted target, on a paused clock and with real files.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::Path,
};

use proptest::prelude::*;
use tokio::{
    spawn,
    sync::mpsc,
    time::{sleep, timeout},
};

use super::*;
use crate::{
    delivery::target::{
        Api, Move, Name, Target, What,
        Word::{Forbidden, Later, Never, Yes},
        apis, in_flights, moves, paused, post, words,
    },
    limiter::InFlight,
    pace::{Arrivals, Rate, Rated},
    post::{Cursor, Key, Kind},
    progress::When,
    shard::Shard,
    source::Chunk,
    state::checkpoint::Checkpoint,
};

/// Far longer than any run here may take.
const STALLED: Duration = Duration::from_hours(1000);
const ENVELOPE: usize = 100;

#[derive(Debug, Clone)]
struct Plan {
    api: Api,
    in_flight: InFlight,
    retry_for: Duration,
    /// How long the source waits before each chunk, and the padding of its posts.
    chunks: Vec<(Duration, Vec<usize>)>,
    source_fails: bool,
    rate: Rate,
    arrivals: Arrivals,
    /// Posts of earlier runs, after which keys and pauses go on.
    before: u64,
    count: Option<u64>,
    duration: Option<Duration>,
    batch: BatchLimits,
    /// That the user asks for.
    requests: Option<u16>,
    max_undelivered: Option<u64>,
    grace: Duration,
    stop: Option<Duration>,
    moves: Vec<Move>,
    after: Move,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            api: Api::Kafka,
            in_flight: InFlight::Auto { first: 4, most: 16 },
            retry_for: Duration::from_mins(5),
            chunks: Vec::new(),
            source_fails: false,
            rate: Rate::Max,
            arrivals: Arrivals::Constant,
            before: 0,
            count: None,
            duration: None,
            batch: BatchLimits {
                posts: 5,
                bytes: usize::MAX,
                linger: Duration::ZERO,
            },
            requests: None,
            max_undelivered: None,
            grace: Duration::from_secs(10),
            stop: None,
            moves: Vec::new(),
            after: Move::all(Yes),
        }
    }
}

impl Plan {
    /// So many posts at once.
    fn of(posts: usize) -> Self {
        Self {
            chunks: vec![(Duration::ZERO, vec![0; posts])],
            ..Self::default()
        }
    }

    fn posts(&self) -> i128 {
        self.chunks.iter().flat_map(|it| &it.1).map(|_| 1).sum()
    }

    fn options(&self) -> Options {
        Options {
            count: self.count,
            duration: self.duration,
            batch: if self.api == Api::Record {
                BatchLimits {
                    posts: 1,
                    ..self.batch
                }
            } else {
                self.batch
            },
            in_flight: self.requests,
            max_undelivered: self.max_undelivered,
            grace: self.grace,
            digest: false,
        }
    }
}

prop_compose! {
    fn sources()(
        chunks in prop::collection::vec((0..2000_u64, prop::collection::vec(0..100_usize, 1..30)), 0..5),
        fails in prop::bool::weighted(0.1),
    ) -> (Vec<(Duration, Vec<usize>)>, bool) {
        let millis = |(pause, posts)| (Duration::from_millis(pause), posts);
        (chunks.into_iter().map(millis).collect(), fails)
    }
}

prop_compose! {
    fn batches()(posts in 1..12_usize, bytes in prop_oneof![Just(usize::MAX), 30..1000_usize], linger in 0..500_u64) -> BatchLimits {
        BatchLimits { posts, bytes, linger: Duration::from_millis(linger) }
    }
}

prop_compose! {
    fn scripts()(words in words())(
        moves in prop::collection::vec(moves(words.clone()), 0..60),
        after in prop_oneof![3 => Just(Move::all(Yes)), 1 => moves(words)],
    ) -> (Vec<Move>, Move) {
        (moves, after)
    }
}

prop_compose! {
    fn plans()(
        (api, in_flight, retry_for) in (apis(), in_flights(), prop::sample::select(vec![0_u64, 20, 60])),
        (chunks, source_fails) in sources(),
        (moves, after) in scripts(),
        rate in prop_oneof![Just(Rate::Max), (0.5..200.0).prop_map(Rate::PerSecond)],
        count in prop::option::weighted(0.3, 1..80_u64),
        duration in prop::option::weighted(0.2, 1..60_000_u64),
        batch in batches(),
        requests in prop::option::weighted(0.2, Just(1)),
        max_undelivered in prop::option::weighted(0.2, 1..10_u64),
        (grace, stop) in (0..20_000_u64, prop::option::weighted(0.4, 0..60_000_u64)),
    ) -> Plan {
        let millis = Duration::from_millis;
        Plan {
            api, in_flight, retry_for: Duration::from_secs(retry_for), chunks, source_fails, rate, count,
            duration: duration.map(millis), batch, requests, max_undelivered, grace: millis(grace),
            stop: stop.map(millis), moves, after, arrivals: Arrivals::Constant, before: 0,
        }
    }
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        version: Checkpoint::VERSION,
        command: "batch".to_owned(),
        prefix: "p".to_owned(),
        invoke_url: "http://target".to_owned(),
        database: "d".to_owned(),
        order: "index".to_owned(),
        from: None,
        to: None,
        random_seed: 1,
        shard: None,
        posts: 0,
        position: Cursor::Index { after: Key(0) },
    }
}

/// The key of the last post that the checkpoint passes, and how many those are.
fn place(dir: &Path) -> (i128, u64) {
    match Checkpoint::load(dir).unwrap() {
        None => (0, 0),
        Some(Checkpoint {
            position: Cursor::Index { after },
            posts,
            ..
        }) => (after.0, posts),
        Some(other) => panic!("{other:?}"),
    }
}

/// Each record that is set aside, as it stands in the file, and how often.
fn set_aside(dir: &Path) -> BTreeMap<Name, (undelivered::Outcome, usize)> {
    let path = dir.join("undelivered.jsonl");
    let mut all = BTreeMap::new();
    if path.is_file() {
        for line in undelivered::read(&path).unwrap() {
            let line = line.unwrap();
            let name = (line.kind as usize, line.index.0);
            all.entry(name).or_insert((line.outcome, 0)).1 += 1;
        }
    }
    all
}

/// Whether the checkpoint on the disk passes only what was delivered or is written down, and never goes back.
fn watch_the_disk(dir: &Path) -> impl FnMut(&HashSet<Name>) -> Option<String> + Send + use<> {
    let dir = dir.to_owned();
    let mut last = 0;
    move |acknowledged| {
        let (after, posts) = place(&dir);
        let aside = set_aside(&dir);
        let before = std::mem::replace(&mut last, after);
        if after < before || i128::from(posts) != after {
            return Some(format!(
                "the place is {after}, {posts} posts, after {before}"
            ));
        }
        (1..=after)
            .flat_map(|key| [0, 1, 2].map(|kind| (kind, key)))
            .find(|name| !acknowledged.contains(name) && !aside.contains_key(name))
            .map(|name| format!("{name:?} is passed and nowhere"))
    }
}

/// Posts have the keys 1, 2 and so on, but for those of earlier runs.
async fn feed(plan: Plan, chunks: mpsc::Sender<Result<Chunk, Failure>>) {
    let mut keys = i128::from(plan.before) + 1..;
    for (pause, posts) in plan.chunks {
        sleep(pause).await;
        let chunk = posts
            .iter()
            .zip(&mut keys)
            .map(|(padding, key)| post(key, 7, *padding))
            .collect();
        if chunks.send(Ok(chunk)).await.is_err() {
            return;
        }
    }
    if plan.source_fails {
        let failure = Failure::new(Exit::Data, "a row is no post");
        let _ = chunks.send(Err(failure)).await;
    }
}

async fn run_plan(plan: &Plan, target: &Target, dir: &Path) -> (Ended, Result<(), Failure>) {
    let delivery = target.delivery(plan.in_flight, plan.retry_for);
    let (sender, mut posts) = Posts::channel();
    spawn(feed(plan.clone(), sender));
    let stop = CancellationToken::new();
    if let Some(after) = plan.stop {
        let stop = stop.clone();
        spawn(async move {
            sleep(after).await;
            stop.cancel();
        });
    }
    let schedule = Schedule::Rated(Rated::new(
        plan.rate,
        plan.arrivals,
        1,
        Shard::WHOLE,
        plan.before,
    ));
    let mut ledger = Ledger::of_run(dir.to_owned(), checkpoint()).unwrap();
    let progress = Progress::new(When::Never, None);
    let options = plan.options();
    let running = run(
        &mut posts,
        schedule,
        &options,
        &delivery,
        &mut ledger,
        &stop,
        &progress,
    );
    let ended = timeout(STALLED, running).await.expect("it stalls");
    if let Some(duration) = plan.duration {
        // The clock of the runtime has ticks of a millisecond.
        let end = Instant::now() - ended.elapsed + duration + Duration::from_millis(2);
        let mut state = target.state();
        let mut begun = HashMap::new();
        for (name, seen) in &state.seen {
            let begun = begun.entry(name.1).or_insert(seen.first);
            *begun = seen.first.min(*begun);
        }
        begun.retain(|_, begun| *begun > end);
        if !begun.is_empty() {
            state.wrong.push(format!("begun too late: {begun:?}"));
        }
    }
    (ended, ledger.close().await)
}

/// What must be true of every run.
fn check(plan: &Plan, target: &Target, ended: &Ended, dir: &Path) -> Result<(), TestCaseError> {
    let state = target.state();
    prop_assert!(state.wrong.is_empty(), "{:?}", state.wrong);
    let books = &ended.books;
    for counts in [books.posts]
        .iter()
        .chain(books.records.iter().map(|it| it.1))
    {
        prop_assert_eq!(
            counts.read,
            counts.delivered + counts.rejected + counts.unproven
        );
        prop_assert_eq!(counts.read, books.posts.read);
    }
    let read = i128::from(books.posts.read);
    prop_assert_eq!(place(dir), (read, books.posts.read));

    // What the books say of each record is what the target and the file say.
    let aside = set_aside(dir);
    for (name, (outcome, times)) in &aside {
        prop_assert_eq!(*times, 1, "{:?}", name);
        prop_assert!(
            (1..=read).contains(&name.1),
            "{:?} is not in the books",
            name
        );
        let rejected = state.rejected.contains(name);
        prop_assert_eq!(*outcome == undelivered::Outcome::Rejected, rejected);
    }
    for kind in Kind::ALL {
        let count = |outcome| {
            let all = aside.iter().filter(|(name, _)| name.0 == kind as usize);
            all.filter(|(_, (it, _))| *it == outcome).count() as u64
        };
        let delivered = (1..=read)
            .filter(|key| state.acknowledged.contains(&(kind as usize, *key)))
            .count() as u64;
        let counts = books.records[kind];
        prop_assert_eq!(counts.delivered, delivered);
        prop_assert_eq!(counts.rejected, count(undelivered::Outcome::Rejected));
        prop_assert_eq!(counts.unproven, count(undelivered::Outcome::Unproven));
    }

    // What left the pacer is in the books or returned, and nothing else was sent.
    let handed_over = read + i128::from(ended.returned);
    let left_the_pacer = ended.lateness.as_ref().map(|it| i128::from(it.len()));
    prop_assert!(left_the_pacer.is_none_or(|left| left == handed_over));
    prop_assert!(state.seen.keys().all(|name| name.1 <= handed_over));
    prop_assert!(handed_over <= plan.posts());
    prop_assert!(
        plan.count
            .is_none_or(|count| handed_over <= i128::from(count))
    );
    if !ended.stopped {
        prop_assert!(ended.failure.is_none());
        if plan.duration.is_none() {
            prop_assert_eq!(ended.returned, 0);
            let all = plan.posts();
            let all = plan.count.map_or(all, |count| all.min(count.into()));
            prop_assert_eq!(read, all);
        }
    }
    if let (Rate::PerSecond(rate), Some(duration)) = (plan.rate, plan.duration) {
        // The first is due at once; the rest is what rounding may do.
        let due = 1.0 + (duration.as_secs_f64() * rate + 1e-6).floor();
        let taken = f64::from(u32::try_from(handed_over).unwrap());
        prop_assert!(taken <= due, "{} of {}", taken, due);
    }
    let most = plan.max_undelivered.unwrap_or(u64::MAX);
    prop_assert!(books.undelivered() < most || ended.failure.is_some());

    // Requests: small enough, in order at first, and the first of the run with one post.
    let limits = plan.options().batch;
    let mut firsts: [Vec<i128>; 3] = Default::default();
    let mut seen = HashSet::new();
    for got in &state.got {
        prop_assert!(got.keys.len() <= limits.posts);
        let small = got.bytes <= limits.bytes.saturating_add(ENVELOPE);
        prop_assert!(small || got.keys.len() == 1, "{:?}", got);
        prop_assert!(got.keys.is_sorted());
        prop_assert!(got.keys[0] != 1 || got.keys.len() == 1, "{:?}", got);
        if plan.requests == Some(1) {
            let new = got.keys.iter().filter(|key| seen.insert((got.kind, **key)));
            firsts[got.kind].extend(new);
        }
    }
    prop_assert!(firsts.iter().all(|keys| keys.is_sorted()), "{:?}", firsts);
    Ok(())
}

proptest! {
    #[test]
    fn the_books_balance_and_nothing_read_is_lost_however_a_run_goes(plan in plans()) {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::new(plan.api, plan.moves.clone(), plan.after.clone());
        target.state().watch = Some(Box::new(watch_the_disk(dir.path())));
        let (ended, closed) = paused().block_on(run_plan(&plan, &target, dir.path()));
        prop_assert!(closed.is_ok());
        check(&plan, &target, &ended, dir.path())?;
    }
}

/// Runs a plan in a directory of its own.
async fn play(plan: &Plan) -> (Ended, Target, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let target = Target::new(plan.api, plan.moves.clone(), plan.after.clone());
    let (ended, closed) = run_plan(plan, &target, dir.path()).await;
    closed.unwrap();
    check(plan, &target, &ended, dir.path()).unwrap();
    (ended, target, dir)
}

fn hangs() -> Move {
    Move {
        takes: Duration::from_hours(1),
        ..Move::new(What::NoAnswer)
    }
}

#[tokio::test(start_paused = true)]
async fn all_posts_arrive_in_full_batches_behind_the_first_one() {
    let (ended, target, _dir) = play(&Plan::of(21)).await;
    assert!(!ended.stopped);
    assert_eq!(ended.books.posts.delivered, 21);
    let sizes: Vec<usize> = target
        .state()
        .got
        .iter()
        .filter(|got| got.kind == 0)
        .map(|got| got.keys.len())
        .collect();
    assert_eq!(sizes, [1, 5, 5, 5, 5]);
}

#[tokio::test(start_paused = true)]
async fn posts_go_one_by_one_until_the_target_has_answered_for_all_of_one() {
    let (yes, never) = (Move::all(Yes), Move::new(What::Each(vec![Never])));
    let hangs = Move {
        takes: Duration::from_secs(30),
        ..Move::new(What::NoAnswer)
    };
    let first_post = |pin: &Move, geo: &Move, user: &Move| Plan {
        moves: [pin, geo, user].map(Clone::clone).to_vec(),
        retry_for: Duration::from_secs(20),
        ..Plan::of(12)
    };
    for (plan, unproven, expected) in [
        (first_post(&yes, &yes, &hangs), 1, vec![1, 1, 5, 5]),
        (first_post(&hangs, &never, &yes), 1, vec![1, 1, 5, 5]),
        (first_post(&yes, &never, &never), 0, vec![1, 5, 5, 1]),
    ] {
        let (ended, target, _dir) = play(&plan).await;
        let records = ended.books.records.iter();
        assert_eq!(records.map(|it| it.1.unproven).sum::<u64>(), unproven);
        let state = target.state();
        let pins = state.got.iter().filter(|got| got.kind == 0);
        let sizes: Vec<_> = pins.map(|got| got.keys.len()).collect();
        assert_eq!(sizes, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_company_no_longer_than_it_lingers() {
    let plan = Plan {
        rate: Rate::PerSecond(10.0),
        batch: BatchLimits {
            posts: 100,
            bytes: usize::MAX,
            linger: Duration::from_millis(250),
        },
        ..Plan::of(10)
    };
    let (_, target, _dir) = play(&plan).await;
    let state = target.state();
    let start = state.got[0].at;
    let got: Vec<_> = state
        .got
        .iter()
        .filter(|got| got.kind == 0)
        .map(|got| (((got.at - start).as_millis() + 5) / 10, got.keys.clone()))
        .collect();
    // The first goes when the second is due, which waits for company once that is answered. The last ends the run.
    let expected = [
        (0, vec![1]),
        (26, vec![2, 3, 4]),
        (55, vec![5, 6, 7]),
        (80, vec![8, 9, 10]),
    ];
    assert_eq!(got, expected);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_1024_batches_wait_for_the_oldest() {
    let plan = Plan {
        api: Api::Record,
        in_flight: InFlight::Fixed(6),
        moves: vec![Move::all(Yes), Move::all(Yes), Move::all(Yes), hangs()],
        stop: Some(Duration::from_mins(10)),
        grace: Duration::ZERO,
        ..Plan::of(3000)
    };
    let (ended, _, _dir) = play(&plan).await;
    // And the one that would be next.
    assert_eq!((ended.books.posts.read, ended.returned), (1, 1024 + 1));
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_for_the_oldest_than_feed_the_requests_that_may_go() {
    for (requests, batches) in [(None, 2), (Some(6), 2), (Some(24), 8), (Some(64), 11)] {
        // Three records of half a mebibyte each.
        let plan = Plan {
            chunks: vec![(Duration::ZERO, vec![512 * 1024; 40])],
            batch: BatchLimits {
                posts: 1,
                ..Plan::default().batch
            },
            requests,
            moves: vec![Move::all(Yes); 3],
            after: hangs(),
            stop: Some(Duration::from_mins(1)),
            ..Plan::default()
        };
        let (ended, _, _dir) = play(&plan).await;
        // And the one that would be next.
        let found = (ended.books.posts.read, ended.returned);
        assert_eq!(found, (1, batches + 1), "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_obeyed_at_once_but_for_the_grace() {
    for (grace, ends) in [(0, 60), (7, 67)] {
        let plan = Plan {
            after: hangs(),
            stop: Some(Duration::from_mins(1)),
            grace: Duration::from_secs(grace),
            ..Plan::of(30)
        };
        let (ended, _, _dir) = play(&plan).await;
        assert_eq!(ended.elapsed.as_secs(), ends);
        assert_eq!((ended.books.posts.read, ended.returned), (0, 1));
        assert!(ended.failure.is_none());
    }
}

/// Ten posts a second, of which the first goes when the second is due, and the others wait for company.
fn lingering(stop: Duration, grace: Duration, after: Move) -> Plan {
    Plan {
        rate: Rate::PerSecond(10.0),
        batch: BatchLimits {
            posts: 100,
            linger: Duration::from_mins(1),
            ..Plan::default().batch
        },
        stop: Some(stop),
        grace,
        moves: vec![Move::all(Yes); 3],
        after,
        ..Plan::of(100)
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_company_at_a_stop_is_sent_or_returned() {
    let (soon, grace) = (Duration::from_millis(550), Duration::from_secs(7));
    for (plan, read, returned, ends) in [
        // It goes, and is answered in 10 ms.
        (lingering(soon, grace, Move::all(Yes)), 6, 0, 560),
        // It goes, and is not answered.
        (lingering(soon, grace, hangs()), 1, 5, 7_550),
        // It would have no time.
        (lingering(soon, Duration::ZERO, Move::all(Yes)), 1, 5, 550),
        // Nothing was ever sent, and nothing will be.
        (
            lingering(Duration::from_millis(50), grace, hangs()),
            0,
            1,
            50,
        ),
    ] {
        let (ended, target, dir) = play(&plan).await;
        assert_eq!((ended.books.posts.read, ended.returned), (read, returned));
        assert_eq!(ended.elapsed.as_millis(), ends);
        assert_eq!(place(dir.path()), (read.into(), read));
        let goes = !plan.grace.is_zero() && plan.stop == Some(soon);
        let last = target.state().got.last().map(|got| got.keys.clone());
        let expected = match (goes, plan.stop == Some(soon)) {
            (true, _) => Some(vec![2, 3, 4, 5, 6]),
            (false, true) => Some(vec![1]),
            (false, false) => None,
        };
        assert_eq!(last, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_settled_before_the_end_counts_without_any_grace() {
    // The second batch ends the run, and all behind it have settled with it.
    let never = Move::new(What::Each(vec![Never]));
    let plan = Plan {
        in_flight: InFlight::Fixed(100),
        moves: [vec![Move::all(Yes); 3], vec![never; 3]].concat(),
        max_undelivered: Some(1),
        grace: Duration::ZERO,
        ..Plan::of(51)
    };
    let (ended, _, _dir) = play(&plan).await;
    assert_eq!(ended.failure.unwrap().exit, Exit::SetAside);
    assert_eq!((ended.books.posts.read, ended.returned), (51, 0));
}

#[tokio::test(start_paused = true)]
async fn a_duration_ends_the_taking_of_posts_while_the_target_or_the_source_stalls() {
    let stalls = |word| Move {
        takes: Duration::from_secs(20),
        ..Move::all(word)
    };
    let plan = Plan {
        duration: Some(Duration::from_secs(30)),
        moves: [vec![stalls(Yes); 3], vec![stalls(Later); 3]].concat(),
        requests: Some(1),
        ..Plan::of(1000)
    };
    let (ended, target, _dir) = play(&plan).await;
    assert!(!ended.stopped);
    // The first post and the batch that went when it was answered. The one that was collected meanwhile does not go.
    assert_eq!((ended.books.posts.delivered, ended.returned), (6, 5));
    assert_eq!(ended.elapsed.as_secs(), 40);
    assert_eq!(target.state().seen[&(0, 6)].requests, 2);
    let source_is_slow = Plan {
        duration: Some(Duration::from_secs(30)),
        chunks: vec![
            (Duration::ZERO, vec![0; 3]),
            (Duration::from_hours(1), vec![0; 3]),
        ],
        ..Plan::default()
    };
    for rate in [Rate::Max, Rate::PerSecond(2.0)] {
        let plan = Plan {
            rate,
            ..source_is_slow.clone()
        };
        let (ended, _, _dir) = play(&plan).await;
        assert_eq!(ended.elapsed.as_secs(), 30, "{rate}");
        assert_eq!(ended.books.posts.delivered, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_slow_target_when_the_time_is_over_goes_to_the_next_run() {
    for rate in [Rate::Max, Rate::PerSecond(1000.0)] {
        let plan = Plan {
            rate,
            // A post a second.
            api: Api::Record,
            in_flight: InFlight::Fixed(3),
            after: Move {
                takes: Duration::from_secs(1),
                ..Move::all(Yes)
            },
            duration: Some(Duration::from_millis(12_500)),
            ..Plan::of(3000)
        };
        let (ended, _, dir) = play(&plan).await;
        assert!(!ended.stopped);
        assert_eq!(ended.elapsed.as_secs(), 13, "{rate}");
        assert_eq!(ended.books.posts.delivered, 13);
        assert!(ended.returned > 1000, "{}", ended.returned);
        assert_eq!(place(dir.path()), (13, 13));
    }
    // Also those of a source that came to its end long before.
    let plan = Plan {
        in_flight: InFlight::Fixed(3),
        after: Move {
            takes: Duration::from_secs(1),
            ..Move::all(Yes)
        },
        duration: Some(Duration::from_millis(2_500)),
        ..Plan::of(100)
    };
    let (ended, _, _dir) = play(&plan).await;
    assert_eq!((ended.books.posts.delivered, ended.returned), (11, 89));
    assert_eq!(ended.elapsed.as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn records_that_cannot_be_written_down_are_not_in_the_books() {
    let plan = Plan {
        moves: vec![Move::all(Yes); 12],
        after: Move::new(What::Each(vec![Yes, Yes, Never])),
        ..Plan::of(30)
    };
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("undelivered.jsonl")).unwrap();
    let target = Target::new(plan.api, plan.moves.clone(), plan.after.clone());
    let (ended, _) = run_plan(&plan, &target, dir.path()).await;
    assert_eq!(ended.failure.as_ref().unwrap().exit, Exit::CannotWrite);
    // The first post, three batches of five, and two posts of the next one.
    assert_eq!(ended.books.posts.read, 18);
    assert_eq!(ended.books.posts.delivered, 18);
    assert!(ended.returned > 0);
    let state = target.state();
    let handed_over = 18 + i128::from(ended.returned);
    assert!(state.seen.keys().all(|name| name.1 <= handed_over));
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_run_leaves_what_was_not_settled_to_the_next_one() {
    let plan = Plan {
        moves: vec![Move::all(Yes); 6],
        after: Move::all(Forbidden),
        ..Plan::of(300)
    };
    let (ended, _, _dir) = play(&plan).await;
    assert_eq!(ended.failure.as_ref().unwrap().exit, Exit::Refused);
    assert_eq!(ended.books.posts.delivered, 6);
    assert!(ended.elapsed < Duration::from_mins(1));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_not_there_gets_one_post_and_nothing_is_set_aside() {
    let plan = Plan {
        after: Move::all(Later),
        ..Plan::of(300)
    };
    let (ended, target, dir) = play(&plan).await;
    assert_eq!(ended.failure.as_ref().unwrap().exit, Exit::Unreachable);
    assert_eq!((ended.books.posts.read, ended.returned), (0, 1));
    assert!(target.state().seen.keys().all(|name| name.1 == 1));
    assert!(set_aside(dir.path()).is_empty());
}

/// When the pin of each post was sent, in its order, in milliseconds from the start.
fn sent(target: &Target, start: Instant) -> Vec<(i128, f64)> {
    let state = target.state();
    let pins = state.got.iter().filter(|got| got.kind == 0);
    pins.flat_map(|got| {
        let at = (got.at - start).as_secs_f64() * 1000.0;
        got.keys.iter().map(move |key| (*key, at))
    })
    .collect()
}

/// Posts that go one by one as soon as they are due.
fn paced(rate: f64, posts: usize) -> Plan {
    Plan {
        api: Api::Record,
        rate: Rate::PerSecond(rate),
        in_flight: InFlight::Fixed(100),
        after: Move {
            takes: Duration::ZERO,
            ..Move::all(Yes)
        },
        ..Plan::of(posts)
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_goes_when_it_is_due_at_the_slowest_rate_as_at_the_fastest() {
    for (rate, posts) in [
        (0.1, 50),
        (0.5, 50),
        (2.0, 100),
        (7.3, 100),
        (1_000.0, 1_000),
        (10_000.0, 2_000),
    ] {
        let start = Instant::now();
        let (ended, target, _dir) = play(&paced(rate, posts)).await;
        // The clock of the runtime has ticks of a millisecond.
        for ((key, at), expected) in sent(&target, start).into_iter().zip(1..) {
            assert_eq!(key, expected);
            let due = f64::from(u32::try_from(key - 1).unwrap()) * 1000.0 / rate;
            assert!(
                (-0.001..=1.001).contains(&(at - due)),
                "{key} at {at}, due {due}"
            );
        }
        let lateness = ended.lateness.unwrap();
        assert_eq!(lateness.len(), posts as u64);
        assert!(lateness.max() <= 1_001, "{} µs late", lateness.max());
    }
}

#[tokio::test(start_paused = true)]
async fn late_posts_are_sent_at_once_and_their_lateness_is_counted() {
    // Ten a second, and none of the second chunk before ten seconds have passed.
    let plan = Plan {
        chunks: vec![
            (Duration::ZERO, vec![0; 20]),
            (Duration::from_secs(10), vec![0; 120]),
        ],
        ..paced(10.0, 0)
    };
    let start = Instant::now();
    let (ended, target, _dir) = play(&plan).await;
    let sent = sent(&target, start);
    for (key, at) in &sent {
        let due = f64::from(u32::try_from(key - 1).unwrap()) * 100.0;
        // What has waited goes together, and what comes after it in its own time.
        let expected = if *key <= 20 { due } else { due.max(10_000.0) };
        assert!((-0.001..=1.001).contains(&(at - expected)), "{key} at {at}");
    }
    assert_eq!(sent.len(), 140);
    let lateness = ended.lateness.unwrap();
    assert_eq!(lateness.len(), 140);
    // The first of them was due after two seconds, and 80 in all before those ten had passed.
    assert!(lateness.max().abs_diff(8_000_000) < 8_000);
    assert_eq!(lateness.len() - lateness.count_between(0, 1_001), 80);
}

#[tokio::test(start_paused = true)]
async fn count_duration_and_rate_compose() {
    for (rate, count, seconds, posts, elapsed) in [
        (Some(10.0), Some(5), Some(10), 5, 400),
        (Some(10.0), Some(100), Some(1), 11, 1_000),
        (Some(10.0), Some(11), Some(1), 11, 1_000),
        (Some(10.0), Some(11), None, 11, 1_000),
        (Some(10.0), None, Some(3), 31, 3_000),
        // The next one would be due too late.
        (Some(0.1), None, Some(25), 3, 20_000),
        (Some(0.1), Some(2), Some(25), 2, 10_000),
        (Some(10_000.0), Some(500), Some(1), 500, 50),
        (None, Some(7), Some(1), 7, 0),
    ] {
        let plan = Plan {
            rate: rate.map_or(Rate::Max, Rate::PerSecond),
            count,
            duration: seconds.map(Duration::from_secs),
            ..paced(1.0, 600)
        };
        let (ended, _, _dir) = play(&plan).await;
        assert_eq!(ended.books.posts.delivered, posts, "{:?}", plan.options());
        assert!(
            ended.elapsed.as_millis().abs_diff(elapsed) <= 2,
            "{:?} {:?}",
            ended.elapsed,
            plan.options()
        );
        assert!(!ended.stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_and_goes_on_adds_up_to_the_whole_one_pauses_included() {
    let whole = Plan {
        arrivals: Arrivals::Poisson,
        requests: Some(1),
        ..paced(5.0, 100)
    };
    let start = Instant::now();
    let (ended, target, _dir) = play(&whole).await;
    assert_eq!(ended.books.posts.delivered, 100);
    let as_planned = sent(&target, start);

    let first = Plan {
        stop: Some(Duration::from_secs(7)),
        ..whole.clone()
    };
    let start = Instant::now();
    let (ended, target, dir) = play(&first).await;
    assert!(ended.stopped);
    let mut in_parts = sent(&target, start);
    let (_, before) = place(dir.path());
    assert_eq!(before, in_parts.len() as u64);
    assert!((10..90).contains(&before), "{before}");

    let second = Plan {
        before,
        ..paced(5.0, 100 - in_parts.len())
    };
    let second = Plan {
        arrivals: Arrivals::Poisson,
        requests: Some(1),
        ..second
    };
    let dir = tempfile::tempdir().unwrap();
    let target = Target::new(second.api, second.moves.clone(), second.after.clone());
    let start = Instant::now();
    let (ended, closed) = run_plan(&second, &target, dir.path()).await;
    closed.unwrap();
    assert_eq!(ended.books.posts.delivered, 100 - before);
    in_parts.extend(sent(&target, start));

    let keys = |sent: &[(i128, f64)]| sent.iter().map(|(key, _)| *key).collect::<Vec<_>>();
    assert_eq!(keys(&in_parts), keys(&as_planned));
    for (i, (pair, planned)) in in_parts.windows(2).zip(as_planned.windows(2)).enumerate() {
        // The break between the runs takes the place of the pause that was there.
        if i as u64 + 1 == before {
            assert!(pair[1].1 < 1.001, "the second run begins at once: {pair:?}");
            continue;
        }
        let (pause, planned) = (pair[1].1 - pair[0].1, planned[1].1 - planned[0].1);
        assert!((pause - planned).abs() <= 1.001, "{pause} {planned}");
    }
}
