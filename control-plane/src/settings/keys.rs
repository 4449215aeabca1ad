//! The table of all settings.
//!
//! A setting `public_url` is `public_url` in the file, `AGENTRUNTIME_PUBLIC_URL` in the environment and `--public-url` on the
//! command line. A secret `smtp_password` is `smtp_password_file` in all three, a file that holds it, or itself in the
//! environment.

use std::{collections::BTreeMap, sync::LazyLock};

/// The beginning of the names of environment variables.
pub(crate) const PREFIX: &str = "AGENTRUNTIME_";

/// A setting that can be given.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name.
    pub(crate) name: &'static str,
    /// The name under which a file is given that holds it, where it is a secret.
    pub(crate) file: Option<&'static str>,
    /// What stands for the value in help texts.
    pub(crate) value: &'static str,
    /// What it decides.
    pub(crate) about: &'static str,
    /// Where its flag is made, if not from this table.
    pub(crate) flag: Flag,
}

/// Whether a setting has a flag of this table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// Made from the table.
    Own,
    /// Every command has it.
    Global,
}

const fn plain(name: &'static str, value: &'static str, about: &'static str) -> Key {
    Key { name, file: None, value, about, flag: Flag::Own }
}

const fn secret(name: &'static str, file: &'static str, about: &'static str) -> Key {
    Key { name, file: Some(file), value: "FILE", about, flag: Flag::Own }
}

/// All of them, in the order in which they are shown.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "data",
        file: None,
        value: "DIR|postgres://…",
        about: "Where workflows and runs are kept",
        flag: Flag::Global,
    },
    secret("data_url", "data_url_file", "A file that holds `data`, where that is a URL with a password"),
    secret("master_key", "master_key_file", "A file with the key that seals stored secrets: 32 bytes in base64"),
    plain("previous_master_key_files", "FILES", "Files with keys that only open what they sealed before"),
    plain("listen", "ADDR", "Where to listen"),
    plain("public_url", "URL", "How clients reach the service: in links, and as the origin of browsers"),
    plain("tls_certificate", "FILE", "The certificate chain, in PEM, where connections are encrypted here"),
    plain("tls_key", "FILE", "The certificate's key, in PEM"),
    plain("trusted_proxies", "NETWORKS", "Proxies whose X-Forwarded-For is believed"),
    plain("allowed_origins", "ORIGINS", "Other origins whose pages may use the API from a browser"),
    plain("cookie_domain", "DOMAIN", "The domain of session cookies; the host alone if not given, which is safer"),
    plain("name_server", "ADDR", "The name server that verifies domains; the machine's own if not given"),
    secret("smtp_url", "smtp_url_file", "A file with the SMTP server: smtps://USER:PASSWORD@HOST"),
    plain("mail_from", "ADDRESS", "Who writes mails"),
    plain("openid_issuer", "URL", "Who signs people in, by OpenID Connect"),
    plain("openid_client_id", "ID", "What the issuer calls this service"),
    secret("openid_client_secret", "openid_client_secret_file", "A file with the issuer's secret for this service"),
    secret("platform_providers", "platform_providers_file", "A file with providers of models for all workspaces"),
    plain("vault_address", "URL", "A server with the API of HashiCorp Vault that keeps the values of vaults"),
    plain("vault_token_file", "FILE", "The token by which it knows this service, read anew for each request"),
    plain("vault_mount", "PATH", "Where its engine KV of version 2 is mounted"),
    plain("vault_prefix", "PATH", "The folder in it for this service"),
    plain("egress_allowed_networks", "NETWORKS", "Networks that steps may reach beside the public internet"),
    plain("egress_proxy", "URL", "A proxy that requests of steps go through, and that decides on addresses"),
    plain("egress_requests_max", "N", "Requests of steps under way at once; further ones wait"),
    plain("workspace_egress_requests_max", "N", "Those of them that are of one workspace; further ones wait"),
    plain("body_bytes_max", "BYTES", "The largest body of a request"),
    plain("workspace_bodies_bytes_max", "BYTES", "Bodies of one workspace's requests under way, together"),
    plain("bodies_bytes_max", "BYTES", "Bodies of all requests under way, together"),
    plain("connections_max", "N", "Connections at once"),
    plain(
        "connections_per_address_max",
        "N",
        "Connections from one address; trusted proxies are exempt; 0 is without limit",
    ),
    plain(
        "read_seconds_max",
        "N",
        "How long a client may take to send a head, or a body beyond 1 s for each 8 KiB, or take nothing of an answer",
    ),
    plain(
        "drain_notice_seconds",
        "N",
        "How long it serves on after it was told to end, not ready any more; 0: not at all",
    ),
    plain("drain_seconds", "N", "How long requests under way may take after the service was told to end"),
    plain("requests_per_minute", "N", "Requests with one token or in one session; 0 is without limit"),
    plain("anonymous_requests_per_minute", "N", "Requests without a credential from one address; 0 is without limit"),
    plain("failed_authentications_per_minute", "N", "Wrong credentials from one address; 0 is without limit"),
    plain("active_runs_max", "N", "Runs that this process works on at once; further ones wait"),
    plain(
        "workspace_unfinished_runs_max",
        "N",
        "Runs of one workspace that have not ended; further starts are refused",
    ),
    plain(
        "workspace_stored_bytes_max",
        "BYTES",
        "What the events of one workspace's runs may take; further starts are refused; 0 is without limit",
    ),
    plain("workspace_processors_max", "N", "Scripts of one workspace that compute at once; 0: as there are processors"),
    plain("retention_days", "N", "Days after its end at which a run is removed; 0 keeps all"),
    plain("archive_dir", "DIR", "Where runs are written before they are removed; if not given, they are gone"),
    plain("log", "FILTER", "Which lines of the log are written: error, warn, info, debug, trace, or by target"),
    plain("log_format", "text|json", "The form of the log"),
    plain(
        "metrics_listen",
        "ADDR",
        "An address of its own for /metrics, which is not answered without; only `dev` does, to this machine",
    ),
    plain("otlp_endpoint", "URL", "An OTLP/HTTP receiver of traces"),
];

impl Key {
    /// The name in the file and on the command line.
    pub(crate) fn written(&self) -> &'static str {
        self.file.unwrap_or(self.name)
    }
}

/// The name of a setting's environment variable.
pub(crate) fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_ascii_uppercase())
}

/// The name of a setting's flag, without the dashes before it.
pub(crate) fn flag(name: &'static str) -> &'static str {
    /// Written once for the process, as the command line wants names that last.
    static FLAGS: LazyLock<BTreeMap<&str, String>> =
        LazyLock::new(|| KEYS.iter().map(|key| (key.written(), key.written().replace('_', "-"))).collect());
    FLAGS.get(name).map_or(name, String::as_str)
}

/// The known name that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| strsim::damerau_levenshtein(name, other);
    known.map(|other| (distance(other), other)).min().filter(|(far, _)| *far <= 1 + name.len() / 4).map(|(_, it)| it)
}
