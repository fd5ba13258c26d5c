//! What becomes of records, whatever a target says, on a paused clock.

use std::{collections::HashSet, sync::Arc, time::Duration};

use proptest::prelude::*;
use tokio::{
    spawn,
    time::{Instant, sleep, timeout},
};

use super::{
    Fate, Outcome, roughly,
    target::{
        Api, Move, Target, What,
        Word::{self, Forbidden, Later, Never, Slower, Yes},
        apis, in_flights, moves, paused, post, words,
    },
};
use crate::{
    failure::Exit,
    limiter::InFlight,
    post::{Kind, Post},
};

const FIVE_MINUTES: Duration = Duration::from_mins(5);
/// Far longer than anything may take.
const STALLED: Duration = Duration::from_hours(24);

#[derive(Debug, Clone)]
struct Plan {
    api: Api,
    in_flight: InFlight,
    retry_for: Duration,
    /// Which records each post has.
    batches: Vec<Vec<u8>>,
    moves: Vec<Move>,
    after: Move,
    drain: Option<Duration>,
}

fn plans() -> impl Strategy<Value = Plan> {
    let script = words().prop_flat_map(|words| {
        let after = prop_oneof![
            3 => Just(Move::all(Yes)),
            1 => moves(words.clone()),
        ];
        (prop::collection::vec(moves(words), 0..60), after)
    });
    (
        apis(),
        in_flights(),
        prop::sample::select(vec![0, 1, 20, 60, 3600]),
        prop::collection::vec(prop::collection::vec(1..8_u8, 1..13), 1..5),
        script,
        prop::option::weighted(0.2, 0..100_000_u64),
    )
        .prop_map(
            |(api, in_flight, retry_for, batches, (moves, after), drain)| Plan {
                api,
                in_flight,
                retry_for: Duration::from_secs(retry_for),
                batches,
                moves,
                after,
                drain: drain.map(Duration::from_millis),
            },
        )
}

/// Delivers all batches at once. The posts of batch `i` have the keys from 1000 * i on.
async fn deliver(plan: &Plan, target: &Target) -> Vec<Outcome> {
    let delivery = target.delivery(plan.in_flight, plan.retry_for);
    let mut under_way = Vec::new();
    for (i, batch) in (0..).zip(&plan.batches) {
        let posts: Vec<Post> = (1000 * i..)
            .zip(batch)
            .map(|(key, mask)| post(key, *mask, 0))
            .collect();
        let delivery = Arc::clone(&delivery);
        under_way.push(spawn(async move { delivery.deliver(posts).await }));
    }
    if let Some(drain) = plan.drain {
        spawn(async move {
            sleep(drain).await;
            delivery.drain();
        });
    }
    let mut outcomes = Vec::new();
    for delivery in under_way {
        let outcome = timeout(STALLED, delivery).await;
        outcomes.push(outcome.expect("it stalls").unwrap());
    }
    outcomes
}

