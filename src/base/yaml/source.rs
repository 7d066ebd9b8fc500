//! A text file and its lines: from bytes to places.

use std::ops::Range;

use crate::base::finding::{Finding, Mark};
use crate::base::place::Place;

/// More than this is no file that a person wrote, in bytes.
pub const MAX_SIZE: usize = 4 * 1024 * 1024;

/// The text of a file with the name that findings give it. A byte-order mark is not part of the text.
#[derive(Clone, Debug)]
pub struct Source {
    pub file: String,
    pub text: String,
    /// The file starts with a UTF-8 byte-order mark.
    pub bom: bool,
    starts: Vec<usize>,
}

impl Source {
    pub fn new(file: impl Into<String>, text: &str) -> Self {
        let (bom, text) = text.strip_prefix('\u{feff}').map_or((false, text), |rest| (true, rest));
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file: file.into(), text: text.to_owned(), bom, starts }
    }

    /// The text of a file that must be UTF-8, of a sensible size and without control characters.
    pub fn from_bytes(file: impl Into<String>, bytes: &[u8]) -> Result<Self, Box<Finding>> {
        let file = file.into();
        if bytes.len() > MAX_SIZE {
            return Err(Box::new(Finding::error(Place::new(file, 0, 0), format!("the file is larger than {} MB", MAX_SIZE / 1024 / 1024))));
        }
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err(Box::new(Finding::error(Place::new(file, 1, 1), "the file is UTF-16").hint("save it as UTF-8")));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(file, text)),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
                let source = Self::new(file, &good);
                let byte = bytes[error.valid_up_to()];
                let finding = Finding::error(source.place(source.text.len()), format!("the file is not UTF-8: byte 0x{byte:02x}"));
                Err(Box::new(finding.hint("save it as UTF-8")))
            }
        }
    }

    /// The number of the line, from 0, that holds the byte at `at`.
    pub fn line_index(&self, at: usize) -> usize {
        self.starts.partition_point(|&start| start <= at).saturating_sub(1)
    }

    /// Line and column of the byte at `at`.
    pub fn place(&self, at: usize) -> Place {
        let at = self.boundary(at);
        let index = self.line_index(at);
        let column = self.text[self.starts[index]..at].chars().count() + 1;
        Place::new(&self.file, u32::try_from(index + 1).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }

    /// The bytes of a line (from 0), with its break.
    pub fn line_range(&self, index: usize) -> Range<usize> {
        let start = self.starts.get(index).copied().unwrap_or(self.text.len());
        start..self.starts.get(index + 1).copied().unwrap_or(self.text.len())
    }

    /// A line (from 0) without its break.
    pub fn line(&self, index: usize) -> &str {
        self.text[self.line_range(index)].trim_end_matches(['\n', '\r'])
    }

    pub fn line_count(&self) -> usize {
        self.starts.len()
    }

    /// How many characters stand before the byte at `at` in its line.
    pub fn indent(&self, at: usize) -> usize {
        self.place(at).column as usize - 1
    }

    /// The line of `range` with the range marked, as far as it is on that line.
    pub fn mark(&self, range: &Range<usize>) -> Option<Mark> {
        let start = self.boundary(range.start);
        let line = self.line_index(start);
        let end = self.boundary(range.end.max(start)).min(self.line_range(line).start + self.line(line).len());
        Some(Mark { line: self.line(line).to_owned(), width: self.text.get(start..end).map_or(1, |s| s.chars().count()).max(1) })
    }

    pub fn error(&self, range: &Range<usize>, message: impl AsRef<str>) -> Finding {
        Finding::error(self.place(range.start), message).marked(self.mark(range))
    }

    pub fn warning(&self, range: &Range<usize>, message: impl AsRef<str>) -> Finding {
        Finding::warning(self.place(range.start), message).marked(self.mark(range))
    }

    /// Findings for characters that no text file should hold.
    pub fn control_characters(&self) -> Vec<Finding> {
        let odd = |c: char| (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')) || c == '\u{feff}';
        let found = self.text.char_indices().filter(|&(_, c)| odd(c)).take(10);
        found.map(|(at, c)| self.error(&(at..at + c.len_utf8()), format!("control character U+{:04X}", u32::from(c))).hint("remove it")).collect()
    }

    fn boundary(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_lines_and_columns_in_characters() {
        let source = Source::new("a", "\u{feff}ä: 1\r\nb: ü\n");
        assert!(source.bom);
        for (at, line, column) in [(0, 1, 1), (2, 1, 2), (7, 2, 1), (12, 2, 5), (13, 3, 1), (99, 3, 1)] {
            let place = source.place(at);
            assert_eq!((place.line, place.column), (line, column), "byte {at}");
        }
        assert_eq!((source.line(0), source.line(1), source.line(2), source.line(9)), ("ä: 1", "b: ü", "", ""));
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_place() {
        let refused = |bytes: &[u8]| Source::from_bytes("a", bytes).expect_err("refused");
        assert_eq!(refused(b"ok: 1\nbad: \xe4\n").place, Place::new("a", 2, 6));
        assert!(refused(&[0xff, 0xfe, 0x61, 0]).message.contains("UTF-16"));
        assert!(refused(&vec![b'a'; MAX_SIZE + 1]).message.contains("larger"));
        let found = Source::new("a", "a: b\u{0}\nc: \u{1b}[0m").control_characters();
        assert_eq!(found.iter().map(|f| f.place.to_string()).collect::<Vec<_>>(), ["a:1:5", "a:2:4"]);
    }
}
