//! The pin of a synthetic post: texts, followers, medium and picture. Knows its user, but not where and when.

use super::{FIRST_JOINED, JOINED_WITHIN, OLDEST, User, YOUNGEST, dice::Dice, text, words::Topic};

/// Posts in a thousand of which everything but the category could not be read, and says so.
const PLACEHOLDERS_PERMILLE: u64 = 15;

/// A row of `pinterest_data` without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) unique_id: String,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) poster_name: String,
    pub(crate) follower_count: String,
    pub(crate) tag_list: String,
    pub(crate) is_image_or_video: &'static str,
    pub(crate) image_src: String,
    pub(crate) downloaded: u8,
    pub(crate) save_location: String,
    pub(crate) category: &'static str,
}

impl Pin {
    pub(super) fn draw(dice: &mut Dice, topic: &Topic, user: &User) -> Self {
        let unique_id = uuid(dice.bytes());
        let category = topic.name;
        let save_location = format!("Local save in /data/{category}");
        if dice.chance(PLACEHOLDERS_PERMILLE) {
            return Self {
                unique_id,
                title: "No Title Data Available".to_owned(),
                description: "No description available Story format".to_owned(),
                poster_name: "User Info Error".to_owned(),
                follower_count: "User Info Error".to_owned(),
                tag_list: "N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e".to_owned(),
                is_image_or_video: "multi-video(story page format)",
                image_src: "Image src error.".to_owned(),
                downloaded: 0,
                save_location,
                category,
            };
        }
        let (is_image_or_video, image_src) = image(dice);
        Self {
            unique_id,
            title: text::title(dice, topic),
            description: text::description(dice, topic),
            poster_name: text::poster_name(dice, topic),
            follower_count: follower_count(dice, user),
            tag_list: text::tag_list(dice, topic),
            is_image_or_video,
            image_src,
            downloaded: 1,
            save_location,
            category,
        }
    }
}

/// `437`, `124k` or `2M`. The young and those who joined early have more followers.
fn follower_count(dice: &mut Dice, user: &User) -> String {
    let early = (FIRST_JOINED + JOINED_WITHIN).saturating_sub(user.date_joined.seconds());
    let youth = u64::from(OLDEST.saturating_sub(user.age));
    // From 0 to 200, and about 120 in the mean.
    let lift = 100 * early / JOINED_WITHIN + 100 * youth / u64::from(OLDEST - YOUNGEST);
    match dice.below(800) + 2 * lift {
        0..395 => dice.below(1000).to_string(),
        395..600 => format!("{}k", 1 + dice.below(9)),
        600..850 => format!("{}k", 10 + dice.below(90)),
        850..1000 => format!("{}k", 100 + dice.below(900)),
        _ => format!("{}M", 1 + dice.small_below(15)),
    }
}

/// What kind of medium the post shows, and where its picture would be.
fn image(dice: &mut Dice) -> (&'static str, String) {
    let hex = dice.bytes::<16>().map(|byte| format!("{byte:02x}"));
    let (folder, file) = (hex[..3].join("/"), hex.concat());
    match dice.below(100) {
        0..74 => {
            let suffix = dice.pick_early(&["jpg", "png", "jpg", "gif"]);
            (
                "image",
                format!("https://i.pinimg.com/originals/{folder}/{file}.{suffix}"),
            )
        }
        74..92 => (
            "video",
            format!("https://i.pinimg.com/videos/thumbnails/originals/{folder}/{file}.0000001.jpg"),
        ),
        _ => (
            "multi-video(story page format)",
            format!("https://i.pinimg.com/originals/{folder}/{file}.jpg"),
        ),
    }
}

/// The bytes as a random UUID (version 4).
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = u128::from_be_bytes(bytes);
    let hex = format!("{hex:032x}");
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sample::tests::{POSTS, permille, samples};

    fn pins() -> impl Iterator<Item = &'static Pin> {
        samples()
            .map(|post| &post.pin)
            .filter(|pin| pin.downloaded == 1)
    }

    #[test]
    fn placeholders_come_all_together() {
        let share = permille(samples(), |post| {
            post.pin.title == "No Title Data Available"
        });
        assert!((10..=20).contains(&share), "{share}");
        for pin in samples().map(|post| &post.pin) {
            assert_eq!(pin.downloaded == 0, pin.title == "No Title Data Available");
            assert_eq!(pin.downloaded == 0, pin.image_src == "Image src error.");
            assert_eq!(pin.downloaded == 0, pin.follower_count == "User Info Error");
            assert_eq!(
                pin.save_location,
                format!("Local save in /data/{}", pin.category)
            );
        }
    }

    #[test]
    fn followers_are_digits_with_k_or_m() {
        let (k, m) = (
            permille(pins(), |pin| pin.follower_count.ends_with('k')),
            permille(pins(), |pin| pin.follower_count.ends_with('M')),
        );
        assert!((720..=780).contains(&k), "{k}");
        assert!((50..=90).contains(&m), "{m}");
        for pin in pins() {
            let digits = pin.follower_count.trim_end_matches(['k', 'M']);
            assert!(
                digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit()),
                "{}",
                pin.follower_count
            );
        }
    }

    #[test]
    fn pins_have_the_size_and_the_oddities_of_real_ones() {
        // As a JSON object, a pin has 172 bytes besides its values.
        let sizes: Vec<_> = pins()
            .map(|pin| {
                let texts = [
                    &pin.unique_id,
                    &pin.title,
                    &pin.description,
                    &pin.poster_name,
                    &pin.follower_count,
                    &pin.tag_list,
                ];
                let others = pin.image_src.len()
                    + pin.save_location.len()
                    + pin.category.len()
                    + pin.is_image_or_video.len();
                172 + texts.iter().map(|text| text.len()).sum::<usize>() + others
            })
            .collect();
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((600..=750).contains(&mean), "{mean}");
        assert!(sizes.iter().all(|&size| size < 2048));

        let texts = || pins().flat_map(|pin| [&pin.title, &pin.description, &pin.poster_name]);
        for oddity in ['"', ',', '\'', '\n', 'λ', 'и', 'の', 'ا', '🎄', 'é'] {
            assert!(texts().any(|text| text.contains(oddity)), "{oddity}");
        }
        assert!(
            texts().any(|text| text.starts_with(' ')) && texts().any(|text| text.ends_with(' '))
        );
        assert!(pins().all(|pin| !pin.title.is_empty()
            && !pin.description.is_empty()
            && !pin.poster_name.is_empty()));
        // A NUL or a backslash would need more care in SQL text.
        assert!(!texts().any(|text| text.contains(['\0', '\\', '{', '}'])));
        let cut = permille(pins(), |pin| pin.description.ends_with("…\u{a0}"));
        assert!((200..=600).contains(&cut), "{cut}");
        assert!(pins().all(|pin| pin.description.chars().count() <= 178));
    }

    #[test]
    fn ids_are_distinct_version_4_uuids() {
        let ids: BTreeSet<_> = samples().map(|post| &post.pin.unique_id).collect();
        assert_eq!(ids.len() as u64, POSTS);
        for id in ids {
            assert!(
                id.len() == 36 && &id[14..15] == "4" && "89ab".contains(&id[19..20]),
                "{id}"
            );
            assert_eq!(&id.to_lowercase(), id);
        }
    }
}
