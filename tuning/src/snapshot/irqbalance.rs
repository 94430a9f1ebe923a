//! irqbalance: whether it runs, what it was told to leave alone, and where that is configured.

use super::card::Nic;
use super::reader::Reader;

/// irqbalance, if it runs.
#[derive(Debug, Clone, Default)]
pub struct Irqbalance {
    /// Its process id.
    pub pid: u32,
    /// Its arguments and those of its configuration.
    arguments: String,
    /// The text of its policy scripts.
    scripts: String,
    /// Where its arguments are configured; `None` if the tool cannot change them: no file, no systemd.
    pub config: Option<Config>,
}

/// The file that irqbalance's systemd unit reads for its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file.
    pub path: String,
    /// The variable with its arguments.
    pub name: String,
    /// What the file holds.
    pub text: String,
}

impl Config {
    /// The line that sets a variable now; empty if none does.
    #[must_use]
    pub fn line(&self, name: &str) -> &str {
        setting_line(&self.text, name).unwrap_or_default()
    }
}

/// The files of Debian and Red Hat, and the variables that their units hand to irqbalance.
const FILES: [&str; 2] = ["/etc/default/irqbalance", "/etc/sysconfig/irqbalance"];
const NAMES: [&str; 2] = ["IRQBALANCE_ARGS", "OPTIONS"];

/// The last line of a configuration that sets a variable: the one that takes effect.
pub(crate) fn setting_line<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let sets = |line: &&str| {
        line.trim_start().strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
    };
    text.lines().rfind(sets)
}

/// The words of a line `NAME="word word"`; `None` for a line that contains escapes or quotes, which the tool does not
/// rewrite.
pub(crate) fn words(line: &str) -> Option<Vec<&str>> {
    let value = line.split_once('=').map_or("", |(_, value)| value).trim();
    let bare = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(value);
    (!bare.contains(['"', '\'', '\\', '$'])).then(|| bare.split_whitespace().collect())
}

impl Irqbalance {
    pub(super) fn read(reader: &mut Reader<'_>, pid: u32) -> Self {
        let mut arguments = reader
            .optional_quiet(&format!("/proc/{pid}/cmdline"))
            .unwrap_or_default()
            .replace('\0', " ");
        let mut config = None;
        for path in FILES {
            let Some(text) = reader.optional_quiet(path) else { continue };
            for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
                arguments.push_str(&format!(" {}", line.replace(['"', '\'', '='], " ")));
            }
            // A comment also shows which of the variables this version reads.
            let name = NAMES.iter().find(|name| text.contains(&format!("{name}=")));
            let name = (*name.unwrap_or(&NAMES[0])).to_owned();
            config.get_or_insert_with(|| Config { path: path.to_owned(), name, text });
        }
        let has_systemd = reader.list_needed("/run/systemd/system").is_ok();
        let mut irqbalance =
            Self { pid, scripts: String::new(), config: config.filter(|_| has_systemd), arguments };
        for script in irqbalance.values("policyscript", "l") {
            let names = reader.list(&script);
            let files = if names.is_empty() {
                vec![script]
            } else {
                names.iter().map(|name| format!("{script}/{name}")).collect()
            };
            for file in files {
                irqbalance.scripts.push_str(&reader.optional_quiet(&file).unwrap_or_default());
            }
        }
        irqbalance
    }

    /// The values of an option, in its long and in its short form, each with its value in the same word or in the next.
    fn values(&self, long: &str, short: &str) -> Vec<String> {
        let split = |letter: char| letter.is_whitespace() || letter == '=';
        let mut words = self.arguments.split(split).filter(|word| !word.is_empty());
        let mut found = Vec::new();
        while let Some(word) = words.next() {
            if word.strip_prefix("--") == Some(long) || word.strip_prefix('-') == Some(short) {
                found.extend(words.next().map(str::to_owned));
            }
        }
        found
    }

    /// Whether it was told to leave a card's interrupts alone: each by number, all by module, or through a policy
    /// script that names the card's device.
    #[must_use]
    pub fn leaves(&self, nic: &Nic) -> bool {
        let modules = self.values("banmod", "m");
        let numbers = self.values("banirq", "i");
        // From version 1.9.1 on, a word that is only in the interrupts' names bans nothing.
        let by_driver = pci_driver(nic).is_some_and(|driver| modules.contains(&driver));
        let by_number = nic.vectors.iter().all(|vector| numbers.contains(&vector.irq.to_string()));
        let by_script = nic.address().is_some_and(|address| {
            self.scripts.contains(address) && self.scripts.contains("ban=true")
        });
        by_driver || by_script || (nic.has_vectors() && by_number)
    }
}

/// The driver that irqbalance sees: that of the PCI device, even if the card is one level below it.
fn pci_driver(nic: &Nic) -> Option<String> {
    let driver = nic.driver.as_deref()?;
    Some(if driver == "virtio_net" { "virtio-pci" } else { driver }.to_owned())
}

/// The modules whose ban keeps every version of irqbalance from a card's interrupts: the driver for 1.9.1 and later, and for older
/// ones a word that is in all of the interrupts' names.
pub(crate) fn modules_to_ban(nic: &Nic) -> Vec<String> {
    let own = nic.device.as_deref().and_then(|path| path.rsplit('/').next());
    let words = [nic.driver.as_deref(), nic.address(), Some(nic.name.as_str()), own];
    let is_in_all = |word: &&str| nic.vectors.iter().all(|vector| vector.name.contains(*word));
    let by_name = words.into_iter().flatten().find(is_in_all).map(str::to_owned);
    let mut modules: Vec<String> = pci_driver(nic).into_iter().chain(by_name).collect();
    modules.dedup();
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_holds_and_words_are_read_out_of_quotes() {
        let text = "#IRQBALANCE_ARGS=\nIRQBALANCE_ARGS=\"-j\"\n IRQBALANCE_ARGS='--foreground  -j'\nIRQBALANCE_ARGS2=x\n";
        let line = setting_line(text, "IRQBALANCE_ARGS").unwrap_or_default();
        assert_eq!(words(line), Some(vec!["--foreground", "-j"]));
        assert_eq!(words("A=\"x\\\"y\""), None);
        assert_eq!(setting_line(text, "OPTIONS"), None);
    }

    #[test]
    fn both_forms_of_an_option_are_read() {
        let arguments = "irqbalance --banmod=ice --banmod igb -m ena --banirq=7".to_owned();
        let irqbalance = Irqbalance { arguments, ..Irqbalance::default() };
        assert_eq!(irqbalance.values("banmod", "m"), ["ice", "igb", "ena"]);
        assert_eq!(irqbalance.values("banirq", "i"), ["7"]);
    }
}
