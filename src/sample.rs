//! Synthetic posts in the character of real ones: the same seed gives the same posts on every machine. Each post is a
//! function of its key, so nothing is kept. Pure: knows no database, no clock and no file.

mod dice;
mod pin;
mod text;
mod values;
mod words;

use fake::locales::{Data, EN};

use self::{
    dice::{Dice, Purpose},
    words::{TOPICS, Topic},
};
pub(crate) use self::{
    pin::Pin,
    values::{Degrees, Moment},
};

const DAY: u64 = 24 * 60 * 60;
/// 2015-10-15: the first day on which users joined.
const FIRST_JOINED: u64 = 16_723 * DAY;
/// Users joined until 2017-08-31, before the first post.
const JOINED_WITHIN: u64 = 687 * DAY;
/// 2017-12-01: the first day with posts.
const FIRST_POSTED: u64 = 17_501 * DAY;
/// Posts go on until the end of 2022.
const POSTED_WITHIN: u64 = 1_857 * DAY;

/// Half of the users are below 29.
const YOUNGEST: u8 = 18;
const OLDEST: u8 = 62;

/// A post as its three rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SamplePost {
    /// The key of the three rows.
    pub(crate) index: u64,
    pub(crate) pin: Pin,
    pub(crate) geo: Geo,
    pub(crate) user: User,
}

/// A row of `geolocation_data` without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Geo {
    pub(crate) timestamp: Moment,
    pub(crate) latitude: Degrees,
    pub(crate) longitude: Degrees,
    pub(crate) country: &'static str,
}

/// A row of `user_data` without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) first_name: &'static str,
    pub(crate) last_name: &'static str,
    pub(crate) age: u8,
    pub(crate) date_joined: Moment,
}

/// All posts of a seed database, in the order of their keys, which start at 0 and have no gaps.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    posts: u64,
    random_seed: u64,
    next: u64,
}

impl Samples {
    pub(crate) fn new(posts: u64, random_seed: u64) -> Self {
        Self {
            posts,
            random_seed,
            next: 0,
        }
    }

    /// How many there are in all.
    pub(crate) fn posts(&self) -> u64 {
        self.posts
    }

    fn post(&self, index: u64) -> SamplePost {
        let mut dice = Dice::new(self.random_seed, Purpose::Post, index);
        let user = self.user(self.author(&mut dice));
        let geo = geo(&mut dice);
        let pin = Pin::draw(&mut dice, self.topic(index), &user);
        SamplePost {
            index,
            pin,
            geo,
            user,
        }
    }

    /// The categories follow one another over the whole range of keys.
    fn topic(&self, index: u64) -> &'static Topic {
        let block = u128::from(index) * TOPICS.len() as u128 / u128::from(self.posts);
        &TOPICS[usize::try_from(block)
            .unwrap_or_default()
            .min(TOPICS.len() - 1)]
    }

    /// The number of the user who posts. Some post often: about 45 users are seen in 100 posts.
    fn author(&self, dice: &mut Dice) -> u64 {
        let users = self.posts.div_ceil(20) * 11;
        if dice.chance(250) {
            dice.small_below(users)
        } else {
            dice.below(users)
        }
    }

    /// A user is a function of the number, so whoever comes back is the same.
    fn user(&self, number: u64) -> User {
        let mut dice = Dice::new(self.random_seed, Purpose::User, number);
        let (first_name, last_name) = text::user_name(&mut dice);
        let age = u8::try_from(dice.small_below(u64::from(OLDEST - YOUNGEST) + 1))
            .map_or(OLDEST, |years| YOUNGEST + years);
        let date_joined = Moment::at(FIRST_JOINED + dice.below(JOINED_WITHIN));
        User {
            first_name,
            last_name,
            age,
            date_joined,
        }
    }
}

impl Iterator for Samples {
    type Item = SamplePost;

    fn next(&mut self) -> Option<SamplePost> {
        (self.next < self.posts).then(|| {
            self.next += 1;
            self.post(self.next - 1)
        })
    }
}

fn geo(dice: &mut Dice) -> Geo {
    Geo {
        timestamp: Moment::at(FIRST_POSTED + dice.below(POSTED_WITHIN)),
        latitude: Degrees::draw(dice, 90),
        longitude: Degrees::draw(dice, 180),
        country: country(dice),
    }
}

