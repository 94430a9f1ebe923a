//! What each policy chooses on hosts made of files, and what bad input gets.
#![allow(clippy::unwrap_used, reason = "tests")]

use corewire_placement::{
    Choice, ChooseError, CpuSet, Facts, Options, Placement, Policy, Report, Root, derive,
};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A host made of files: its `/proc` and `/sys`.
struct Host(TempDir);

impl Host {
    /// CPUs that are online, with the siblings `n` and `n + cores`, and nodes of four cores each.
    fn new(cpus: u32, cores: u32) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        host.write("sys/devices/system/cpu/online", &format!("0-{}", cpus - 1));
        host.write("sys/devices/system/cpu/possible", &format!("0-{}", cpus - 1));
        for cpu in 0..cpus {
            let siblings: Vec<String> = (0..cpus)
                .filter(|other| other % cores == cpu % cores)
                .map(|it| it.to_string())
                .collect();
            let file = format!("sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list");
            host.write(&file, &siblings.join(","));
        }
        for node in 0..cores.div_ceil(4) {
            let cpus: CpuSet = (0..cpus).filter(|cpu| (cpu % cores) / 4 == node).collect();
            host.write(&format!("sys/devices/system/node/node{node}/cpulist"), &cpus.to_string());
        }
        host
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn mask(self, cpus: &str) -> Self {
        self.write("proc/thread-self/status", &format!("Name:\tx\nCpus_allowed_list:\t{cpus}"));
        self
    }

    fn isolate(self, cpus: &str) -> Self {
        self.write("sys/devices/system/cpu/isolated", cpus);
        self
    }

    fn cpuset(self, cpus: &str) -> Self {
        self.write("proc/self/cgroup", "0::/a.slice/b.service");
        self.write("sys/fs/cgroup/a.slice/cpuset.cpus.effective", cpus);
        self
    }

    fn quota(self, quota: &str) -> Self {
        self.write("proc/self/cgroup", "0::/a.slice/b.service");
        self.write("sys/fs/cgroup/a.slice/cpu.max", quota);
        self
    }

    fn card(self, name: &str, node: &str) -> Self {
        self.write(&format!("sys/class/net/{name}/device/numa_node"), node);
        self
    }

    fn root(&self) -> Root {
        Root::new(self.0.path())
    }

    fn facts(&self) -> Facts {
        Facts::read(&mut self.root(), None).unwrap()
    }

    fn choose(&self, policy: &str) -> Result<Choice, ChooseError> {
        let policy: Policy = policy.parse().unwrap();
        policy.choose(&mut self.root(), &self.facts())
    }

    fn shards(&self, policy: &str) -> Vec<u32> {
        self.choose(policy).unwrap().shards.into_iter().flatten().collect()
    }

    /// A placement file that was made for this host.
    fn file(&self, options: &Options) -> Placement {
        derive(&self.facts().topology, &[], options).unwrap()
    }
}

fn saved(folder: &Path, text: &str) -> String {
    let path = folder.join("placement.toml");
    fs::write(&path, text).unwrap();
    format!("file:{}", path.display())
}

#[test]
fn each_policy_on_two_nodes_of_four_cores_with_siblings() {
    let host = Host::new(16, 8).card("eth1", "1");
    assert_eq!(host.shards("all"), (0..16).collect::<Vec<_>>());
    assert_eq!(host.shards("cores"), (0..8).collect::<Vec<_>>());
    assert_eq!(host.shards("node-of:eth1"), [4, 5, 6, 7]);
    assert_eq!(host.shards("9,0-2"), [9, 0, 1, 2]);
    let split = host.choose("split:2").unwrap();
    assert_eq!(split.shard_cpus().to_string(), "2-7");
    assert_eq!(split.interrupts.to_string(), "0-1");
    let unpinned = host.choose("unpinned:3").unwrap();
    assert_eq!((unpinned.shards, unpinned.helpers), (vec![None; 3], CpuSet::new()));
}