fn check(plan: &Plan, target: &Target, outcomes: &[Outcome]) -> Result<(), TestCaseError> {
    let state = target.state();
    prop_assert!(state.wrong.is_empty(), "{:?}", state.wrong);
    prop_assert_eq!(state.on_wire, 0);
    let (InFlight::Fixed(most) | InFlight::Auto { most, .. }) = plan.in_flight;
    prop_assert!(state.most_on_wire <= usize::from(most));
    let told_to_end = plan.drain.is_some() || outcomes.iter().any(|it| it.failure.is_some());
    for ((i, batch), outcome) in (0..).zip(&plan.batches).zip(outcomes) {
        let keys: Vec<i128> = outcome.posts.iter().map(|post| post.key.0).collect();
        let expected: Vec<i128> = (1000 * i..).take(batch.len()).collect();
        prop_assert_eq!(keys, expected);
        let mut failed = HashSet::new();
        for record in &outcome.failed {
            let name = (record.kind as usize, outcome.posts[record.post].key.0);
            prop_assert!(failed.insert(name), "{:?} ends twice", name);
            prop_assert!(!state.acknowledged.contains(&name), "{:?} is there", name);
            let seen = state.seen.get(&name);
            prop_assert_eq!(record.attempts, seen.map_or(0, |seen| seen.requests));
            match &record.fate {
                Fate::Open => prop_assert!(told_to_end, "{:?} is left open", name),
                Fate::Rejected(_) => prop_assert!(state.rejected.contains(&name)),
                Fate::Unproven(_) => {
                    prop_assert!(!state.rejected.contains(&name));
                    let tried = seen.map(|seen| seen.last_answer.unwrap() - seen.first);
                    prop_assert!(
                        tried >= Some(plan.retry_for),
                        "{:?} after {:?}",
                        name,
                        tried
                    );
                }
            }
        }
        for post in &outcome.posts {
            for kind in Kind::ALL {
                let name = (kind as usize, post.key.0);
                let delivered = post.records[kind].is_some() && !failed.contains(&name);
                prop_assert_eq!(state.acknowledged.contains(&name), delivered, "{:?}", name);
                prop_assert!(post.records[kind].is_some() || !state.seen.contains_key(&name));
            }
        }
        let places: Vec<_> = outcome
            .failed
            .iter()
            .map(|failed| (failed.post, failed.kind as usize))
            .collect();
        prop_assert!(places.is_sorted(), "{:?}", places);
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_record_ends_once_and_as_the_target_said(plan in plans()) {
        let target = Target::new(plan.api, plan.moves.clone(), plan.after.clone());
        let outcomes = paused().block_on(deliver(&plan, &target));
        check(&plan, &target, &outcomes)?;
    }
}

fn batch(keys: std::ops::Range<i128>) -> Vec<Post> {
    keys.map(|key| post(key, 7, 0)).collect()
}

/// A pin alone, so that the moves are its own.
fn pins(keys: std::ops::Range<i128>) -> Vec<Post> {
    keys.map(|key| post(key, 1, 0)).collect()
}

fn fates(outcome: &Outcome) -> Vec<&Fate> {
    outcome.failed.iter().map(|failed| &failed.fate).collect()
}

#[tokio::test(start_paused = true)]
async fn more_records_than_kinesis_takes_go_in_several_requests() {
    let target = Target::new(Api::Records, Vec::new(), Move::all(Yes));
    let delivery = target.delivery(InFlight::Fixed(3), FIVE_MINUTES);
    let outcome = delivery.deliver(pins(0..1100)).await;
    assert!(outcome.failed.is_empty());
    let state = target.state();
    let sizes: Vec<usize> = state.got.iter().map(|got| got.keys.len()).collect();
    assert_eq!(sizes, [500, 500, 100]);
    assert!(state.wrong.is_empty(), "{:?}", state.wrong);
}

#[tokio::test(start_paused = true)]
async fn a_bad_record_is_found_by_halving_and_the_others_arrive() {
    // The sizes of the requests, and what a proxy answers that refuses whatever holds key 5 and does not say why.
    let plan = [
        (8, Never),
        (4, Yes),
        (4, Never),
        (2, Never),
        (1, Yes),
        (1, Never),
        (2, Yes),
    ];
    let moves = plan.map(|(_, word)| Move::all(word)).to_vec();
    let target = Target::new(Api::Kafka, moves, Move::all(Yes));
    let delivery = target.delivery(InFlight::Fixed(1), FIVE_MINUTES);
    let outcome = delivery.deliver(pins(0..8)).await;
    let state = target.state();
    let sizes: Vec<usize> = state.got.iter().map(|got| got.keys.len()).collect();
    assert_eq!(sizes, plan.map(|(size, _)| size));
    assert!(matches!(fates(&outcome)[..], [Fate::Rejected(_)]));
    assert_eq!(outcome.failed[0].post, 5);
    assert_eq!(outcome.failed[0].attempts, 4);
}

#[tokio::test(start_paused = true)]
async fn what_fails_of_a_post_stands_together() {
    let target = Target::new(Api::Kafka, Vec::new(), Move::new(What::Each(vec![Never])));
    let delivery = target.delivery(InFlight::Fixed(3), FIVE_MINUTES);
    let outcome = delivery.deliver(batch(0..3)).await;
    let places: Vec<_> = outcome.failed.iter().map(|it| (it.post, it.kind)).collect();
    let expected: Vec<_> = (0..3)
        .flat_map(|post| Kind::ALL.map(|kind| (post, kind)))
        .collect();
    assert_eq!(places, expected);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_everything_ends_the_run_at_once_where_nothing_was_acknowledged() {
    let target = Target::new(Api::Kafka, Vec::new(), Move::all(Forbidden));
    let delivery = target.delivery(InFlight::Fixed(3), FIVE_MINUTES);
    let outcome = delivery.deliver(batch(0..2)).await;
    assert_eq!(outcome.failure.unwrap().exit, Exit::Refused);
    assert!(outcome.failed.iter().all(|it| it.fate == Fate::Open));
    assert_eq!(outcome.failed.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_everything_after_successes_is_doubted_for_thirty_seconds() {
    let target = Target::new(Api::Kafka, vec![Move::all(Yes)], Move::all(Forbidden));
    let delivery = target.delivery(InFlight::Fixed(3), FIVE_MINUTES);
    assert!(delivery.deliver(pins(0..1)).await.failure.is_none());
    let start = Instant::now();
    let outcome = delivery.deliver(pins(1..3)).await;
    assert_eq!(outcome.failure.as_ref().unwrap().exit, Exit::Refused);
    assert_eq!(fates(&outcome), [&Fate::Open, &Fate::Open]);
    let took = start.elapsed().as_secs();
    assert!((30..51).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_everything_that_there_is_no_time_to_doubt_is_the_cause() {
    let long = Move {
        takes: Duration::from_secs(295),
        ..Move::new(What::NoAnswer)
    };
    let target = Target::new(Api::Kafka, vec![Move::all(Yes), long], Move::all(Forbidden));
    let delivery = target.delivery(InFlight::Fixed(1), FIVE_MINUTES);
    for (keys, exit) in [(0..1, None), (1..2, Some(Exit::Refused))] {
        let outcome = delivery.deliver(pins(keys)).await;
        assert_eq!(outcome.failure.map(|failure| failure.exit), exit);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_everything_that_passes_costs_nothing() {
    let mut moves = vec![Move::all(Yes)];
    moves.extend(vec![Move::all(Forbidden); 3]);
    let target = Target::new(Api::Kafka, moves, Move::all(Yes));
    let delivery = target.delivery(InFlight::Fixed(3), FIVE_MINUTES);
    for keys in [0..1, 1..3] {
        let outcome = delivery.deliver(pins(keys)).await;
        assert!(outcome.failure.is_none() && outcome.failed.is_empty());
    }
}

/// Long after the first refusal, too: another answer in between starts the doubt anew.
#[tokio::test(start_paused = true)]
async fn an_answer_of_another_kind_ends_the_doubt() {
    let slow = |what| Move {
        takes: Duration::from_secs(25),
        ..Move::new(what)
    };
    for between in [What::TooLarge, What::Empty] {
        let moves = vec![
            Move::all(Yes),
            slow(What::All(Forbidden)),
            slow(between),
            Move::all(Forbidden),
        ];
        let target = Target::new(Api::Kafka, moves, Move::all(Yes));
        let delivery = target.delivery(InFlight::Fixed(1), FIVE_MINUTES);
        for keys in [0..1, 1..3] {
            let outcome = delivery.deliver(pins(keys)).await;
            assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
            assert!(outcome.failed.is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_not_trusted_ends_the_run_at_once_only_where_nothing_was_settled() {
    let distrusted = Move {
        takes: Duration::from_secs(5),
        ..Move::new(What::Distrust)
    };
    let target = Target::new(Api::Kafka, vec![], distrusted.clone());
    let delivery = target.delivery(InFlight::Fixed(4), FIVE_MINUTES);
    let failure = delivery.deliver(pins(0..1)).await.failure.unwrap();
    assert_eq!(failure.exit, Exit::Unreachable);
    assert_eq!(target.state().got.len(), 1);

    // Longer than a refusal is doubted.
    let moves = [vec![Move::all(Yes)], vec![distrusted; 12]].concat();
    let target = Target::new(Api::Kafka, moves, Move::all(Yes));
    let delivery = target.delivery(InFlight::Fixed(4), Duration::from_hours(1));
    for keys in [0..1, 1..2] {
        let outcome = delivery.deliver(pins(keys)).await;
        assert!(outcome.failure.is_none() && outcome.failed.is_empty());
    }
    assert_eq!(target.state().got.len(), 14);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_acknowledges_nothing_is_down_and_nothing_is_set_aside() {
    for after in [
        Move::new(What::NoAnswer),
        Move::all(Later),
        Move::all(Slower),
        Move::new(What::Page),
    ] {
        let target = Target::new(Api::Kafka, Vec::new(), after.clone());
        let delivery = target.delivery(InFlight::Fixed(3), FIVE_MINUTES);
        let start = Instant::now();
        let outcome = delivery.deliver(batch(0..2)).await;
        let failure = outcome.failure.as_ref().expect("a failure");
        assert_eq!(failure.exit, Exit::Unreachable, "{after:?}");
        assert!(outcome.failed.iter().all(|it| it.fate == Fate::Open));
        let took = start.elapsed().as_secs();
        assert!((300..360).contains(&took), "{took} s of {after:?}");
    }
}

/// Then one request at a time probes, and all others wait in one queue.
#[tokio::test(start_paused = true)]
async fn a_target_that_goes_away_is_down_in_time_however_many_batches_wait() {
    for (after, exit, seconds) in [
        (Later, Exit::Unreachable, 300..330),
        (Slower, Exit::Unreachable, 300..330),
        (Forbidden, Exit::Refused, 30..60),
    ] {
        let target = Target::new(Api::Kafka, vec![Move::all(Yes); 3], Move::all(after));
        let delivery = target.delivery(InFlight::Auto { first: 4, most: 16 }, FIVE_MINUTES);
        assert!(delivery.deliver(batch(0..1)).await.failed.is_empty());
        let start = Instant::now();
        let all = (1..200).map(|key| delivery.deliver(batch(key..key + 1)));
        let outcomes = futures_util::future::join_all(all).await;
        let failure = outcomes
            .iter()
            .find_map(|outcome| outcome.failure.as_ref())
            .unwrap();
        assert_eq!(failure.exit, exit);
        let open = outcomes.iter().flat_map(fates);
        assert!(open.into_iter().all(|fate| *fate == Fate::Open));
        let took = start.elapsed().as_secs();
        assert!(seconds.contains(&took), "{took} s of {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_failure_long_after_a_record_was_given_up_is_not_the_end() {
    let seconds = |seconds| Move {
        takes: Duration::from_secs(seconds),
        ..Move::all(Later)
    };
    // The first record is tried from 0 s to 400 s, the second arrives at 200 s.
    let moves = vec![seconds(400), Move::all(Yes), Move::all(Later)];
    let target = Target::new(Api::Kafka, moves, Move::all(Yes));
    let delivery = target.delivery(InFlight::Fixed(3), FIVE_MINUTES);
    let first = spawn({
        let delivery = Arc::clone(&delivery);
        async move { delivery.deliver(pins(0..1)).await }
    });
    sleep(Duration::from_secs(200)).await;
    assert!(delivery.deliver(pins(1..2)).await.failed.is_empty());
    assert!(matches!(
        fates(&first.await.unwrap())[..],
        [Fate::Unproven(_)]
    ));
    sleep(Duration::from_hours(1)).await;
    let outcome = delivery.deliver(pins(2..3)).await;
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert!(outcome.failed.is_empty());
}

/// As a firewall does that dislikes a word.
#[tokio::test(start_paused = true)]
async fn a_record_that_alone_is_refused_like_everything_does_not_end_the_run() {
    let target = Target::new(Api::Kafka, Vec::new(), Move::all(Yes));
    target.state().forbidden = Some(1);
    let delivery = target.delivery(InFlight::Fixed(3), FIVE_MINUTES);
    assert!(delivery.deliver(pins(0..1)).await.failed.is_empty());
    let refused = spawn({
        let delivery = Arc::clone(&delivery);
        async move { delivery.deliver(pins(1..2)).await }
    });
    for key in 2.. {
        if refused.is_finished() {
            break;
        }
        assert!(delivery.deliver(pins(key..key + 1)).await.failed.is_empty());
        sleep(Duration::from_secs(1)).await;
    }
    let outcome = refused.await.unwrap();
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert!(matches!(fates(&outcome)[..], [Fate::Unproven(_)]));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_fails_while_others_arrive_is_unproven_in_the_end() {
    let each = What::Each(vec![Yes, Later, Yes]);
    let target = Target::new(
        Api::Kafka,
        vec![Move::new(each)],
        Move::new(What::Each(vec![Later])),
    );
    let delivery = target.delivery(InFlight::Fixed(1), FIVE_MINUTES);
    let outcome = delivery.deliver(pins(0..3)).await;
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert!(matches!(fates(&outcome)[..], [Fate::Unproven(_)]));
}

#[tokio::test(start_paused = true)]
async fn a_target_is_obeyed_for_a_minute_at_most() {
    for word in [Later, Slower] {
        for (asked, waits) in [(7, 7), (60, 60), (86_400, 60)] {
            let first = Move {
                retry_after: Some(Duration::from_secs(asked)),
                ..Move::all(word)
            };
            let target = Target::new(Api::Kafka, vec![first], Move::all(Yes));
            let delivery = target.delivery(InFlight::Fixed(1), FIVE_MINUTES);
            assert!(delivery.deliver(pins(0..1)).await.failed.is_empty());
            let got = &target.state().got;
            let waited = (got[1].at - got[0].at).as_secs();
            assert!((waits..=waits + 2).contains(&waited), "{waited} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_is_not_waited_for_in_a_pause_nor_in_the_queue() {
    let first = Move {
        retry_after: Some(Duration::from_mins(1)),
        ..Move::all(Later)
    };
    let hangs = Move {
        takes: Duration::from_secs(30),
        ..Move::all(Yes)
    };
    let target = Target::new(Api::Kafka, vec![first], hangs);
    let delivery = target.delivery(InFlight::Fixed(1), FIVE_MINUTES);
    let start = Instant::now();
    let spawned = [0, 10, 20].map(|key| {
        let delivery = Arc::clone(&delivery);
        spawn(async move {
            let outcome = delivery.deliver(pins(key..key + 1)).await;
            (outcome, Instant::now())
        })
    });
    sleep(Duration::from_secs(1)).await;
    delivery.drain();
    let [pausing, on_wire, queueing] = spawned;
    for (task, open, seconds) in [(pausing, 1, 1), (on_wire, 0, 30), (queueing, 1, 1)] {
        let (outcome, ended) = task.await.unwrap();
        assert_eq!(outcome.failed.len(), open);
        assert_eq!((ended - start).as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_of_the_run_sends_the_others_home() {
    let target = Target::new(Api::Kafka, vec![Move::all(Forbidden)], Move::all(Later));
    let delivery = target.delivery(InFlight::Fixed(4), FIVE_MINUTES);
    let start = Instant::now();
    let outcomes: [Outcome; 2] =
        tokio::join!(delivery.deliver(pins(0..1)), delivery.deliver(batch(1..3))).into();
    assert_eq!(outcomes[0].failure.as_ref().unwrap().exit, Exit::Refused);
    assert!(outcomes[1].failure.is_none());
    assert_eq!(outcomes[1].failed.len(), 6);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn the_words_of_the_target_mean_what_the_tests_take_them_to_mean() {
    use crate::sink::Verdict;
    let letter = |verdict: &Verdict| match verdict {
        Verdict::Acknowledged => Yes,
        Verdict::Retry(_) => Later,
        Verdict::Throttled(_) => Slower,
        Verdict::Reject(_) | Verdict::Halve(_) => Never,
        Verdict::Stop(..) => Forbidden,
    };
    for api in [Api::Kafka, Api::Record, Api::Records] {
        for word in [Yes, Later, Slower, Never, Forbidden] {
            let answer = crate::sink::Answer {
                status: 200,
                body: api.results(&[word]).into(),
                ..Default::default()
            };
            let verdicts = api.sink().verdicts(1, &answer);
            // Kafka's proxies have no word for it but the status.
            let expected: Word = if api == Api::Kafka && word == Slower {
                Later
            } else {
                word
            };
            assert_eq!(verdicts.iter().map(letter).collect::<Vec<_>>(), [expected]);
        }
    }
}

#[test]
fn a_wait_is_told_in_seconds_and_a_short_one_is_not_none() {
    for (millis, text) in [
        (2, "2ms"),
        (543, "543ms"),
        (1_999, "1s"),
        (301_400, "5m 1s"),
    ] {
        let told = humantime::format_duration(roughly(Duration::from_millis(millis)));
        assert_eq!(told.to_string(), text);
    }
}