/// A few countries have most of the posts, and with a seed database of the usual size nearly all have some.
fn country(dice: &mut Dice) -> &'static str {
    let all = EN::ADDRESS_COUNTRY;
    let head = &all[..all.len() / 4];
    if dice.chance(500) {
        dice.pick_early(head)
    } else {
        dice.pick_early(all)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        sync::LazyLock,
    };

    use super::*;

    /// As many as the usual seed database holds.
    pub(super) const POSTS: u64 = 11_154;

    /// Made once for all tests.
    pub(super) fn samples() -> impl Iterator<Item = &'static SamplePost> {
        static SAMPLES: LazyLock<Vec<SamplePost>> =
            LazyLock::new(|| Samples::new(POSTS, 100).collect());
        SAMPLES.iter()
    }

    /// How many in a thousand have the property.
    pub(super) fn permille<T>(of: impl Iterator<Item = T>, property: impl Fn(&T) -> bool) -> usize {
        let (mut all, mut some) = (0, 0);
        for item in of {
            all += 1;
            some += usize::from(property(&item));
        }
        some * 1000 / all
    }

    #[test]
    fn the_seed_decides() {
        assert!(Samples::new(50, 7).eq(Samples::new(50, 7)));
        assert!(
            Samples::new(50, 7)
                .zip(Samples::new(50, 8))
                .all(|(one, other)| one.pin != other.pin)
        );
    }

    #[test]
    fn keys_are_dense_and_categories_alphabetical_blocks() {
        let posts: Vec<_> = samples().collect();
        assert!(posts.iter().map(|post| post.index).eq(0..POSTS));
        assert!(posts.is_sorted_by_key(|post| post.pin.category));
        assert_eq!(
            posts
                .iter()
                .map(|post| post.pin.category)
                .collect::<BTreeSet<_>>()
                .len(),
            13
        );
        assert_eq!(Samples::new(0, 1).count(), 0);
        assert_eq!(Samples::new(1, 1).count(), 1);
    }

    #[test]
    fn users_come_back_and_never_change() {
        let mut users = BTreeMap::new();
        let mut posted = 0;
        for SamplePost { user, geo, .. } in samples() {
            assert!((YOUNGEST..=OLDEST).contains(&user.age));
            assert!(user.date_joined < geo.timestamp);
            let identity = (user.first_name, user.last_name, user.date_joined);
            assert_eq!(*users.entry(identity).or_insert(user.age), user.age);
            posted += 1;
        }
        assert!((4800..=5200).contains(&users.len()), "{}", users.len());
        assert!(posted > users.len());
        let young = permille(users.values(), |age| **age < 26);
        assert!((350..=650).contains(&young), "{young}");
    }

    #[test]
    fn times_lie_where_real_ones_do() {
        let joined: BTreeSet<_> = samples()
            .map(|post| post.user.date_joined.to_string())
            .collect();
        let posted: BTreeSet<_> = samples()
            .map(|post| post.geo.timestamp.to_string())
            .collect();
        assert!(
            joined
                .iter()
                .all(|at| ("2015-10-15".."2017-09-01").contains(&at.as_str()))
        );
        assert!(
            posted
                .iter()
                .all(|at| ("2017-12-01".."2023-01-01").contains(&at.as_str()))
        );
        assert!(
            posted.first().unwrap().starts_with("2017-12")
                && posted.last().unwrap().starts_with("2022-12")
        );
        assert_eq!(Moment::at(FIRST_POSTED).to_string(), "2017-12-01 00:00:00");
        assert_eq!(
            Moment::at(FIRST_POSTED + POSTED_WITHIN - 1).to_string(),
            "2022-12-31 23:59:59"
        );
    }

    #[test]
    fn countries_have_a_head_and_a_long_tail() {
        let mut countries = BTreeMap::<_, usize>::new();
        for post in samples() {
            *countries.entry(post.geo.country).or_default() += 1;
        }
        assert!(countries.len() > 200, "{}", countries.len());
        assert!(countries.values().max().unwrap() > &300);
        assert!(
            countries.keys().any(|country| country.contains('\''))
                && countries.keys().any(|country| country.contains('('))
        );
    }
}
