//! What a scalar means: as YAML 1.2 reads it (the pipeline file), and as Helm does (values files: YAML 1.1, as Go reads it).

use serde_json::{Number, Value};

/// Which rules turn plain scalars into values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// YAML 1.2's core schema.
    Core,
    /// What Helm's YAML library makes of it: `on` and `no` are booleans, `0777` is octal.
    Helm,
}

/// The words that YAML 1.1 takes for booleans and YAML 1.2 for text.
pub fn is_yaml11_boolean(text: &str) -> bool {
    ["y", "n", "yes", "no", "on", "off"].contains(&text.to_ascii_lowercase().as_str()) && is_one_case(text)
}

/// A whole number with leading zeros: octal in YAML 1.1, decimal in YAML 1.2.
pub fn is_ambiguous_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

/// The value of a plain (unquoted) scalar.
pub fn plain(text: &str, rules: Rules) -> Value {
    match text {
        "" | "~" => return Value::Null,
        _ if is_word(text, "null") => return Value::Null,
        _ if is_word(text, "true") => return Value::Bool(true),
        _ if is_word(text, "false") => return Value::Bool(false),
        _ => {}
    }
    if rules == Rules::Helm && is_yaml11_boolean(text) {
        return Value::Bool(["y", "yes", "on"].contains(&text.to_ascii_lowercase().as_str()));
    }
    let number = if rules == Rules::Helm { helm_number(text) } else { core_number(text) };
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

/// `true`, `True` or `TRUE`, and nothing between.
fn is_word(text: &str, word: &str) -> bool {
    text.eq_ignore_ascii_case(word) && is_one_case(text)
}

fn is_one_case(text: &str) -> bool {
    let rest = text.get(1..).unwrap_or_default();
    rest.bytes().all(|b| b.is_ascii_lowercase()) || text.bytes().all(|b| b.is_ascii_uppercase())
}

fn core_number(text: &str) -> Option<Number> {
    if let Some(octal) = text.strip_prefix("0o") {
        return u64::from_str_radix(octal, 8).ok().map(Number::from);
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(Number::from);
    }
    integer(text).or_else(|| float(text))
}

/// As Go's `strconv.ParseInt(s, 0, 64)` does after underscores are dropped; then floats.
fn helm_number(text: &str) -> Option<Number> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let text = if text.starts_with('.') { text.to_owned() } else { text.replace('_', "") };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let lower = digits.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)] {
        if let Some(rest) = lower.strip_prefix(prefix).filter(|rest| !rest.is_empty()) {
            if let Ok(value) = i64::from_str_radix(rest, radix) {
                return Some(Number::from(if negative { -value } else { value }));
            }
            if radix != 8 {
                return None;
            }
        }
    }
    integer(&text).filter(|_| !is_ambiguous_number(&text)).or_else(|| float(&text))
}

fn integer(text: &str) -> Option<Number> {
    text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from)).ok()
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`: Rust's own reader takes the same, and words besides.
fn float(text: &str) -> Option<Number> {
    let starts = text.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let made_of = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if starts && made_of { Number::from_f64(text.parse().ok()?) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_as_both_rules_read_them() {
        for (text, core, helm) in [
            ("", json!(null), json!(null)),
            ("~", json!(null), json!(null)),
            ("Null", json!(null), json!(null)),
            ("nULL", json!("nULL"), json!("nULL")),
            ("true", json!(true), json!(true)),
            ("FALSE", json!(false), json!(false)),
            ("on", json!("on"), json!(true)),
            ("Off", json!("Off"), json!(false)),
            ("NO", json!("NO"), json!(false)),
            ("y", json!("y"), json!(true)),
            ("nO", json!("nO"), json!("nO")),
            ("8000", json!(8000), json!(8000)),
            ("-5", json!(-5), json!(-5)),
            ("+5", json!(5), json!(5)),
            ("0777", json!(777), json!(511)),
            ("08", json!(8), json!(8.0)),
            ("0", json!(0), json!(0)),
            ("0o17", json!(15), json!(15)),
            ("0x1F", json!(31), json!(31)),
            ("0b11", json!("0b11"), json!(3)),
            ("8_000", json!("8_000"), json!(8000)),
            ("1.10", json!(1.1), json!(1.1)),
            ("1e3", json!(1000.0), json!(1000.0)),
            (".5", json!(0.5), json!(0.5)),
            ("1.2.3", json!("1.2.3"), json!("1.2.3")),
            ("12:30", json!("12:30"), json!("12:30")),
            ("2026-01-01", json!("2026-01-01"), json!("2026-01-01")),
            ("-", json!("-"), json!("-")),
            ("e5", json!("e5"), json!("e5")),
            ("infinity", json!("infinity"), json!("infinity")),
            ("/", json!("/"), json!("/")),
            ("app1.public.domain", json!("app1.public.domain"), json!("app1.public.domain")),
            ("18446744073709551615", json!(u64::MAX), json!(u64::MAX)),
        ] {
            assert_eq!(plain(text, Rules::Core), core, "`{text}` in YAML 1.2");
            assert_eq!(plain(text, Rules::Helm), helm, "`{text}` in Helm");
        }
    }

    #[test]
    fn what_the_two_read_differently_is_known() {
        assert!(is_yaml11_boolean("Yes") && is_yaml11_boolean("OFF") && !is_yaml11_boolean("true") && !is_yaml11_boolean("yEs"));
        assert!(is_ambiguous_number("0777") && is_ambiguous_number("-01") && !is_ambiguous_number("0") && !is_ambiguous_number("0o7"));
    }
}