#[test]
fn helpers_go_to_free_cores_then_to_siblings_then_anywhere() {
    let host = Host::new(16, 8);
    let helpers = |policy| host.choose(policy).unwrap().helpers.to_string();
    assert_eq!(helpers("split:2"), "0-1,8-9", "the free cores, both of their threads");
    assert_eq!(helpers("cores"), "8-15", "siblings are better than the shards' own CPUs");
    assert_eq!(helpers("0-3"), "4-7,12-15");
    assert_eq!(helpers("all"), "");
    // A CPU without a tick is not for them, as long as there is another one.
    host.write("sys/devices/system/cpu/nohz_full", "4-7");
    assert_eq!(helpers("0-3"), "12-15");
}

#[test]
fn the_mask_and_the_quota_limit_what_is_not_named() {
    let host = Host::new(16, 8).mask("2-5,10-13");
    assert_eq!(host.shards("all"), [2, 3, 4, 5, 10, 11, 12, 13]);
    assert_eq!(host.shards("cores"), [2, 3, 4, 5]);
    assert_eq!(host.choose("cores").unwrap().helpers.to_string(), "10-13");
    let host = host.quota("250000 100000");
    assert_eq!(host.facts().quota, Some(3));
    assert_eq!(host.shards("all"), [2, 3, 4]);
    assert_eq!(host.shards("split:1"), [3, 4, 5]);
    assert_eq!(host.shards("2-5"), [2, 3, 4, 5], "who names CPUs has counted");
    host.write("sys/fs/cgroup/cpu.max", "100000 100000");
    assert_eq!(host.shards("cores"), [2], "a quota above applies as well");
}

#[test]
fn isolated_cpus_can_be_named_without_taskset() {
    // As a process starts on a host with isolcpus=4-7.
    let host = Host::new(8, 8).isolate("4-7").mask("0-3");
    assert_eq!(host.shards("all"), [0, 1, 2, 3]);
    assert_eq!(host.shards("cores"), [0, 1, 2, 3]);
    let named = host.choose("4-6").unwrap();
    assert_eq!(named.shard_cpus().to_string(), "4-6");
    assert_eq!(named.helpers.to_string(), "0-3", "the others stay where the scheduler is");
    // Not if the control group does not have them,
    let host = host.cpuset("0-5");
    let error = host.choose("4-6").unwrap_err();
    assert_eq!(error, ChooseError::CpuNotAllowed { cpu: 6, allowed: "0-5".parse().unwrap() });
    // and not those that a taskset left out.
    let host = Host::new(8, 8).mask("0-3");
    assert!(matches!(host.choose("4"), Err(ChooseError::CpuNotAllowed { cpu: 4, .. })));
}

#[test]
fn a_mask_that_was_set_by_hand_names_quiet_cpus() {
    let host = Host::new(8, 8).isolate("4-7").mask("4-7");
    assert_eq!(host.shards("all"), [4, 5, 6, 7]);
    assert_eq!(host.shards("cores"), [4, 5, 6, 7]);
    let host = Host::new(8, 8);
    host.write("sys/devices/system/cpu/nohz_full", "2-7");
    assert_eq!(host.shards("cores"), [0, 1], "the mask is the one that every process has");
    assert_eq!(host.shards("all").len(), 8);
}

#[test]
fn what_the_host_does_not_have_is_one_sentence_with_a_remedy() {
    let host = Host::new(8, 8).card("eth0", "-1").card("eth1", "1").mask("0-3");
    host.write("sys/devices/system/cpu/online", "0-5");
    for (policy, words) in [
        ("6", &["CPU 6 is not online", "0-5", "bring it online"][..]),
        ("4", &["CPU 4 is not among", "0-3", "cpuset"]),
        ("1,1", &["CPU 1 is named twice"]),
        ("split:4", &["split:4 leaves no core", "may use 4", "fewer"]),
        ("node-of:eth0", &["NUMA node", "eth0", "cores"]),
        ("node-of:eth1", &["on node 1", "no CPU", "widen"]),
        ("node-of:eth9", &["no network card eth9", "/sys/class/net"]),
        ("file:/no/such/placement.toml", &["/no/such/placement.toml", "--emit-placement"]),
        ("file:/", &["not a file"]),
    ] {
        let text = host.choose(policy).unwrap_err().to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{policy}: {text}");
        assert_eq!(text.lines().count(), 1, "{policy}: {text}");
    }
    let none = Policy::Cpus(Vec::new()).choose(&mut host.root(), &host.facts());
    assert_eq!(none, Err(ChooseError::NoShard));
    assert_eq!(
        Policy::Unpinned(0).choose(&mut host.root(), &host.facts()),
        Err(ChooseError::NoShard)
    );
}

