//! `index.html`: the whole build on one page. No script, no asset: it works offline, from an archive, and with Jenkins' content
//! security policy at least as plain, readable HTML. Filters are radio buttons that the style sheet obeys.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use crate::base::fault::Fault;
use crate::base::text::{count, seconds};
use crate::engine::event::{Event, Stamped};
use crate::report::junit::{attempt_lines, verdict_line};
use crate::report::summary::{CaseResult, Counts, RunSummary, StageRun, Verdict, why, worst_first};
use crate::report::text::{CAP, cap, clean, escape_html, line};
use crate::report::{Options, Sink, logs, shares, write_whole};

const STYLE: &str = include_str!("html/page.css");

/// Writes the page, case by case: the whole of it is never in memory.
pub fn page(run: &RunSummary, out: &mut impl Write) -> io::Result<()> {
    let counts = Counts::of(&run.cases);
    let head = &run.run;
    let title = format!("{} · {}", esc(&head.pipeline, 100), esc(&head.environment, 100));
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>{STYLE}</style></head><body>\n<header><h1>{title}</h1>\n"
    )?;
    let mut facts: Vec<String> =
        [&head.run_id, &head.tool, &head.hostname].iter().filter(|fact| !fact.is_empty()).map(|fact| esc(fact, 200)).collect();
    if let Some(started) = run.started {
        facts.insert(0, started.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    }
    if let Some(url) = head.build_url.as_deref().filter(|url| url.starts_with("https://") || url.starts_with("http://")) {
        facts.push(format!("<a href=\"{0}\">{0}</a>", esc(url, 500)));
    }
    if head.dry_run {
        facts.push("dry run".into());
    }
    writeln!(out, "<p class=\"dim\">{}</p>\n{}", facts.join(" · "), verdict(run, counts))?;
    writeln!(out, "<p>{} in {}: {}</p></header>", count(counts.cases, "case"), seconds(run.seconds), counts.words())?;
    filters(out, counts)?;
    let worst = worst_first(&run.cases);
    if !worst.is_empty() {
        writeln!(out, "<section><h2>Worst first</h2>")?;
        worst.iter().try_for_each(|(case, _)| entry(out, case, &head.environment, true))?;
        writeln!(out, "</section>")?;
    }
    for stage in &run.stages {
        section(out, run, stage)?;
    }
    writeln!(out, "</body></html>")
}

fn verdict(run: &RunSummary, counts: Counts) -> String {
    let (class, text) = match (run.exit, run.overall_exit()) {
        (None, _) => ("running", "still running, or killed".to_owned()),
        (_, 0) if counts.repaired > 0 => ("repaired", "passed, with a repair".to_owned()),
        (_, 0) => ("unchanged", "passed".to_owned()),
        (_, exit) => ("failed", format!("exit {exit}: {}", esc(why(exit, counts), 200))),
    };
    format!("<p class=\"verdict {class}\">{text}</p>")
}

fn filters(out: &mut impl Write, counts: Counts) -> io::Result<()> {
    let all = [
        ("all", "all", counts.cases),
        ("failed", "failed", counts.failed + counts.errors),
        ("repaired", "repaired", counts.repaired),
        ("changed", "changed", counts.changed + counts.would_change),
        ("unchanged", "ok", counts.unchanged),
        ("skipped", "skipped", counts.skipped),
        ("warned", "warnings", counts.warnings),
    ];
    write!(out, "<fieldset>")?;
    for (at, (id, label, n)) in all.iter().enumerate().filter(|(at, (_, _, n))| *at == 0 || *n > 0) {
        let checked = if at == 0 { " checked" } else { "" };
        write!(out, "<label><input type=\"radio\" name=\"f\" id=\"f-{id}\"{checked}>{label} {n}</label>")?;
    }
    writeln!(out, "</fieldset>")
}

