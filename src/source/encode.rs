//! Rows to JSON, once, straight from what the database prints. No database here: bytes in, bytes out.

use std::iter;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::Place;
use crate::{
    post::{Key, Record},
    wall_time::WallTime,
};

/// How the text that a server prints for a column becomes a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The server's own digits.
    Number,
    /// A string.
    Text,
    /// Base64, for bytes that are not text.
    Bytes,
    /// The bits of a `BIT` column, as an unsigned integer.
    Bits,
}

/// A column as it is written: `{"index":` or `,"title":`, made once.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// None where each value has a type of its own (SQLite).
    pub(crate) shape: Option<Shape>,
    prefix: Vec<u8>,
    /// The prefix and what fills it up to a length that is known beforehand, if it is no longer than that: so many bytes are
    /// copied without a call.
    padded: Option<[u8; 2 * BLOCK]>,
}

impl Column {
    pub(crate) fn new(name: &str, shape: Option<Shape>, first: bool) -> Self {
        let mut prefix = vec![if first { b'{' } else { b',' }, b'"'];
        put_escaped(&mut prefix, name.as_bytes());
        prefix.extend_from_slice(b"\":");
        let mut padded = prefix.clone();
        padded.resize(prefix.len().max(2 * BLOCK), 0);
        Self {
            name: name.to_owned(),
            shape,
            prefix,
            padded: padded.try_into().ok(),
        }
    }

    fn put_prefix(&self, out: &mut Vec<u8>) {
        match &self.padded {
            Some(padded) => {
                let end = out.len() + self.prefix.len();
                out.extend_from_slice(padded);
                out.truncate(end);
            }
            None => out.extend_from_slice(&self.prefix),
        }
    }
}

/// A value that is not what its column says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadValue {
    #[error("text that is not UTF-8")]
    NotUtf8,
    #[error("not a number")]
    NotANumber,
}

/// Rows of one table, in the order they came, as JSON objects in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    text: Vec<u8>,
    /// For each row its key and where it ends.
    ends: Vec<(Key, usize)>,
    /// For each row its recorded time, where that is asked for.
    times: Vec<Option<WallTime>>,
    /// Keys of rows that were left out because the row before had the same.
    repeated: Vec<Key>,
}

impl Rows {
    /// With room for so many bytes of JSON.
    pub(crate) fn with_room(bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes),
            ..Self::default()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of JSON so far.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Room for as many bytes again, and some more.
    pub(crate) fn room(&self) -> usize {
        self.bytes() + self.bytes() / 16
    }

    pub(crate) fn last_key(&self) -> Option<Key> {
        self.ends.last().map(|(key, _)| *key)
    }

    /// Where the last row stands.
    pub(crate) fn last(&self) -> Option<Place> {
        self.last_key().map(|key| Place {
            time: self.times.last().copied().flatten(),
            key,
        })
    }

    /// Writes the value of the next column. `raw`: its type and what the database prints; none for NULL.
    pub(crate) fn put(
        &mut self,
        column: &Column,
        raw: Option<(Shape, &[u8])>,
    ) -> Result<(), BadValue> {
        let out = &mut self.text;
        column.put_prefix(out);
        let Some((shape, raw)) = raw else {
            out.extend_from_slice(b"null");
            return Ok(());
        };
        match shape {
            Shape::Number => put_number(out, raw)?,
            Shape::Text => {
                let traits = traits(raw);
                if traits & NOT_ASCII != 0 && simdutf8::basic::from_utf8(raw).is_err() {
                    return Err(BadValue::NotUtf8);
                }
                out.push(b'"');
                if traits & SPECIAL == 0 {
                    out.extend_from_slice(raw);
                } else {
                    put_escaped(out, raw);
                }
                out.push(b'"');
            }
            Shape::Bytes => {
                out.push(b'"');
                out.extend_from_slice(STANDARD.encode(raw).as_bytes());
                out.push(b'"');
            }
            Shape::Bits => {
                let bits = raw
                    .iter()
                    .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
                out.extend_from_slice(bits.to_string().as_bytes());
            }
        }
        Ok(())
    }

    /// Ends the row whose columns have been put.
    pub(crate) fn end(&mut self, key: Key) {
        self.text.push(b'}');
        self.ends.push((key, self.text.len()));
    }

    /// Says when the row that has just ended was recorded; none: at no time that can be told. For each row or for none.
    pub(crate) fn put_time(&mut self, time: Option<WallTime>) {
        self.times.push(time);
    }

    /// Leaves a row out: the one before has the same key.
    pub(crate) fn repeat(&mut self, key: Key) {
        self.repeated.push(key);
    }

    pub(crate) fn repeated(&self) -> &[Key] {
        &self.repeated
    }

    /// Forgets the last rows if they have this key.
    pub(crate) fn cut(&mut self, key: Key) {
        while self.ends.pop_if(|(last, _)| *last == key).is_some() {}
        while self.repeated.pop_if(|last| *last == key).is_some() {}
        self.times.truncate(self.ends.len());
        self.text
            .truncate(self.ends.last().map_or(0, |(_, end)| *end));
    }

