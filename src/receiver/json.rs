//! JSON as text: what the two APIs need done to it without building a tree. Knows neither of them.

use std::{borrow::Cow, fmt, marker::PhantomData};

use memchr::memchr2;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Value, value::RawValue};

/// A `T` that is written as an object. (A derived struct would also take an array of its fields.)
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyMap<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyMap<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(OnlyMap(PhantomData))
    }
}

/// Splits a JSON value off the front of a text: the value and what stands behind it. None where that takes a parser: blanks
/// between the parts of the value, or many levels of them; and where there is no value. Several times as fast as one that
/// has to say what is wrong. The text holds no control characters.
pub(super) fn split_value(text: &str) -> Option<(&str, &str)> {
    let behind = behind_value(text.as_bytes(), DEEPEST)?;
    text.split_at_checked(text.len() - behind.len())
}

/// Levels of a value, more than the rows of a table have.
const DEEPEST: usize = 16;

fn behind_value(json: &[u8], levels: usize) -> Option<&[u8]> {
    match json {
        [b'"', rest @ ..] => behind_string(rest),
        [b'{', b'}', rest @ ..]
        | [b'[', b']', rest @ ..]
        | [b'n', b'u', b'l', b'l', rest @ ..]
        | [b't', b'r', b'u', b'e', rest @ ..]
        | [b'f', b'a', b'l', b's', b'e', rest @ ..] => Some(rest),
        [b'{', rest @ ..] => behind_items(rest, b'}', |item| {
            let value = behind_string(item.strip_prefix(b"\"")?)?.strip_prefix(b":")?;
            behind_value(value, levels.checked_sub(1)?)
        }),
        [b'[', rest @ ..] => behind_items(rest, b']', |item| {
            behind_value(item, levels.checked_sub(1)?)
        }),
        number => behind_number(number),
    }
}

/// Behind items with commas between them and `end` after the last.
fn behind_items(
    mut json: &[u8],
    end: u8,
    behind_item: impl Fn(&[u8]) -> Option<&[u8]>,
) -> Option<&[u8]> {
    loop {
        match behind_item(json)? {
            [b',', rest @ ..] => json = rest,
            [it, rest @ ..] if *it == end => return Some(rest),
            _ => return None,
        }
    }
}

/// Behind a string whose first quote has been read.
fn behind_string(mut json: &[u8]) -> Option<&[u8]> {
    loop {
        match &json[memchr2(b'"', b'\\', json)?..] {
            [b'"', rest @ ..] => return Some(rest),
            [_, b'u', rest @ ..]
                if rest.iter().take_while(|it| it.is_ascii_hexdigit()).count() >= 4 =>
            {
                json = &rest[4..];
            }
            [
                _,
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                rest @ ..,
            ] => json = rest,
            _ => return None,
        }
    }
}

fn behind_number(json: &[u8]) -> Option<&[u8]> {
    let behind_digits = |json: &[u8]| match json.iter().take_while(|it| it.is_ascii_digit()).count()
    {
        0 => None,
        count => Some(count),
    };
    let json = json.strip_prefix(b"-").unwrap_or(json);
    let mut rest = match json {
        [b'0', rest @ ..] => rest,
        json => &json[behind_digits(json)?..],
    };
    if let [b'.', fraction @ ..] = rest {
        rest = &fraction[behind_digits(fraction)?..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let digits = exponent
            .strip_prefix(b"+")
            .or_else(|| exponent.strip_prefix(b"-"));
        let exponent = digits.unwrap_or(exponent);
        rest = &exponent[behind_digits(exponent)?..];
    }
    Some(rest)
}

/// The text of a JSON value as one line: as it is, unless it has line breaks between its tokens.
pub(super) fn one_line(json: &str) -> Cow<'_, str> {
    if !json.contains(['\n', '\r']) {
        return Cow::Borrowed(json);
    }
    let (mut in_string, mut escaped) = (false, false);
    let compact = json.chars().filter(|&c| {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            true
        } else {
            in_string = c == '"';
            !c.is_ascii_whitespace()
        }
    });
    Cow::Owned(compact.collect())
}

/// Any text as one line of JSON: itself if it is JSON, else a string.
pub(super) fn value_or_string(text: &str) -> Cow<'_, str> {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(value) => one_line(value.get()),
        Err(_) => Cow::Owned(Value::from(text).to_string()),
    }
}

