//! Where credentials may be sent.

use super::IntegrationError;
use agentruntime_host_api::HostPattern;

/// Hosts of one credential: more than any service has.
pub(crate) const HOSTS_MAX: usize = 32;

/// Where the services of the catalog are, for connections that do not say it.
const OF_SERVICES: &[(&str, &[&str])] = &[
    ("anthropic", &["api.anthropic.com"]),
    ("github", &["api.github.com"]),
    ("gitlab", &["gitlab.com"]),
    ("google", &["generativelanguage.googleapis.com"]),
    ("notion", &["api.notion.com"]),
    ("openai", &["api.openai.com"]),
    ("resend", &["api.resend.com"]),
    ("slack", &["slack.com"]),
];

/// Reads a list of hosts.
pub(super) fn read(given: &[String]) -> Result<Vec<HostPattern>, IntegrationError> {
    let invalid = |message: String| IntegrationError::invalid("allowed_hosts", message);
    if given.len() > HOSTS_MAX {
        return Err(invalid(format!("{} hosts; at most {HOSTS_MAX} are allowed", given.len())));
    }
    given.iter().map(|text| text.parse().map_err(|error| invalid(format!("{error}")))).collect()
}

/// Where the credentials of a service go that nobody decided on: its own hosts, or nowhere.
pub(super) fn of_service(service: &str) -> Vec<HostPattern> {
    let known = OF_SERVICES.iter().find(|(name, _)| *name == service);
    known.into_iter().flat_map(|(_, hosts)| hosts.iter().filter_map(|host| host.parse().ok())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_of_the_catalog_is_one() {
        for (service, hosts) in OF_SERVICES {
            assert_eq!(of_service(service).len(), hosts.len(), "{service}");
        }
        assert!(of_service("unheard-of").is_empty());
    }
}
