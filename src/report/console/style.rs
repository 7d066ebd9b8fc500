//! Marks and colours. Every mark has its word: the output reads the same without colour.

use std::borrow::Cow;

use crate::report::summary::Verdict;
use crate::report::text;

/// `--color`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorChoice {
    #[default]
    Auto,
    Always,
    Never,
}

/// Is colour wanted? The flag wins over `CLICOLOR_FORCE`, that over `NO_COLOR`, and all over what the writer is.
pub fn wants_color(choice: ColorChoice, terminal: bool, env: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| env(name).is_some_and(|value| !value.is_empty());
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto if env("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") => true,
        ColorChoice::Auto if set("NO_COLOR") || env("CLICOLOR").as_deref() == Some("0") => false,
        ColorChoice::Auto => terminal && env("TERM").as_deref() != Some("dumb"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Good,
    Change,
    Warn,
    Bad,
    Info,
    Dim,
    Strong,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    pub(super) color: bool,
    /// Columns; 0: nothing is cut.
    pub(super) width: usize,
}

impl Style {
    pub(super) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Good => "32",
            Paint::Change => "36",
            Paint::Warn => "33",
            Paint::Bad => "1;31",
            Paint::Info => "34",
            Paint::Dim => "2",
            Paint::Strong => "1",
        };
        if self.color && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// `text` cut to what is left of a line of which `used` columns are taken.
    pub(super) fn fit(self, text: &str, used: usize) -> Cow<'_, str> {
        if self.width == 0 { Cow::Borrowed(text) } else { text::fit(text, self.width.saturating_sub(used).max(20)) }
    }

    /// `text` wrapped to what is left of a line.
    pub(super) fn wrap(self, text: &str, used: usize) -> Vec<String> {
        text::wrap(text, if self.width == 0 { 0 } else { self.width.saturating_sub(used).max(20) })
    }

    /// `wanted` columns, fewer on a narrow terminal.
    pub(super) fn room(self, wanted: usize) -> usize {
        if self.width == 0 { wanted } else { wanted.min(self.width * 2 / 5) }
    }
}

pub(super) fn mark(verdict: Verdict) -> (&'static str, &'static str, Paint) {
    match verdict {
        Verdict::Failed => ("✗", "FAILED", Paint::Bad),
        Verdict::Error => ("✗", "ERROR", Paint::Bad),
        Verdict::Repaired => ("↻", "repaired", Paint::Warn),
        Verdict::WouldChange => ("~", "would change", Paint::Change),
        Verdict::Changed => ("✓", "changed", Paint::Change),
        Verdict::Unchanged => ("✓", "ok", Paint::Good),
        Verdict::Skipped => ("-", "skipped", Paint::Dim),
    }
}

pub(super) fn spinner(frame: usize) -> &'static str {
    const FRAMES: [&str; 8] = ["⠋", "⠙", "⠹", "⠼", "⠴", "⠦", "⠧", "⠏"];
    FRAMES[frame % FRAMES.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_follows_flag_then_environment_then_terminal() {
        use ColorChoice::*;
        for (choice, terminal, env, expected) in [
            (Auto, true, &[][..], true),
            (Auto, false, &[], false),
            (Auto, true, &[("NO_COLOR", "1")], false),
            (Auto, true, &[("NO_COLOR", "")], true),
            (Auto, false, &[("CLICOLOR_FORCE", "1")], true),
            (Auto, false, &[("CLICOLOR_FORCE", "0")], false),
            (Auto, true, &[("CLICOLOR", "0")], false),
            (Auto, true, &[("TERM", "dumb")], false),
            (Always, false, &[("NO_COLOR", "1")], true),
            (Never, true, &[("CLICOLOR_FORCE", "1")], false),
        ] {
            let lookup = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(wants_color(choice, terminal, lookup), expected, "{choice:?} {terminal} {env:?}");
        }
    }
}
