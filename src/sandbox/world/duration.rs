//! A duration of the world file, such as `300ms` or `1.5s`.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const PATTERN: &str = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$|^never$";

/// A duration; `never` is longer than any sandbox lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl Time {
    pub const NEVER: Self = Self(Duration::from_secs(10 * 365 * 24 * 3600));

    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "never" {
            return Some(Self::NEVER);
        }
        let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
        let factor = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let seconds: f64 = number.parse().ok()?;
        Duration::try_from_secs_f64(seconds * factor).ok().map(Self)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::NEVER => serializer.serialize_str("never"),
            Self(time) => serializer.collect_str(&format_args!("{}ms", time.as_millis())),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not a duration such as 300ms, 1.5s or never")))
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "description": "A duration such as 300ms, 1.5s, 10m or never."})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse() {
        for (text, ms) in [("300ms", 300), ("1.5s", 1500), ("2m", 120_000), ("0s", 0)] {
            assert_eq!(Time::parse(text), Some(Time::from_millis(ms)), "{text}");
        }
        assert_eq!(Time::parse("never"), Some(Time::NEVER));
        for text in ["", "5", "s", "-1s", "5d", "1 s"] {
            assert_eq!(Time::parse(text), None, "{text}");
        }
    }
}
