//! The verbs that print an answer and end: `plan`, `status`, `leases`, `validate`.

use std::path::{Path, PathBuf};

use berth::cli::{Output, StatusOutput};
use berth::config::{self, Options};
use berth::exit::{Code, Failure};
use berth::metrics::Format;
use berth::sys::link::Links;
use berth::{serve, status, validate};

use super::{configure, make_plan, print, warn};

/// What `run` would do.
pub async fn plan(options: &Options, output: Output) -> Result<Code, Failure> {
    let links = Links::open()?;
    let plan = make_plan(&configure(options)?, &links).await?;
    warn(&plan.disk.notes);
    let text = match output {
        Output::Text => plan.to_string(),
        Output::Json => serde_json::to_string_pretty(&plan)
            .map_err(|error| Failure::new(Code::Plan, error.to_string()))?,
    };
    print(&format!("{text}\n"))
}

/// Its answer; whether it is ready, or alive, is the code.
pub async fn status(
    state_dir: Option<&Path>,
    alive: bool,
    output: StatusOutput,
) -> Result<Code, Failure> {
    let dir = state_dir.unwrap_or(Path::new(config::STATE_DIR));
    let format = match output {
        StatusOutput::Prometheus => Some(Format::Text),
        StatusOutput::OpenMetrics => Some(Format::OpenMetrics),
        StatusOutput::Text | StatusOutput::Json => None,
    };
    if let Some(format) = format {
        let page = status::ask_for(dir, status::Request::Metrics(format)).await?;
        return print(&String::from_utf8_lossy(&page));
    }
    let status = status::ask(dir).await?;
    let text = match output {
        StatusOutput::Json => serde_json::to_string(&status)
            .map_err(|error| Failure::new(Code::NotReady, error.to_string()))?,
        _ => status.to_string(),
    };
    print(&format!("{text}\n"))?;
    Ok(if status.ready || alive { Code::Success } else { Code::NotReady })
}

/// What the lease file has.
pub fn leases(lease_file: &Path, output: Output) -> Result<Code, Failure> {
    print(&serve::leases::list(lease_file, output == Output::Json)?)
}

/// What is wrong with the values of these files together; the code says whether anything is an error.
pub fn validate(files: &[PathBuf], output: Output) -> Result<Code, Failure> {
    let read = |path: &PathBuf| {
        read_values(path).map_err(|error| {
            Failure::new(Code::Facts, format!("{}: it cannot be read: {error}", path.display()))
        })
    };
    let texts = files.iter().map(read).collect::<Result<Vec<String>, Failure>>()?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let name = |finding: &validate::Finding| {
        files.get(finding.at.file).map(|path| path.display().to_string()).unwrap_or_default()
    };
    let found: Vec<(String, validate::Finding)> =
        validate::values(&texts).into_iter().map(|finding| (name(&finding), finding)).collect();
    let errors =
        found.iter().filter(|(_, finding)| finding.severity == validate::Severity::Error).count();
    match output {
        Output::Text => {
            let text: String =
                found.iter().map(|(file, finding)| format!("{file}:{finding}\n")).collect();
            print(&text)?;
            let warnings = found.len() - errors;
            if !found.is_empty() {
                eprintln!("berth: {}, {}", many(errors, "error"), many(warnings, "warning"));
            }
        }
        Output::Json => {
            let told: Vec<_> =
                found.iter().map(|(file, finding)| validate::InFile { file, finding }).collect();
            let text = serde_json::to_string_pretty(&told)
                .map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
            print(&format!("{text}\n"))?;
        }
    }
    Ok(if errors == 0 { Code::Success } else { Code::Invalid })
}

fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn read_values(path: &Path) -> std::io::Result<String> {
    if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    }
}