    /// The rows one by one, sharing the buffer.
    pub(crate) fn into_records(self) -> impl Iterator<Item = (Key, Record)> {
        self.into_placed()
            .map(|(place, record)| (place.key, record))
    }

    /// The same, with the recorded times.
    pub(crate) fn into_placed(self) -> impl Iterator<Item = (Place, Record)> {
        let text = Bytes::from(self.text);
        let times = self.times.into_iter().chain(iter::repeat(None));
        let mut start = 0;
        self.ends
            .into_iter()
            .zip(times)
            .map(move |((key, end), time)| {
                let record = text.slice(start..end);
                start = end;
                (Place { time, key }, record)
            })
    }
}

/// A key as the server prints it; `ZEROFILL` prints leading zeros.
pub(crate) fn key(raw: &[u8]) -> Option<Key> {
    let number = match few_digits(raw) {
        Some(number) => number.into(),
        None => std::str::from_utf8(raw).ok()?.parse().ok()?,
    };
    (Key::MIN.0..=Key::MAX.0)
        .contains(&number)
        .then_some(Key(number))
}

/// What nearly all keys are, read several times as fast: digits, and no more of them than fit into 64 bits.
fn few_digits(raw: &[u8]) -> Option<i64> {
    if !(1..19).contains(&raw.len()) {
        return None;
    }
    raw.iter().try_fold(0, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| byte - b'0')?;
        Some(number * 10 + i64::from(digit))
    })
}

/// Digits as they are, but JSON allows no leading zeros.
fn put_number(out: &mut Vec<u8>, raw: &[u8]) -> Result<(), BadValue> {
    let (sign, digits) = match raw {
        [b'-', digits @ ..] => (&raw[..1], digits),
        digits => (&raw[..0], digits),
    };
    let zeros = digits
        .windows(2)
        .take_while(|pair| pair[0] == b'0' && pair[1].is_ascii_digit())
        .count();
    let digits = &digits[zeros..];
    if !digits.first().is_some_and(u8::is_ascii_digit) {
        return Err(BadValue::NotANumber);
    }
    out.extend_from_slice(sign);
    out.extend_from_slice(digits);
    Ok(())
}

/// Bytes of a text that are looked at together.
const BLOCK: usize = 16;

/// For each byte what stands behind the backslash: 0 for bytes that need none, `u` for the long form.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = b'u';
        control += 1;
    }
    escapes[0x08] = b'b';
    escapes[b'\t' as usize] = b't';
    escapes[b'\n' as usize] = b'n';
    escapes[0x0c] = b'f';
    escapes[b'\r' as usize] = b'r';
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes
};

