//! What starts runs besides people: deliveries to inbound webhooks, and schedules.
//!
//! Owns subscriptions and schedules, whether a delivery is genuine, and when a schedule comes due. That a delivery or a due
//! time starts one run, whatever fails and whoever else works on it, it leaves to the start itself: each has a key, and the
//! engine writes the key with the run. Never decides what a run does.
//!
//! | file | owns |
//! |---|---|
//! | `secret` | signing secrets |
//! | `sealed` | under which master keys signing secrets are sealed |
//! | `signature` | whether and when a delivery was signed |
//! | `automation` | the token in whose name a subscription's runs are started |
//! | `subscriptions` | subscriptions: their rows, and what can be done with them |
//! | `ingress` | deliveries: from a request to a run |
//! | `params` | what a trigger starts runs with |
//! | `due` | when a schedule comes due |
//! | `schedules` | schedules: their rows, and what can be done with them |
//! | `scheduler` | the task that starts what is due |

mod automation;
mod due;
mod error;
pub(crate) mod ingress;
mod params;
pub(crate) mod scheduler;
pub(crate) mod schedules;
pub(crate) mod sealed;
mod secret;
mod signature;
pub(crate) mod subscriptions;

pub(crate) use automation::Wanted;
pub(crate) use error::TriggerError;
pub(crate) use params::{GivenParams, StartParams};

use crate::access::{Caller, Credential, RequestId, SessionId, UserId, caller::Origin};
use agentruntime_host_api::uuid_id;
use std::net::{IpAddr, Ipv4Addr};

uuid_id! {
    /// A subscription of an inbound webhook.
    SubscriptionId
}
uuid_id! {
    /// A schedule of a workflow.
    ScheduleId
}

/// The service itself, on behalf of a user, for the audit log.
fn system(user: UserId) -> Caller {
    let origin = Origin { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), request: RequestId::new_v7() };
    Caller { user, email: String::new(), credential: Credential::Session(SessionId::new_v7()), origin }
}
