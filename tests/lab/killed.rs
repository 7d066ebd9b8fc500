//! A `cargo lab` that is killed with SIGKILL in the middle leaves its lab behind; the next one removes it and works.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Lab, Profile, eventually};

/// The argument that makes this program the one to be killed. It takes no lock: its parent holds it.
pub(crate) const VICTIM: &str = "--victim";
const UP: &str = "its lab is up";

pub(crate) fn leaves_nothing_that_the_next_does_not_remove() {
    let program = std::env::current_exe().expect("this program");
    let mut victim = Command::new(program).arg(VICTIM).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut said = BufReader::new(victim.stdout.take().expect("a pipe")).lines();
    let up = said.any(|line| line.is_ok_and(|line| line == UP));
    assert!(up, "the lab that was to be killed did not come up");
    victim.kill().expect("SIGKILL");
    victim.wait().expect("its end");
    let left = left();
    for what in ["process", "namespace", "mount"] {
        assert!(left.iter().any(|left| left.starts_with(what)), "nothing to remove, so this shows nothing: no {what} in {left:?}");
    }

    let lab = Lab::up(Profile::Full, &[]);
    lab.exec(&["kubectl", "get", "nodes"]);
    drop(lab);
    eventually(Duration::from_secs(5), "after the next run", || {
        let left = self::left();
        if left.is_empty() { Ok(()) } else { Err(format!("there is still {}", left.join(", "))) }
    });
}

/// The victim: a lab with a pod that runs, until the end.
pub(crate) fn wait_for_the_end() -> ! {
    let lab = Lab::up(Profile::Full, &[]);
    lab.images(&[("app", 8000)]);
    lab.exec(&["kubectl", "create", "deployment", "app", "--image=registry.example/app:1"]);
    lab.exec(&["kubectl", "rollout", "status", "deployment/app", "--timeout=60s"]);
    println!("{UP}");
    loop {
        std::thread::park();
    }
}

/// Every process, network namespace and mount of the lab that this program uses.
fn left() -> Vec<String> {
    const LOOK: &str = r#"
for d in /proc/[0-9]*; do
  case "$(readlink "$d/cwd" 2>/dev/null) $(tr '\0' ' ' 2>/dev/null <"$d/cmdline")" in "$LAB_RUN "*|*"$LAB_RUN/"*) echo "process $(tr '\0' ' ' <"$d/cmdline" | cut -c1-60)";; esac
done
for f in /run/netns/"$LAB_NS" /run/netns/"$LAB_NS"-*; do [ -e "$f" ] && echo "namespace ${f##*/}"; done
[ ! -e "/etc/netns/$LAB_NS" ] || echo "namespace settings in /etc/netns/$LAB_NS"
grep -o " $LAB_RUN/[^ ]*" /proc/self/mounts | sed 's/^/mount/'
true
"#;
    let output = crate::support::kit_environment(Command::new("bash").args(["-c", LOOK])).output().expect("bash");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