/// The inside of a JSON string, escaped only where JSON requires it.
fn put_escaped(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(at) = text.iter().position(|byte| ESCAPES[*byte as usize] != 0) {
        out.extend_from_slice(&text[..at]);
        match ESCAPES[text[at] as usize] {
            b'u' => out.extend_from_slice(format!("\\u{:04x}", text[at]).as_bytes()),
            escape => out.extend_from_slice(&[b'\\', escape]),
        }
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

/// A byte that stands behind a backslash in a JSON string.
const SPECIAL: u8 = 1;
/// A byte of a character that is not ASCII.
const NOT_ASCII: u8 = 0x80;

/// What there is in a text: [`SPECIAL`] or [`NOT_ASCII`] bytes. One look at the text answers both questions, which for most
/// texts is no.
fn traits(text: &[u8]) -> u8 {
    let (blocks, rest) = text.as_chunks();
    let seen = blocks.iter().fold([0; BLOCK], look);
    // A block that ends with the text, though some of it has been seen, is looked at faster than the few bytes that are left.
    let seen = if let Some(last) = text.last_chunk() {
        look(seen, last)
    } else {
        let mut padded = [b' '; BLOCK];
        padded[..rest.len()].copy_from_slice(rest);
        look(seen, &padded)
    };
    let seen = u128::from_ne_bytes(seen);
    let any = |it: u8| {
        if seen & u128::from_ne_bytes([it; BLOCK]) == 0 {
            0
        } else {
            it
        }
    };
    any(SPECIAL) | any(NOT_ASCII)
}

/// Adds the traits of a block, place by place: a few steps of the processor, since there is no branch.
#[inline]
fn look(mut seen: [u8; BLOCK], block: &[u8; BLOCK]) -> [u8; BLOCK] {
    for (seen, &byte) in seen.iter_mut().zip(block) {
        // Numbers, since truths are combined with branches.
        let special = u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
        *seen |= special | (byte & NOT_ASCII);
    }
    seen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(shape: Shape, raw: &[u8]) -> Result<String, BadValue> {
        let mut rows = Rows::default();
        rows.put(&Column::new("x", None, true), Some((shape, raw)))?;
        rows.end(Key(0));
        let (_, record) = rows.into_records().next().unwrap();
        let text = String::from_utf8(record.to_vec()).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        Ok(text
            .trim_start_matches("{\"x\":")
            .trim_end_matches('}')
            .to_owned())
    }

    #[test]
    fn numbers_keep_the_digits_of_the_server() {
        for number in [
            "0",
            "-89.9787",
            "8.65953",
            "18446744073709551615",
            "1e20",
            "0.5",
            "-0.0000000001",
            "1.50",
        ] {
            assert_eq!(value(Shape::Number, number.as_bytes()).unwrap(), number);
        }
        for (printed, number) in [
            ("00042", "42"),
            ("000", "0"),
            ("-007", "-7"),
            ("00.5", "0.5"),
            ("000e1", "0e1"),
        ] {
            assert_eq!(value(Shape::Number, printed.as_bytes()).unwrap(), number);
        }
        for no in ["", "-", "nan", "inf", ".5"] {
            assert_eq!(
                value(Shape::Number, no.as_bytes()),
                Err(BadValue::NotANumber),
                "{no}"
            );
        }
    }

    #[test]
    fn text_is_escaped_only_where_json_requires_it() {
        let text = "a\"b\\c/d\u{1}\u{8}\t\n\u{c}\r\u{1f}\u{7f}é\u{2028}😀… \u{a0}";
        let json = value(Shape::Text, text.as_bytes()).unwrap();
        assert_eq!(
            json,
            "\"a\\\"b\\\\c/d\\u0001\\b\\t\\n\\f\\r\\u001f\u{7f}é\u{2028}😀… \u{a0}\""
        );
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        assert_eq!(value(Shape::Text, b"\xff"), Err(BadValue::NotUtf8));
    }

    proptest! {
        /// Of any length, with what is special at any place of a block.
        #[test]
        fn any_text_reads_back(text in r#"([a-z]|[a-z "\\\u{0}-\u{20}é😀]){0,70}"#) {
            let json = value(Shape::Text, text.as_bytes()).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn no_text_that_is_not_utf8_passes(text in "[a-zé]{0,40}", rest in "[a-z]{0,40}") {
            let bytes = [text.as_bytes(), &[0xff], rest.as_bytes()].concat();
            prop_assert_eq!(value(Shape::Text, &bytes), Err(BadValue::NotUtf8));
        }
    }

    #[test]
    fn a_column_may_have_a_name_of_any_length() {
        for length in [1, 27, 28, 29, 100] {
            let name = "n".repeat(length);
            let mut rows = Rows::default();
            rows.put(&Column::new(&name, None, true), None).unwrap();
            rows.end(Key(0));
            let (_, record) = rows.into_records().next().unwrap();
            assert_eq!(record, format!("{{\"{name}\":null}}"));
        }
    }

    #[test]
    fn bytes_are_base64_and_bits_an_integer() {
        assert_eq!(value(Shape::Bytes, b"\xff\x00a").unwrap(), "\"/wBh\"");
        assert_eq!(value(Shape::Bits, &[0, 5]).unwrap(), "5");
        assert_eq!(value(Shape::Bits, &[255; 8]).unwrap(), u64::MAX.to_string());
    }

    #[test]
    fn a_row_is_an_object_in_the_order_of_its_columns() {
        let columns = [
            Column::new("index", None, true),
            Column::new("a \"b\"", None, false),
        ];
        let mut rows = Rows::default();
        for (key, text) in [(7, None), (8, Some("x"))] {
            rows.put(
                &columns[0],
                Some((Shape::Number, key.to_string().as_bytes())),
            )
            .unwrap();
            rows.put(
                &columns[1],
                text.map(|text: &str| (Shape::Text, text.as_bytes())),
            )
            .unwrap();
            rows.end(Key(key));
        }
        let records: Vec<_> = rows.into_records().collect();
        assert_eq!(
            records[0],
            (Key(7), Bytes::from_static(br#"{"index":7,"a \"b\"":null}"#))
        );
        assert_eq!(
            records[1],
            (Key(8), Bytes::from_static(br#"{"index":8,"a \"b\"":"x"}"#))
        );
    }

    #[test]
    fn cutting_a_key_leaves_the_rows_before_it() {
        let column = Column::new("i", None, true);
        let mut rows = Rows::default();
        for key in [1, 2, 2] {
            rows.put(&column, Some((Shape::Number, b"0"))).unwrap();
            rows.end(Key(key));
        }
        rows.cut(Key(2));
        assert_eq!(rows.last_key(), Some(Key(1)));
        rows.cut(Key(1));
        assert_eq!((rows.last_key(), rows.bytes()), (None, 0));
    }

    #[test]
    fn a_key_is_any_integer_that_the_database_can_hold() {
        assert_eq!(key(b"00012"), Some(Key(12)));
        assert_eq!(key(b"-7"), Some(Key(-7)));
        assert_eq!(
            key(b"999999999999999999"),
            Some(Key(999_999_999_999_999_999))
        );
        assert_eq!(key(b"0000000000000000000000007"), Some(Key(7)));
        assert_eq!(key(b"-9223372036854775808"), Some(Key::MIN));
        assert_eq!(key(b"18446744073709551615"), Some(Key::MAX));
        for no in [&b"18446744073709551616"[..], b"", b"1.5", b"a", b"\xff"] {
            assert_eq!(key(no), None);
        }
    }
}
