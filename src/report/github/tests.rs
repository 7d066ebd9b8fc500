//! The limits of GitHub's runner, and text that tries to command it.

use super::*;
use crate::base::codes::Code;
use crate::report::played::{self, Play, case};

fn many_failures(n: usize) -> Vec<Stamped> {
    let mut play = Play::new("r", &["verify"], false);
    play.stage("verify");
    for n in 0..n {
        let fault = Fault::new(Code::HttpStatus, format!("expected 200, got 503 from host {n}")).evidence("body", "x<b>\n".repeat(2000));
        play.ends(1, case("app", &format!("GET host-{n}/")).failed(fault).place(7));
        play.ends(1, case("app", &format!("GET other-{n}/")).unchanged("200"));
    }
    play.end(5)
}

#[test]
fn the_played_runs_summary_and_annotations() {
    let run = RunSummary::of(&played::all());
    insta::assert_snapshot!("step_summary", step_summary(&run, 5, BUDGET));
    insta::assert_snapshot!("annotations", annotations(&run, None).join("\n"));
    insta::assert_snapshot!("dry_run", step_summary(&RunSummary::of(&played::dry()), 0, BUDGET));
}

#[test]
fn a_summary_keeps_its_budget_and_says_what_it_leaves_out() {
    let run = RunSummary::of(&many_failures(1000));
    for budget in [2_000, 20_000, 200_000, BUDGET] {
        let text = step_summary(&run, 5, budget);
        assert!(text.len() <= budget, "{} of {budget}", text.len());
        assert!(text.contains("host 0") && (budget == BUDGET || text.contains("more")), "{budget}");
    }
    let shortened = step_summary(&run, 5, 500_000);
    assert!(shortened.contains("host 999") && !shortened.ends_with("failed; see the reports\n"), "without evidence, every failure fits");
}

#[test]
fn annotations_are_at_most_ten() {
    let all = annotations(&RunSummary::of(&many_failures(12)), None);
    assert_eq!(all.len(), 10);
    assert!(
        all[0].starts_with("::error file=meshstep.yaml,line=7,title=verify app%3A GET host-0/::expected 200, got 503 from host 0%0Anext: "),
        "{}",
        all[0]
    );
    assert_eq!(all[9], "::error title=meshstep::and 3 more failed");
}

#[test]
fn foreign_text_commands_nothing() {
    assert_eq!(command("error", &[("title", "a:b,c%\n".into())], "x\r\n::add-mask::y"), "::error title=a%3Ab%2Cc%25%0A::x%0D%0A::add-mask::y");
    assert_eq!(disarm("##[add-mask]x"), "## [add-mask]x");
    assert!(!disarm("  ::set-output name=x::y").trim_start().starts_with("::"));
    let wrapped = wrap_foreign(vec!["::error::x".into()]);
    let token = wrapped[0].strip_prefix("::stop-commands::").expect("stopped");
    assert_eq!(wrapped[2], format!("::{token}::"));
    assert_ne!(wrapped, wrap_foreign(vec!["::error::x".into()]), "the token cannot be guessed");
    assert_eq!(wrap_foreign(vec!["plain".into()]), ["plain"]);
    let text = escaped("<img src=x> **b** [a](javascript:x) @everyone | `c`", 200);
    assert!(!text.contains(['<', '*', '[', '`', '@', '|']), "{text}");
}
