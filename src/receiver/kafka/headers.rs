//! Which content types each proxy takes and makes: the rules differ, and so do the refusals. Pure.

use hyper::{HeaderMap, StatusCode, header};

use super::dialect::{Dialect, Flaw};
use crate::receiver::answer::Answer;

pub(super) const REQUEST_TYPE: &str = "application/vnd.kafka.json.v2+json";
pub(super) const ANSWER_TYPE: &str = "application/vnd.kafka.v2+json";

pub(super) fn check(dialect: Dialect, headers: &HeaderMap) -> Result<(), Answer> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = header(header::CONTENT_TYPE);
    let accept = header(header::ACCEPT);
    match dialect {
        Dialect::Confluent => {
            if !content_type.is_some_and(|it| media_type(it).eq_ignore_ascii_case(REQUEST_TYPE)) {
                return Err(unsupported());
            }
            acceptable(accept.is_none_or(accepts))
        }
        // What it answers in does not depend on what the client accepts.
        Dialect::Strimzi => match content_type {
            Some(REQUEST_TYPE) => Ok(()),
            // Its contract passes a type with a parameter, and then it finds no converter for it.
            Some(it) if it.starts_with(REQUEST_TYPE) => {
                Err(dialect.refused(StatusCode::INTERNAL_SERVER_ERROR))
            }
            _ => Err(dialect.malformed(&Flaw::Type(
                "The format of the request body is not supported",
            ))),
        },
        Dialect::Karapace => {
            let format = karapace_format(media_type(content_type.unwrap_or(REQUEST_TYPE)));
            let format = format.ok_or_else(unsupported)?;
            let ranges = media_type(accept.unwrap_or("*/*"));
            acceptable(ranges.split(',').map(str::trim).any(|range| {
                range.ends_with("/*")
                    || range.ends_with("/json")
                    || karapace_format(range).is_some()
            }))?;
            match format {
                "json" => Ok(()),
                "binary" => {
                    Err(dialect
                        .malformed(&Flaw::Type("data=a JSON value  is not a base64 string.")))
                }
                _ => Err(Dialect::error(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    42202,
                    "Request includes values and uses a format that requires schemas \
                     but does not include the value_schema or value_schema_id fields",
                )),
            }
        }
        Dialect::Redpanda => {
            let any = |header: &str, known: &[&str]| {
                header
                    .split([',', ';', ' '])
                    .any(|word| known.contains(&word))
            };
            if !content_type.is_some_and(|it| any(it, &[REQUEST_TYPE])) {
                return Err(unsupported());
            }
            acceptable(accept.is_none_or(|it| any(it, &[ANSWER_TYPE, "*/*", ""])))
        }
    }
}

fn unsupported() -> Answer {
    Dialect::http_error(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

fn acceptable(is: bool) -> Result<(), Answer> {
    if is {
        Ok(())
    } else {
        Err(Dialect::http_error(StatusCode::NOT_ACCEPTABLE))
    }
}

fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

fn accepts(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let kind = media_type(range);
        let refused = range.split(';').skip(1).any(|parameter| {
            let weight = parameter
                .trim()
                .strip_prefix("q=")
                .and_then(|q| q.parse::<f32>().ok());
            weight.is_some_and(|q| q <= 0.0)
        });
        !refused
            && (kind == "*/*" || kind == "application/*" || kind.eq_ignore_ascii_case(ANSWER_TYPE))
    })
}

/// How Karapace reads the records of a request of this type. `None`: it does not know the type.
fn karapace_format(media_type: &str) -> Option<&str> {
    let kind = media_type.strip_prefix("application/")?;
    if matches!(kind, "json" | "octet-stream") {
        return Some("binary");
    }
    let kind = kind.strip_prefix("vnd.kafka")?.strip_suffix("+json")?;
    let kind = kind
        .strip_suffix(".v1")
        .or_else(|| kind.strip_suffix(".v2"))
        .unwrap_or(kind);
    match kind.strip_prefix('.') {
        None if kind.is_empty() => Some("binary"),
        Some(format @ ("json" | "binary" | "avro" | "protobuf" | "jsonschema")) => Some(format),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proxy_has_rules_of_its_own_for_types() {
        let with_parameter = format!("{REQUEST_TYPE}; charset=utf-8");
        let any = "*/*";
        for (dialect, content_type, accept, status) in [
            (Dialect::Confluent, REQUEST_TYPE, ANSWER_TYPE, 200),
            (Dialect::Confluent, &with_parameter, any, 200),
            (Dialect::Confluent, "application/json", any, 415),
            (Dialect::Confluent, REQUEST_TYPE, "application/json", 406),
            (Dialect::Strimzi, REQUEST_TYPE, "text/html", 200),
            (Dialect::Strimzi, &with_parameter, any, 500),
            (Dialect::Strimzi, "application/json", any, 400),
            (Dialect::Karapace, REQUEST_TYPE, ANSWER_TYPE, 200),
            (Dialect::Karapace, &with_parameter, "application/json", 200),
            (
                Dialect::Karapace,
                "application/vnd.kafka.json+json",
                any,
                200,
            ),
            (Dialect::Karapace, "application/json", any, 400),
            (
                Dialect::Karapace,
                "application/vnd.kafka.avro.v2+json",
                any,
                422,
            ),
            (Dialect::Karapace, "text/plain", any, 415),
            (Dialect::Karapace, REQUEST_TYPE, "text/html", 406),
            (Dialect::Redpanda, REQUEST_TYPE, ANSWER_TYPE, 200),
            (Dialect::Redpanda, &with_parameter, any, 200),
            (Dialect::Redpanda, REQUEST_TYPE, "", 200),
            (Dialect::Redpanda, REQUEST_TYPE, "application/json", 406),
            (Dialect::Redpanda, "application/json", any, 415),
        ] {
            let pairs = [
                (header::CONTENT_TYPE, content_type),
                (header::ACCEPT, accept),
            ];
            let headers = pairs.map(|(name, value)| (name, value.parse().unwrap()));
            let checked = check(dialect, &HeaderMap::from_iter(headers));
            let got = checked.map_or_else(|answer| answer.status.as_u16(), |()| 200);
            assert_eq!(got, status, "{dialect:?} {content_type} {accept}");
        }
    }
}
