//! Titles, descriptions, tags and names in the character of real posts: mostly English, some in other scripts, with
//! emoji, quotes, line breaks, stray blanks and descriptions cut in the middle. Knows no table.

use fake::locales::{AR_SA, DE_DE, Data, EN, FA_IR, FR_FR, IT_IT, JA_JP, PT_BR, TR_TR, ZH_CN};

use super::{
    dice::Dice,
    words::{SENTENCES, TITLES, Topic},
};

/// Descriptions are cut after so many characters, as those of real posts are.
const CUT_AFTER: usize = 175;
/// What a cut leaves: an ellipsis and a no-break space.
const CUT: &str = "…\u{a0}";
/// The years that titles mention.
const YEARS: [&str; 5] = ["2018", "2019", "2020", "2021", "2022"];

/// First and last names of one language.
#[derive(Debug, Clone, Copy)]
struct Names {
    first: &'static [&'static str],
    last: &'static [&'static str],
    /// The last name comes first, with no blank between them.
    joined: bool,
}

impl Names {
    const fn of<L: Data>() -> Self {
        Self {
            first: L::NAME_FIRST_NAME,
            last: L::NAME_LAST_NAME,
            joined: false,
        }
    }

    const fn joined<L: Data>() -> Self {
        Self {
            joined: true,
            ..Self::of::<L>()
        }
    }
}

// The lists of `fake` are pinned by Cargo.lock: another release of it may hold other names, and so make other rows.
const ENGLISH: Names = Names::of::<EN>();
const OTHERS: [Names; 9] = [
    Names::of::<FR_FR>(),
    Names::of::<DE_DE>(),
    Names::of::<PT_BR>(),
    Names::of::<IT_IT>(),
    Names::of::<TR_TR>(),
    Names::of::<AR_SA>(),
    Names::of::<FA_IR>(),
    Names::joined::<JA_JP>(),
    Names::joined::<ZH_CN>(),
];

/// First and last name of a user.
pub(super) fn user_name(dice: &mut Dice) -> (&'static str, &'static str) {
    let names = names(dice, 100);
    (dice.pick_early(names.first), dice.pick(names.last))
}

/// A title; a few have blanks at their ends.
pub(super) fn title(dice: &mut Dice, topic: &Topic) -> String {
    let text = if dice.chance(60) {
        dice.pick(topic.abroad).to_owned()
    } else {
        let template = dice.pick(TITLES);
        let plain = expand(dice, topic, template);
        match dice.below(10) {
            0..=5 => title_case(&plain),
            6 => plain.to_uppercase(),
            _ => capitalised(&plain),
        }
    };
    match dice.below(40) {
        0 => format!(" {text}"),
        1 => format!("{text} "),
        _ => text,
    }
}

/// A description: sentences, sometimes broken into lines, sometimes with hashtags, cut where it grows too long.
pub(super) fn description(dice: &mut Dice, topic: &Topic) -> String {
    let between = if dice.chance(70) { "\n" } else { " " };
    let length = usize::try_from(40 + dice.below(220)).unwrap_or(CUT_AFTER);
    let mut text = if dice.chance(80) {
        dice.pick(topic.abroad).to_owned()
    } else {
        String::new()
    };
    // One after the other from a random start: no sentence comes twice in a row.
    let mut topical = cycle(dice, topic.sentences);
    let mut general = cycle(dice, SENTENCES);
    while text.chars().count() < length {
        if !text.is_empty() {
            text.push_str(between);
        }
        let next = if dice.chance(500) {
            topical.next()
        } else {
            general.next()
        };
        text.push_str(&capitalised(&expand(dice, topic, next.unwrap_or_default())));
    }
    if dice.chance(150) {
        for _ in 0..=dice.below(3) {
            text.push_str(" #");
            text.extend(
                dice.pick(topic.things)
                    .chars()
                    .filter(|c| c.is_alphanumeric()),
            );
        }
    }
    match text.char_indices().nth(CUT_AFTER) {
        Some((end, _)) => {
            text.truncate(end);
            text.push_str(CUT);
        }
        None if dice.chance(20) => text.insert(0, ' '),
        None => {}
    }
    text
}