fn section(out: &mut impl Write, run: &RunSummary, stage: &StageRun) -> io::Result<()> {
    let time = if stage.open { "not ended".to_owned() } else { seconds(stage.seconds) };
    writeln!(out, "<section><h2>{} <small>{time}</small></h2>", esc(&stage.name, 100))?;
    // Failed cases stand above already.
    let cases: Vec<&CaseResult> = run.stage_cases(&stage.name).filter(|case| !case.end.outcome.is_failed()).collect();
    shares::write(&cases, out, |share| {
        let mut text = Vec::new();
        share.iter().try_for_each(|case| entry(&mut text, case, &run.run.environment, false))?;
        Ok(text)
    })?;
    for running in run.running.iter().filter(|running| running.case.stage == stage.name) {
        let service = running.case.service.as_deref().map(|service| format!("{} · ", esc(service, 100))).unwrap_or_default();
        let name = esc(&running.case.name, 250);
        let note = esc(&running.progress, 300);
        writeln!(
            out,
            "<div class=\"row case\"><b class=\"running\">not ended</b><span>{service}{name} <span class=\"note\">{note}</span></span></div>"
        )?;
    }
    writeln!(out, "</section>")
}

fn words(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Failed => ("failed", "failed"),
        Verdict::Error => ("error", "error"),
        Verdict::Repaired => ("repaired", "repaired"),
        Verdict::WouldChange => ("would", "would change"),
        Verdict::Changed => ("changed", "changed"),
        Verdict::Unchanged => ("unchanged", "ok"),
        Verdict::Skipped => ("skipped", "skipped"),
    }
}

fn entry(out: &mut impl Write, case: &CaseResult, environment: &str, open: bool) -> io::Result<()> {
    let end = &case.end;
    let (class, word) = words(case.verdict());
    let warned = if end.warnings.is_empty() { "" } else { " is-warned" };
    let stage = if open { format!("{} · ", esc(&end.case.stage, 100)) } else { String::new() };
    let service = end.case.service.as_deref().map(|service| format!("{} · ", esc(service, 100))).unwrap_or_default();
    let text = verdict_line(&end.outcome);
    let note = text.split_once(": ").map_or("", |(_, note)| note);
    let line = format!(
        "<b class=\"{class}\">{word}</b><span>{stage}{service}{} <span class=\"note\">{}</span></span><span class=\"dim\">{}</span>",
        esc(&end.case.name, 250),
        esc(note, 300),
        if end.seconds < Duration::from_millis(50) { String::new() } else { seconds(end.seconds) }
    );
    let details = details(case, environment);
    if details.is_empty() {
        writeln!(out, "<div class=\"row case is-{class}\">{line}</div>")
    } else {
        let open = if open { " open" } else { "" };
        writeln!(out, "<details class=\"case is-{class}{warned}\"{open}><summary>{line}</summary><div>{details}</div></details>")
    }
}

