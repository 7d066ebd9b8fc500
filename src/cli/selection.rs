//! Which stages a command runs, and in which order.

use crate::base::text;

/// The stages of `run`, in order. `redeploy` runs inside `verify`, and only when a proven fault calls for it.
pub const ORDER: [&str; 8] = ["doctor", "connect", "mesh", "deploy", "routes", "releases", "ingress", "verify"];

/// The stages of `run` with its `--only`, `--from` and `--until`. The order is always the runbook's. An unknown name is an error with a hint.
pub fn chosen(only: &[String], from: Option<&str>, until: Option<&str>) -> Result<Vec<&'static str>, String> {
    let position = |name: &str| {
        ORDER.iter().position(|stage| *stage == name).ok_or_else(|| {
            let hint = text::nearest(name, ORDER).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            format!("there is no stage `{name}`; {hint}the stages are {}", ORDER.join(", "))
        })
    };
    if !only.is_empty() {
        let wanted = only.iter().map(|name| position(name)).collect::<Result<Vec<_>, _>>()?;
        return Ok(ORDER.iter().enumerate().filter(|(i, _)| wanted.contains(i)).map(|(_, stage)| *stage).collect());
    }
    let first = from.map(position).transpose()?.unwrap_or(0);
    let last = until.map(position).transpose()?.unwrap_or(ORDER.len() - 1);
    if first > last {
        return Err(format!("`--from {}` comes after `--until {}`", ORDER[first], ORDER[last]));
    }
    Ok(ORDER[first..=last].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The remedy, and what `run` never does.
    const BY_NAME: [&str; 4] = ["redeploy", "troubleshoot", "certificates", "cleanup"];

    #[test]
    fn the_order_is_the_list_of_stages_without_those_that_are_asked_for_by_name() {
        let all: Vec<&str> = crate::stages::ALL.iter().map(|(name, _)| *name).filter(|name| !BY_NAME.contains(name)).collect();
        assert_eq!(all, ORDER);
        for (name, make) in crate::stages::ALL {
            assert_eq!(make().id(), name);
        }
    }

    #[test]
    fn stages_are_chosen_in_the_runbooks_order() {
        let only = |names: &[&str]| chosen(&names.iter().map(ToString::to_string).collect::<Vec<_>>(), None, None);
        assert_eq!(only(&["verify", "deploy"]), Ok(vec!["deploy", "verify"]));
        assert_eq!(chosen(&[], Some("routes"), Some("ingress")), Ok(vec!["routes", "releases", "ingress"]));
        assert_eq!(chosen(&[], None, None).map(|s| s.len()), Ok(8));
        assert!(only(&["deplyo"]).expect_err("unknown").contains("`deploy`"));
        assert!(chosen(&[], Some("verify"), Some("mesh")).is_err());
    }
}
