//! A terminal recording as SVG: recorded console lines with their times become one self-contained, animated picture, without script
//! or asset. A reader that knows no animation shows the last screen.

use std::fmt::Write as _;
use std::time::Duration;

use crate::report::text::{escape_html, width};

const COLUMNS: usize = 110;
const ROWS: usize = 32;
/// Pixels of a character cell.
const CELL: (f64, f64) = (7.9, 17.0);
const PAD: f64 = 16.0;
const BAR: f64 = 30.0;
/// A wait longer than this is shown as this: nobody watches a picture for ten minutes.
const LONGEST_PAUSE: Duration = Duration::from_millis(1200);
const SHORTEST_PAUSE: Duration = Duration::from_millis(40);
/// How long the last screen stands before it all begins again.
const REST: Duration = Duration::from_secs(8);

/// A piece of a line in one style.
struct Span {
    text: String,
    class: String,
}

/// The picture of `lines`: each with the time since the start at which it was printed, and with ANSI colours.
pub fn svg(lines: &[(Duration, String)]) -> String {
    let (rows, times): (Vec<Vec<Span>>, Vec<Duration>) = lines.iter().flat_map(|(at, line)| rows(line).into_iter().map(|row| (row, *at))).unzip();
    let (shown, total) = timeline(times.into_iter());
    let height = BAR + 2.0 * PAD + CELL.1 * rows.len().clamp(1, ROWS) as f64;
    let wide = 2.0 * PAD + CELL.0 * COLUMNS as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide:.0} {height:.0}\" width=\"{wide:.0}\" height=\"{height:.0}\" role=\"img\" aria-label=\"a run of meshstep\">\n\
         <style>{STYLE}</style>\n\
         <rect class=\"bg\" width=\"100%\" height=\"100%\" rx=\"8\"/>\n\
         <circle cx=\"20\" cy=\"16\" r=\"5\" fill=\"#ff5f57\"/><circle cx=\"38\" cy=\"16\" r=\"5\" fill=\"#febc2e\"/><circle cx=\"56\" cy=\"16\" r=\"5\" fill=\"#28c840\"/>\n\
         <clipPath id=\"screen\"><rect y=\"{BAR}\" width=\"{wide:.0}\" height=\"{:.0}\"/></clipPath>\n",
        height - BAR - PAD / 2.0
    );
    let overflow = rows.len().saturating_sub(ROWS);
    let lift = -(overflow as f64) * CELL.1;
    let _infallible = write!(out, "<g clip-path=\"url(#screen)\"><g class=\"roll\" transform=\"translate(0 {lift:.0})\">");
    if overflow > 0 {
        out.push_str(&scroll(&shown, total));
    }
    for (at, row) in rows.iter().enumerate() {
        let y = BAR + PAD + CELL.1 * (at as f64 + 0.6);
        let _infallible = write!(out, "\n<text x=\"{PAD}\" y=\"{y:.1}\" xml:space=\"preserve\">");
        for Span { text, class } in row {
            let text = escape_html(text);
            let _infallible = if class.is_empty() { write!(out, "{text}") } else { write!(out, "<tspan class=\"{class}\">{text}</tspan>") };
        }
        out.push_str(&appear(shown[at], total));
        out.push_str("</text>");
    }
    out.push_str("\n</g></g>\n</svg>\n");
    out
}

const STYLE: &str = "text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#d7dde4}.bg{fill:#11161c}\
.b{font-weight:700}.d{fill:#8b949e}.c31{fill:#ff7b72}.c32{fill:#56d364}.c33{fill:#e3b341}.c34{fill:#79c0ff}.c35{fill:#d2a8ff}.c36{fill:#56d4dd}";

/// When each line appears, with pauses shortened, and how long the whole takes.
fn timeline(times: impl Iterator<Item = Duration>) -> (Vec<Duration>, Duration) {
    let (mut now, mut before) = (Duration::from_millis(300), Duration::ZERO);
    let mut shown = Vec::new();
    for at in times {
        now += at.saturating_sub(before).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        before = at;
        shown.push(now);
    }
    (shown, now + REST)
}