fn details(case: &CaseResult, environment: &str) -> String {
    let end = &case.end;
    let mut out = String::new();
    if let crate::engine::outcome::Outcome::Repaired { story } = &end.outcome {
        let _infallible = writeln!(out, "<p>{}</p>", esc(story, 2000));
    }
    for warning in &end.warnings {
        let _infallible = writeln!(out, "<p class=\"warning\">warning: {}</p>", esc(warning, 1000));
    }
    let mut facts = Vec::new();
    if let Some(fault) = end.outcome.fault() {
        facts.extend(fault.next_steps().iter().map(|step| ("next", esc(step, 1000))));
    }
    if let Some(place) = &end.place {
        facts.push(("at", esc(&place.to_string(), 500)));
    }
    let code = |fault: &Fault| format!("<code>{0}</code> (<code>meshstep explain {0}</code>)", fault.code);
    facts.extend(end.outcome.fault().map(|fault| ("code", code(fault))));
    facts.extend(attempt_lines(&end.attempts).into_iter().map(|(at, text)| ("attempt", format!("{at}: {}", esc(&text, 300)))));
    let mut list: String = facts.into_iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>")).collect();
    for (name, value) in &end.properties {
        let _infallible = write!(list, "<dt>{}</dt><dd><code>{}</code></dd>", esc(name, 100), esc(value, 1000));
    }
    if case.log {
        let _infallible = write!(list, "<dt>log</dt><dd><a href=\"{0}\">{0}</a></dd>", esc(&logs::relative(environment, &end.case), 500));
    }
    if !list.is_empty() {
        let _infallible = writeln!(out, "<dl>{list}</dl>");
    }
    for evidence in end.outcome.fault().into_iter().flat_map(|fault| &fault.evidence) {
        let _infallible =
            writeln!(out, "<h3>{}</h3><pre>{}</pre>", esc(&evidence.title, 200), escape_html(&cap(clean(&evidence.text).trim_end(), CAP)));
    }
    if !end.output.trim().is_empty() {
        let _infallible = writeln!(out, "<h3>output</h3><pre>{}</pre>", escape_html(&cap(clean(&end.output).trim_end(), CAP)));
    }
    out
}

fn esc(text: &str, max: usize) -> String {
    escape_html(&line(text, max))
}

/// Writes the page at each stage's end; after the last one at the run's, which follows.
pub(super) struct Html {
    path: PathBuf,
    trouble: Option<String>,
}

impl Html {
    pub(super) fn new(options: &Options) -> Self {
        Self { path: options.dir.join("index.html"), trouble: None }
    }
}

impl Sink for Html {
    fn event(&mut self, event: &Stamped, run: &RunSummary) {
        let due = match event.event {
            Event::StageEnded { .. } => run.stages.iter().any(|stage| stage.open) || run.stages.len() < run.run.stages.len(),
            Event::RunEnded { .. } => true,
            _ => false,
        };
        if due && let Err(error) = write_whole(&self.path, |file| page(run, file)) {
            self.trouble = Some(format!("cannot write `{}`: {error}", self.path.display()));
        }
    }

    fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codes::Code;
    use crate::report::played::{self, Play};

    fn text(run: &RunSummary) -> String {
        let mut page = Vec::new();
        super::page(run, &mut page).expect("memory takes it");
        String::from_utf8(page).expect("text")
    }

    #[test]
    fn the_page_is_well_formed_and_names_failures_before_stages() {
        let inputs = regex::Regex::new(r"<input ([^>]*)>").expect("valid");
        for events in [played::all(), played::quiet(), played::dry(), played::aborted()] {
            let run = RunSummary::of(&events);
            let page = text(&run);
            let body = &page[page.find("<body>").expect("a body")..page.find("</html>").expect("an end")];
            // The body is XML too, but for attributes without value and inputs without end.
            let xml = inputs.replace_all(&body.replace(" open>", ">").replace(" checked>", ">"), "<input $1/>").into_owned();
            roxmltree::Document::parse(&xml).unwrap_or_else(|error| panic!("{error}\n{xml}"));
            let failures = run.cases.iter().filter(|case| case.end.outcome.is_failed()).count();
            assert_eq!(
                page.matches("<details class=\"case is-failed\" open>").count() + page.matches("<details class=\"case is-error\" open>").count(),
                failures
            );
        }
    }

    #[test]
    fn nothing_foreign_becomes_markup_and_nothing_is_loaded() {
        let hostile = "</pre><script>alert(1)</script>\"'><img src=http://evil/x>";
        let mut play = Play::new(hostile, &[hostile], false);
        play.stage(hostile);
        let fault = Fault::new(Code::CrashLoop, hostile).evidence(hostile, hostile).next(hostile);
        play.ends(1, played::case(hostile, hostile).failed(fault).warning(hostile).property(hostile, hostile).output(hostile));
        play.waits(hostile, "b", hostile);
        let page = text(&RunSummary::of(&play.events));
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<link"), "{page}");
    }
}
