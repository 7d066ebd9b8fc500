//! One writer for finished lines and, on a terminal, the live line below them.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use crate::base::mutex::lock;

type Out = Arc<Mutex<BufWriter<Box<dyn Write + Send>>>>;

pub(super) struct Screen {
    out: Out,
    bar: Option<ProgressBar>,
}

impl Screen {
    pub(super) fn new(out: Box<dyn Write + Send>, terminal: bool, width: usize) -> Self {
        let out: Out = Arc::new(Mutex::new(BufWriter::new(out)));
        let bar = terminal.then(|| {
            let width = if width == 0 { 80 } else { u16::try_from(width).unwrap_or(u16::MAX) };
            let target = ProgressDrawTarget::term_like(Box::new(Terminal { out: Arc::clone(&out), width }));
            ProgressBar::with_draw_target(None, target).with_style(ProgressStyle::with_template("{msg}").expect("a valid template"))
        });
        Self { out, bar }
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.bar.is_some()
    }

    /// Prints a line above the live one, to be seen after `flush`. A reader that is gone (a closed pipe) must not end the run.
    pub(super) fn line(&self, text: &str) {
        let print = || {
            let mut out = lock(&self.out);
            let _unread = out.write_all(text.trim_end().as_bytes()).and_then(|()| out.write_all(b"\n"));
        };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    pub(super) fn flush(&self) {
        let _unread = lock(&self.out).flush();
    }

    /// Shows, changes or (with `None`) removes the live line.
    pub(super) fn live(&self, text: Option<String>) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.unwrap_or_default());
            bar.tick();
        }
    }
}

/// What indicatif draws on: the same writer, so that lines and live line never overtake each other.
struct Terminal {
    out: Out,
    width: u16,
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal").field("width", &self.width).finish_non_exhaustive()
    }
}

impl Terminal {
    fn cursor(&self, n: usize, direction: char) -> io::Result<()> {
        if n > 0 { write!(lock(&self.out), "\u{1b}[{n}{direction}") } else { Ok(()) }
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        self.width
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.cursor(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        writeln!(lock(&self.out), "{s}")
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        write!(lock(&self.out), "{s}")
    }

    fn clear_line(&self) -> io::Result<()> {
        write!(lock(&self.out), "\r\u{1b}[2K")
    }

    fn flush(&self) -> io::Result<()> {
        lock(&self.out).flush()
    }
}