/// Hidden until its time, in every round. Without animation it is simply there.
fn appear(at: Duration, total: Duration) -> String {
    let share = at.as_secs_f64() / total.as_secs_f64();
    format!(
        "<animate attributeName=\"visibility\" values=\"hidden;visible\" keyTimes=\"0;{share:.4}\" dur=\"{:.2}s\" calcMode=\"discrete\" repeatCount=\"indefinite\"/>",
        total.as_secs_f64()
    )
}

/// Lifts the text by a line for each that would be below the screen.
fn scroll(shown: &[Duration], total: Duration) -> String {
    let (mut values, mut times) = (String::from("0 0"), String::from("0"));
    for (n, at) in shown[ROWS..].iter().enumerate() {
        let _infallible = write!(values, ";0 {:.0}", -CELL.1 * (n + 1) as f64);
        let _infallible = write!(times, ";{:.4}", at.as_secs_f64() / total.as_secs_f64());
    }
    format!(
        "<animateTransform attributeName=\"transform\" type=\"translate\" values=\"{values}\" keyTimes=\"{times}\" dur=\"{:.2}s\" calcMode=\"discrete\" repeatCount=\"indefinite\"/>",
        total.as_secs_f64()
    )
}

/// A line's pieces by style, broken as a terminal breaks it; of escape sequences only colours and weights count.
fn rows(line: &str) -> Vec<Vec<Span>> {
    let mut rows: Vec<Vec<Span>> = vec![Vec::new()];
    let (mut class, mut used) = (String::new(), 0);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            let code: String = chars.by_ref().skip(1).take_while(|c| !c.is_ascii_alphabetic()).collect();
            class = classes(&code);
            continue;
        }
        if c.is_control() {
            continue;
        }
        let columns = width(c.encode_utf8(&mut [0; 4]));
        used += columns;
        if used > COLUMNS {
            rows.push(Vec::new());
            used = columns;
        }
        let row = rows.last_mut().expect("there is always a row");
        match row.last_mut() {
            Some(last) if last.class == class => last.text.push(c),
            _ => row.push(Span { text: c.to_string(), class: class.clone() }),
        }
    }
    rows
}

/// `1;31` as `b c31`.
fn classes(code: &str) -> String {
    let classes: Vec<String> = code
        .split(';')
        .filter_map(|part| match part {
            "1" => Some("b".to_owned()),
            "2" => Some("d".to_owned()),
            "31" | "32" | "33" | "34" | "35" | "36" => Some(format!("c{part}")),
            _ => None,
        })
        .collect();
    classes.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(n: u64) -> Vec<(Duration, String)> {
        (0..n).map(|n| (Duration::from_secs(n), format!("\u{1b}[1;31m✗ FAILED\u{1b}[0m <case> & \u{1b}[2m{n}\u{1b}[0m{}", "x".repeat(50)))).collect()
    }

    #[test]
    fn the_picture_is_well_formed_self_contained_and_without_scripts() {
        for n in [0, 1, 10, 100] {
            let picture = svg(&recording(n));
            let document = roxmltree::Document::parse(&picture).unwrap_or_else(|error| panic!("{error}\n{picture}"));
            assert_eq!(document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text"))).count() as u64, n);
            assert!(!picture.contains("<script") && !picture.contains("href") && !picture.contains('\u{1b}'));
        }
    }

    #[test]
    fn pauses_are_shortened_and_order_is_kept() {
        let (shown, total) = timeline([0, 1, 600_000, 600_001].map(Duration::from_millis).into_iter());
        assert!(shown.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(total < Duration::from_secs(11), "{total:?}");
    }

    #[test]
    fn colours_become_classes_and_lines_break_at_the_edge() {
        let all = rows("\u{1b}[1;31mbad\u{1b}[0m plain \u{1b}[2mdim");
        let got: Vec<(&str, &str)> = all[0].iter().map(|span| (span.text.as_str(), span.class.as_str())).collect();
        assert_eq!(got, [("bad", "b c31"), (" plain ", ""), ("dim", "d")]);
        let lengths: Vec<usize> = rows(&"x".repeat(250)).iter().map(|row| row[0].text.len()).collect();
        assert_eq!(lengths, [COLUMNS, COLUMNS, 250 - 2 * COLUMNS]);
    }
}
