//! `meshstep explain`: what a failure code means and what to do.

use serde_json::json;

use crate::base::codes::Code;
use crate::base::text;
use crate::engine::outcome::{exit_code, is_failure};

/// One code as a person reads it.
pub fn text(code: Code) -> String {
    let info = code.info();
    format!(
        "{}: {}\n\n  recognised by   {}\n  what to do      {}\n  restart helps   {}\n  exit code       {}\n  in JUnit        <{} type=\"{}\">\n",
        info.name,
        info.meaning,
        info.sign,
        info.next,
        if info.restart_helps { "yes" } else { "no" },
        exit_code(info.class),
        if is_failure(info.class) { "failure" } else { "error" },
        info.junit,
    )
}

/// All codes, a line each.
pub fn list() -> String {
    let width = Code::ALL.iter().map(|code| code.info().name.len()).max().unwrap_or(0);
    Code::ALL.iter().map(|code| format!("{:width$}  {}\n", code.info().name, code.info().meaning)).collect()
}

/// The codes as JSON, for machines.
pub fn json(codes: &[Code]) -> String {
    let rows: Vec<_> = codes
        .iter()
        .map(|code| {
            let info = code.info();
            json!({
                "code": info.name, "meaning": info.meaning, "sign": info.sign, "next": info.next,
                "restart_helps": info.restart_helps, "exit": exit_code(info.class), "junit": info.junit,
            })
        })
        .collect();
    serde_json::to_string_pretty(&rows).unwrap_or_default()
}

/// The code that a person typed, by its name or by its JUnit type.
pub fn find(typed: &str) -> Result<Code, String> {
    let name = typed.rsplit('.').next().unwrap_or(typed);
    Code::parse(name).ok_or_else(|| {
        let nearest = text::nearest(name, Code::ALL.iter().map(|code| code.info().name));
        let hint = nearest.map(|name| format!("did you mean `{name}`? ")).unwrap_or_default();
        format!("there is no code `{typed}`; {hint}`meshstep explain` lists all")
    })
}

/// The README's reference of codes, as a Markdown table.
pub fn markdown() -> String {
    let mut out = "| code | exit | meaning | what to do |\n|---|---|---|---|\n".to_owned();
    for code in Code::ALL {
        let info = code.info();
        out.push_str(&format!("| `{}` | {} | {} | {} |\n", info.name, exit_code(info.class), info.meaning, info.next.replace('|', "\\|")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::Fault;

    #[test]
    fn a_code_is_found_by_name_and_by_junit_type() {
        assert_eq!(find("crash_loop"), Ok(Code::CrashLoop));
        assert_eq!(find("rollout.crash_loop"), Ok(Code::CrashLoop));
        assert!(find("crash_lop").expect_err("unknown").contains("`crash_loop`"));
    }

    /// Every code means something, is recognised by something, asks for something; and a report that knows nothing better asks for the same.
    #[test]
    fn every_code_can_be_explained() {
        for &code in Code::ALL {
            let info = code.info();
            let told = text(code);
            for words in [info.meaning, info.sign, info.next] {
                assert!(words.len() > 8 && words == words.trim() && told.contains(words), "{code}: `{words}`");
            }
            assert!(told.contains(if info.restart_helps { "restart helps   yes" } else { "restart helps   no" }), "{told}");
            assert_eq!(Fault::new(code, "it happened").next_steps(), [info.next], "{code}");
            assert_eq!(find(info.junit), Ok(code), "{code}");
            let row: serde_json::Value = serde_json::from_str(&json(&[code])).expect("JSON");
            assert_eq!((row[0]["next"].as_str(), row[0]["exit"].as_u64()), (Some(info.next), Some(exit_code(info.class).into())));
        }
        assert_eq!(markdown().lines().count(), Code::ALL.len() + 2);
    }
}
