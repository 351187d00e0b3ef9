//! Flags of the page in the browser and of the metrics' port.

use std::path::PathBuf;

use clap::Args;

/// Flags of the listener.
#[derive(Debug, Clone, Default, Args)]
pub struct WebOptions {
    /// Page with screen, serial line and status: off, loopback (for `kubectl port-forward`), or pod (on the pod's address,
    /// with a token) [default: off]
    #[arg(long = "web", env = "BERTH_WEB", value_name = "WHERE", help_heading = "Web")]
    pub web: Option<String>,
    /// Its port [default: 6080]
    #[arg(long = "web-port", env = "BERTH_WEB_PORT", value_name = "PORT", help_heading = "Web")]
    pub port: Option<String>,
    /// File whose first line is the token that opens the page, at least 22 characters
    #[arg(
        long = "web-token-file",
        env = "BERTH_WEB_TOKEN_FILE",
        value_name = "FILE",
        help_heading = "Web"
    )]
    pub token_file: Option<PathBuf>,
    /// The page shows and does nothing: on or off [default: off]
    #[arg(long = "web-readonly", env = "BERTH_WEB_READONLY", value_name = "SWITCH", num_args = 0..=1,
          default_missing_value = "on", require_equals = true, help_heading = "Web")]
    pub read_only: Option<String>,
    /// PEM certificates of the page, its own first; with --web-tls-key
    #[arg(
        long = "web-tls-cert",
        env = "BERTH_WEB_TLS_CERT",
        value_name = "FILE",
        help_heading = "Web"
    )]
    pub tls_cert: Option<PathBuf>,
    /// PEM private key of that certificate
    #[arg(
        long = "web-tls-key",
        env = "BERTH_WEB_TLS_KEY",
        value_name = "FILE",
        help_heading = "Web"
    )]
    pub tls_key: Option<PathBuf>,
    /// /metrics, /livez and /readyz alone, for anybody, on a port of the pod's address: pod:PORT or off [default: off]
    #[arg(long = "metrics", env = "BERTH_METRICS", value_name = "WHERE", help_heading = "Web")]
    pub metrics: Option<String>,
}