/// What a JSON string says; any other value as Java prints its maps and lists: `{a=1, b=[x, y]}`.
pub(super) fn java_text(json: &RawValue) -> Cow<'_, str> {
    let json = json.get();
    match json
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inner) if !inner.contains('\\') => return Cow::Borrowed(inner),
        Some(_) => return Cow::Owned(unquoted(json)),
        None => {}
    }
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            '"' => {
                taken = string_length(rest);
                out.push_str(&unquoted(&rest[..taken]));
            }
            ':' => out.push('='),
            ',' => out.push_str(", "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
        rest = &rest[taken..];
    }
    Cow::Owned(out)
}

fn unquoted(string: &str) -> String {
    serde_json::from_str(string).unwrap_or_default()
}

/// The length of the JSON string at the start of `json`, quotes included.
fn string_length(json: &str) -> usize {
    let mut escaped = false;
    let end = json.bytes().skip(1).position(|b| {
        let end = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        end
    });
    end.map_or(json.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_without_line_breaks_is_left_alone() {
        let text = r#"{ "a": "x\ny",  "b": -89.97870 }"#;
        assert_eq!(one_line(text), text);
    }

    #[test]
    fn a_value_is_split_off_whatever_follows() {
        for value in [
            "{}",
            "[]",
            "null",
            "true",
            "false",
            "0",
            "-0.5e+10",
            "12E-3",
            r#""""#,
            r#""\"\\\/\b\f\n\r\t\u00e9é {[,]}""#,
            r#"{"a":1,"b c":[1,[2,{"d":null}]],"":"x"}"#,
        ] {
            for rest in ["", "}", ",1", "]]", " "] {
                let text = format!("{value}{rest}");
                assert_eq!(split_value(&text), Some((value, rest)));
            }
        }
    }

    proptest! {
        /// Whatever it splits off is a value to the parser, and the parser finds none that it says is not there but those
        /// with blanks.
        #[test]
        fn what_is_split_off_is_what_the_parser_reads(
            text in r#"([ -~é]|[{}\[\]",:.0-9eE+-]|true|null|"[a-z\\\\"u0-9]{0,5}"){0,12}"#
        ) {
            match split_value(&text) {
                Some((value, _)) => {
                    let parsed = serde_json::from_str::<&RawValue>(value);
                    prop_assert_eq!(parsed.unwrap().get(), value);
                }
                None if !text.contains(' ') => {
                    // A parser that reads on after the first value.
                    let first = serde_json::Deserializer::from_str(&text).into_iter::<&RawValue>().next();
                    prop_assert!(!matches!(first, Some(Ok(_))), "{}", text);
                }
                None => {}
            }
        }
    }

    #[test]
    fn a_value_with_line_breaks_is_compacted_outside_its_strings() {
        assert_eq!(
            one_line("{\r\n  \"a b\": \"c \\\" d\\\\\",\n\t\"e\": [1, 2.50]\n}"),
            r#"{"a b":"c \" d\\","e":[1,2.50]}"#
        );
    }

    #[test]
    fn text_that_is_not_json_becomes_a_string() {
        assert_eq!(value_or_string(r#"{"a": 1}"#), r#"{"a": 1}"#);
        assert_eq!(value_or_string("{a=1}"), r#""{a=1}""#);
        assert_eq!(value_or_string("say \"hi\""), r#""say \"hi\"""#);
        assert_eq!(value_or_string(""), r#""""#);
    }

    #[test]
    fn an_object_reads_as_the_text_of_a_java_map() {
        let text =
            |json: &str| java_text(&RawValue::from_string(json.to_owned()).unwrap()).into_owned();
        assert_eq!(
            text(r#"{"a": 1, "b": "x: \"y\", z", "c": [true, null, {}]}"#),
            r#"{a=1, b=x: "y", z, c=[true, null, {}]}"#
        );
        assert_eq!(text(r#""a\"b""#), "a\"b");
        assert_eq!(text(r#""plain""#), "plain");
        assert_eq!(text("17"), "17");
    }

    #[test]
    fn an_array_is_not_an_object() {
        #[derive(Deserialize)]
        struct A {
            a: u32,
        }
        assert_eq!(
            serde_json::from_str::<Object<A>>(r#"{"a":1}"#)
                .map(|Object(it)| it.a)
                .unwrap(),
            1
        );
        assert!(serde_json::from_str::<Object<A>>("[1]").is_err());
    }
}
