//! Helm's engine, Kubernetes' schemas and CycloneDX's, from Python packages in an environment that is made once.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

const PACKAGES: [&str; 5] = [
    "helm-python-sdk==0.2.2",
    "kubernetes-validate==1.37.0",
    "prometheus_client==0.26.0",
    "PyYAML",
    "cyclonedx-python-lib[json-validation]==11.12.0",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[allow(dead_code, reason = "not every test program looks at the examples")]
pub fn examples() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(root().join("examples/values"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    found.sort();
    assert!(found.len() > 5, "{found:?}");
    found
}

/// The environment's Python.
pub fn python() -> PathBuf {
    let of = |name| std::env::var_os(name).map(PathBuf::from);
    let home =
        || of("XDG_CACHE_HOME").or_else(|| Some(of("HOME")?.join(".cache"))).unwrap().join("berth");
    let cache = of("BERTH_CACHE").unwrap_or_else(home);
    std::fs::create_dir_all(&cache).unwrap();
    let dir = cache.join("python-3");
    let lock = File::create(cache.join("helm.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    if !dir.join("made").exists() {
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{command:?}: {said}");
        };
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir));
        run(Command::new(dir.join("bin/pip")).args(["install", "--quiet"]).args(PACKAGES));
        File::create(dir.join("made")).unwrap();
    }
    dir.join("bin/python")
}

pub struct Helm {
    child: Child,
    jobs: ChildStdin,
    results: BufReader<ChildStdout>,
}

impl Helm {
    pub fn start() -> Self {
        let mut command = Command::new(python());
        // It leaves no compiled files beside the tests.
        command
            .arg("-B")
            .arg(root().join("tests/guest/chart/helm.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (jobs, results) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, jobs, results: BufReader::new(results) }
    }

    /// What comes of a job, errors of the values too.
    pub fn job(&mut self, job: &Value) -> Value {
        let mut job = job.clone();
        job["chart"] = root().join("chart").display().to_string().into();
        writeln!(self.jobs, "{job}").unwrap();
        let mut line = String::new();
        self.results.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?} for {job}"))
    }

    /// The objects of a job that must succeed.
    pub fn objects(&mut self, job: &Value) -> Vec<Value> {
        let done = self.job(job);
        done["objects"].as_array().unwrap_or_else(|| panic!("{} for {job}", done["error"])).clone()
    }
}

impl Drop for Helm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
