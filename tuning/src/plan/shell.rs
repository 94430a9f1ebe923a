//! The plan as a POSIX shell script, for those who want to read every write before it happens.

use super::form::Plan;
use super::setting::Setting;

/// What every script begins with. `ROOT` points the script at a copy of a machine's files instead of the machine.
const PRELUDE: &str = r#"set -eu
ROOT=${ROOT:-}

# irq_of NAME DEVICE: the number of the device's interrupt with this name. Numbers change, names do not; two cards may give the
# same names, so the device decides, and what is still ambiguous is refused.
irq_of() {
    found=
    while read -r number rest; do
        case " $rest" in *" $1") ;; *) continue ;; esac
        number=${number%:}
        [ -z "$2" ] || [ -e "$ROOT$2/msi_irqs/$number" ] || continue
        [ -z "$found" ] || { echo "interrupts $found and $number are both named $1" >&2; return 1; }
        found=$number
    done < "$ROOT/proc/interrupts"
    [ -n "$found" ] || { echo "no interrupt of $2 is named $1" >&2; return 1; }
    echo "$found"
}

# A mask without commas and leading zeros: the kernel prints masks wider than they were written.
plain_mask() { printf '%s' "$1" | tr -d ',' | sed 's/^0*//'; }

same() { # kind, one, other
    case $1 in
        mask) [ "$(plain_mask "$2")" = "$(plain_mask "$3")" ] ;;
        *) [ "$2" = "$3" ] ;;
    esac
}

# check KIND PATH OLD NEW: refuses when somebody changed the value since the plan was made.
check() {
    now=$(cat "$ROOT$2")
    same "$1" "$now" "$3" || same "$1" "$now" "$4" || {
        echo "$2 is $now, the plan expected $3; make a new plan" >&2
        exit 3
    }
}

# put KIND PATH VALUE: writes and reads back.
put() {
    [ -e "$ROOT$2" ] || { echo "$2 is not there" >&2; exit 4; }
    now=$(cat "$ROOT$2")
    if same "$1" "$now" "$3"; then return 0; fi
    if [ "$MODE" = dry-run ]; then echo "echo $3 > $2"; return 0; fi
    echo "$2: $now -> $3"
    printf '%s\n' "$3" > "$ROOT$2" || { echo "$2 refused $3; run this script with 'undo'" >&2; exit 4; }
    now=$(cat "$ROOT$2")
    same "$1" "$now" "$3" || { echo "$2 reads $now after writing $3; run this script with 'undo'" >&2; exit 4; }
}

# config FILE NAME LINE: LINE takes the place of the last one that sets NAME, and irqbalance is restarted to read it.
config() {
    echo "$1: $3"
    [ "$MODE" = dry-run ] && return 0
    text=$(NAME=$2= LINE=$3 awk '
        { text[NR] = $0; sub(/^[ \t]*/, ""); if (index($0, ENVIRON["NAME"]) == 1) at = NR }
        END {
            if (!at) at = ++NR
            text[at] = ENVIRON["LINE"]
            for (i = 1; i <= NR; i++) if (i != at || text[i] != "") print text[i]
        }' "$ROOT$1")
    printf '%s\n' "$text" > "$ROOT$1"
    [ -n "$ROOT" ] || systemctl try-restart irqbalance.service || { echo "irqbalance does not start; run this script with 'undo'" >&2; exit 4; }
}

run() {
    echo "$*"
    [ "$MODE" = dry-run ] || "$@" || { echo "refused; run this script with 'undo'" >&2; exit 4; }
}
"#;

/// Writes the plan as a script that takes one word: `dry-run`, `apply` or `undo`.
#[must_use]
pub fn script(plan: &Plan) -> String {
    let mut text = String::from(
        "#!/bin/sh\n# Written by corewire-tune. Usage: sh THIS dry-run|apply|undo (apply and undo as root).\n",
    );
    text.push_str("# Exit codes: 0 done, 3 the machine is not as the plan expects, 4 a write was refused, 64 usage.\n");
    text.push_str(PRELUDE);
    text.push_str("\ncheck_all() {\n");
    let mut body = String::new();
    if !plan.boot_id.is_empty() {
        body.push_str(&format!(
            "    [ \"$(cat \"$ROOT/proc/sys/kernel/random/boot_id\")\" = {} ] || {{ echo 'the machine was restarted since the plan was made' >&2; exit 3; }}\n",
            quote(&plan.boot_id)
        ));
    }
    for step in &plan.steps {
        let Some(old) = &step.old else { continue };
        if let Some((kind, path)) = place(&step.setting) {
            body.push_str(&format!(
                "    check {kind} {path} {} {}\n",
                quote(old),
                quote(&step.new)
            ));
        }
    }
    text.push_str(if body.is_empty() { "    :\n" } else { &body });
    text.push_str("}\n\napply() {\n    check_all\n");
    for step in &plan.steps {
        text.push_str(&format!("    # {}: {}\n", step.finding, step.why));
        let line = line(&step.setting, &step.new);
        // A write that the kernel may refuse is tried in a subshell, so that the script goes on.
        text.push_str(&if step.may_refuse {
            format!("    ({}) || true\n", line.trim())
        } else {
            line
        });
    }
    text.push_str("    :\n}\n\nundo() {\n");
    for step in plan.steps.iter().rev() {
        if let Some(old) = &step.old {
            text.push_str(&line(&step.setting, old));
        }
    }
    for kept in &plan.kept {
        text.push_str(&line(&kept.setting, &kept.old));
    }
    text.push_str("    :\n}\n\nMODE=${1:-}\ncase $MODE in\n    dry-run | apply) apply ;;\n    undo) undo ;;\n");
    text.push_str("    *) echo \"usage: $0 dry-run|apply|undo\" >&2; exit 64 ;;\nesac\n");
    text
}

/// How the script compares and where it writes; `None` for settings that a program sets.
fn place(setting: &Setting) -> Option<(&'static str, String)> {
    match setting {
        Setting::File { path } => Some(("value", quote(path))),
        Setting::Mask { path } => Some(("mask", quote(path))),
        Setting::Irq { vector, device, .. } => {
            let irq = format!("$(irq_of {} {})", quote(vector), quote(device));
            Some(("value", format!("\"/proc/irq/{irq}/smp_affinity_list\"")))
        }
        Setting::Card { .. } | Setting::Irqbalance { .. } => None,
    }
}

fn line(setting: &Setting, value: &str) -> String {
    match (place(setting), setting) {
        (Some((kind, path)), _) => format!("    put {kind} {path} {}\n", quote(value)),
        (None, Setting::Card { iface, knob }) => {
            let command = value
                .parse()
                .map_or_else(|_| "false".to_owned(), |number| knob.command(&quote(iface), number));
            format!("    run {command}\n")
        }
        (None, Setting::Irqbalance { path, name }) => {
            format!("    config {} {name} {}\n", quote(path), quote(value))
        }
        (None, _) => String::new(),
    }
}

/// A word that the shell takes as it is.
fn quote(text: &str) -> String {
    let is_plain = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-@:,".contains(&byte));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