#[test]
fn a_placement_file_is_followed_or_refused_as_a_whole() {
    let host = Host::new(8, 8);
    let folder = tempfile::tempdir().unwrap();
    let options = Options { cpus: Some("5,1-2".parse().unwrap()), ..Options::default() };
    let placement = host.file(&options);
    let text = placement.to_toml().unwrap();
    assert_eq!(host.shards(&saved(folder.path(), &text)), [5, 1, 2]);

    // A server in a smaller cpuset is on the same machine, and may use fewer CPUs.
    let smaller = Host::new(8, 8).cpuset("0-3");
    assert_eq!(smaller.facts().topology.digest(), host.facts().topology.digest());
    let refuse = |host: &Host, text: &str, words: &[&str]| {
        let error = host.choose(&saved(folder.path(), text)).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    };
    refuse(&smaller, &text, &["placement.toml", "CPU 5 is not among"]);
    refuse(&Host::new(16, 8), &text, &["other CPUs, cores or nodes", "--emit-placement"]);
    let offline = Host::new(8, 8);
    offline.write("sys/devices/system/cpu/online", "0-4");
    refuse(&offline, &text, &["CPU 5 is not online"]);
    let digest = text.replace(&placement.topology, "");
    refuse(&host, &digest, &["digest none"]);
    let none = "schema = 1\ncreated_by = \"x\"\nlayout = \"aligned\"\nirq_cpus = \"\"\ntopology = \"\"\nshard = []\n";
    refuse(&host, none, &["there is no shard", "--emit-placement"]);
    refuse(&host, "shard = 3", &["not a placement file"]);
    refuse(&host, &text.replacen("cpu = 1", "cpu = 5", 1), &["two shards share a CPU"]);
}

#[test]
fn a_host_that_hides_its_files_still_has_the_mask() {
    let mut empty = Root::new("/no/such/tree");
    let mask: CpuSet = "4-5".parse().unwrap();
    let facts = Facts::read(&mut empty, Some(&mask)).unwrap();
    let choice = Policy::All.choose(&mut empty, &facts).unwrap();
    assert_eq!(choice.shard_cpus(), mask);
    // A container may show others than there are.
    let shown = Host::new(2, 2);
    let facts = Facts::read(&mut shown.root(), Some(&mask)).unwrap();
    assert_eq!(Policy::Cores.choose(&mut shown.root(), &facts).unwrap().shard_cpus(), mask);
}

#[test]
fn the_table_says_why_each_cpu_is_what_it_is() {
    let host = Host::new(8, 4).isolate("3,7").mask("0-2,4-6");
    host.write("sys/devices/system/cpu/online", "0-6");
    let report =
        |policy: &str| Report::new(&host.facts(), &host.choose(policy).unwrap()).to_string();
    assert_eq!(
        report("split:1"),
        " CPU  role                           node  core  why
   0  interrupts, helpers               0     0  online, in the affinity mask, sibling of 4
   1  shard 0                           0     1  online, in the affinity mask, sibling of 5
   2  shard 1                           0     2  online, in the affinity mask, sibling of 6
   3  unused: for those who name it     0     3  online, isolated from the scheduler
   4  helpers                           0     0  online, in the affinity mask, sibling of 0
   5  free: its core has shard 0        0     1  online, in the affinity mask, sibling of 1
   6  free: its core has shard 1        0     2  online, in the affinity mask, sibling of 2
   7  offline                           -     -  isolated from the scheduler
"
    );
    assert!(report("3").contains("   3  shard 0 "), "{}", report("3"));
    assert!(report("unpinned:2").contains("2 shards are not pinned"));
    assert!(report("0-2,4-6").contains("every CPU of the mask has a shard"));
}
