//! Is the agent's clock right? AWS and EKS refuse signatures that are minutes off, and certificates seem expired or not yet valid.

use jiff::{SignedDuration, Timestamp};

use crate::base::codes::Code;
use crate::base::fault::Fault;
use crate::base::text;
use crate::domain::doctor::Verdict;

/// AWS refuses what is signed more than five minutes off.
const REFUSED: SignedDuration = SignedDuration::from_mins(5);
const ODD: SignedDuration = SignedDuration::from_secs(30);

/// `server` is what the API server's `Date` said, which counts whole seconds; `agent` the middle of the call.
pub fn judge(server: Timestamp, agent: Timestamp) -> Verdict {
    let off = agent.duration_since(server);
    let by = SignedDuration::from_secs(off.abs().as_secs());
    let words = format!("{} {}", text::seconds(by.unsigned_abs()), if off.is_negative() { "behind" } else { "ahead of" });
    if by > REFUSED {
        let fault = Fault::new(Code::ClockSkew, format!("the agent's clock is {words} the API server's: AWS and EKS refuse what it signs"));
        let fault = fault.evidence("times", format!("agent       {agent:.0}\napi server  {server:.0}"));
        return Verdict { faults: vec![fault.next("`timedatectl set-ntp true` or `chronyc makestep` on the agent")], ..Verdict::default() };
    }
    let mut verdict = Verdict::of("the agent's clock agrees with the API server's");
    if by > ODD {
        verdict.note = format!("{words} the API server's");
        verdict.warnings.push(format!(
            "the agent's clock is {words} the API server's; at 5 minutes AWS refuses what it signs: let it follow NTP (`chronyc makestep`)"
        ));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_fail_half_a_minute_warns_and_seconds_do_nothing() {
        let server = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        for (seconds, failed, warned) in [
            (0, false, false),
            (2, false, false),
            (-30, false, false),
            (31, false, true),
            (-300, false, true),
            (301, true, false),
            (-3600, true, false),
        ] {
            let verdict = judge(server, server + SignedDuration::from_secs(seconds));
            assert_eq!((verdict.fault().is_some(), !verdict.warnings.is_empty()), (failed, warned), "{seconds}");
        }
        let behind = judge(server, server - SignedDuration::from_mins(10)).fault().expect("a fault");
        assert!(behind.message.contains("10 min 0 s behind the API server's"), "{behind:?}");
    }
}