/// Who runs the account: a person, a blog, a shop.
pub(super) fn poster_name(dice: &mut Dice, topic: &Topic) -> String {
    let names = names(dice, 200);
    let person = |dice: &mut Dice| full_name(dice, names);
    match dice.below(20) {
        0..=9 => person(dice),
        10 | 11 => format!("{} | {}", person(dice), title_case(dice.pick(topic.things))),
        12 => format!("{} & {}", dice.pick(names.last), dice.pick(names.last)),
        13 | 14 => format!(
            "{} by {}",
            title_case(dice.pick(topic.things)),
            dice.pick(names.first)
        ),
        15 => format!(
            "{} \"{}\" {}",
            dice.pick(names.first),
            capitalised(dice.pick(topic.traits)),
            dice.pick(names.last)
        ),
        16 => format!("{} {}", person(dice), dice.pick(topic.emoji)),
        17 => format!(
            "{}'s {}",
            dice.pick(names.first),
            title_case(dice.pick(topic.things))
        ),
        _ => {
            let (a, t) = (dice.pick(topic.traits), dice.pick(topic.things));
            format!(
                "The {} | Tips, Ideas, Inspiration",
                title_case(&format!("{a} {t}"))
            )
        }
    }
}

/// Tags, joined by commas as the table has them.
pub(super) fn tag_list(dice: &mut Dice, topic: &Topic) -> String {
    let tags = 6 + dice.below(4);
    let mut list = String::new();
    for thing in cycle(dice, topic.things).take(usize::try_from(tags).unwrap_or_default()) {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&title_case(&match dice.below(4) {
            0 => thing.to_owned(),
            1 => format!("{thing} ideas"),
            2 => format!("{thing} {}", dice.pick(topic.scenes)),
            _ => format!("{} {thing}", dice.pick(topic.traits)),
        }));
    }
    list
}

/// All of a list again and again, from a random start.
fn cycle(
    dice: &mut Dice,
    of: &'static [&'static str],
) -> impl Iterator<Item = &'static str> + use<> {
    let start = dice.index(of.len());
    of.iter().copied().cycle().skip(start)
}

/// English names but for `permille` in a thousand.
fn names(dice: &mut Dice, permille: u64) -> Names {
    if dice.chance(permille) {
        dice.pick(&OTHERS)
    } else {
        ENGLISH
    }
}

fn full_name(dice: &mut Dice, names: Names) -> String {
    let (first, last) = (dice.pick(names.first), dice.pick(names.last));
    if names.joined {
        format!("{last}{first}")
    } else {
        format!("{first} {last}")
    }
}

/// Puts words in the place of `{t}` and its like, no thing and no trait twice.
fn expand(dice: &mut Dice, topic: &Topic, template: &str) -> String {
    let mut text = String::with_capacity(2 * template.len());
    let (mut things, mut traits) = (cycle(dice, topic.things), cycle(dice, topic.traits));
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let (word, after) = after.split_once('}').unwrap_or((after, ""));
        match word {
            "t" => text.push_str(things.next().unwrap_or_default()),
            "a" => text.push_str(traits.next().unwrap_or_default()),
            "s" => text.push_str(dice.pick(topic.scenes)),
            "e" => text.push_str(dice.pick(topic.emoji)),
            "y" => text.push_str(dice.pick(&YEARS)),
            "n" => text.push_str(&(3 + dice.small_below(98)).to_string()),
            _ => text.push_str(&full_name(dice, ENGLISH)),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// Every word with a capital letter.
fn title_case(text: &str) -> String {
    let mut title = String::with_capacity(text.len());
    let mut starts = true;
    for c in text.chars() {
        if starts {
            title.extend(c.to_uppercase());
        } else {
            title.push(c);
        }
        starts = c == ' ' || c == '"';
    }
    title
}
