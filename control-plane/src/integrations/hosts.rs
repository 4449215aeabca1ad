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

/// Whether credentials may be used in a way in which they could not be: sent to another host, or used to sign in place of
/// being sent.
pub(super) fn is_wider(before: &[HostPattern], now: &[HostPattern]) -> bool {
    let begins_to_sign = now.is_empty() && !before.is_empty();
    begins_to_sign || now.iter().any(|host| !before.contains(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_go_elsewhere_or_begin_to_sign_is_wider() {
        let hosts = |given: &[&str]| read(&given.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap();
        let both = hosts(&["a.example", "b.example"]);
        assert!(!is_wider(&both, &hosts(&["b.example"])) && !is_wider(&both, &both) && !is_wider(&[], &[]));
        for now in [&["c.example"][..], &["a.example:8443"], &["http://a.example"], &["*.a.example"], &[]] {
            assert!(is_wider(&both, &hosts(now)), "{now:?}");
        }
        assert!(is_wider(&[], &both), "what only signed would be sent");
    }

    #[test]
    fn every_host_of_the_catalog_is_one() {
        for (service, hosts) in OF_SERVICES {
            assert_eq!(of_service(service).len(), hosts.len(), "{service}");
        }
        assert!(of_service("unheard-of").is_empty());
    }
}
