//! The product as functions: publish, start, follow, answer, control, look up.
//!
//! Owns what each command means, whoever gives it. Never prints, and never knows flags or HTTP: the command line and every
//! other skin call these functions and add nothing but form.
//!
//! | file | owns |
//! |---|---|
//! | `drafts` | workflows as authors see them: made, changed, put away |
//! | `dry_run` | what is asked of a graph, and where it is checked |
//! | `publish` | new versions, and what changed between two |
//! | `approvals` | whether a version may be used |
//! | `checks` | how many graphs are checked at once |
//! | `start` | what a caller says about a start, and the start |
//! | `snapshot` | a run as one answer tells it, and waiting for it |
//! | `runs` | starting, reading and listing runs |
//! | `source` | finding runs and questions, wherever they are read from |
//! | `control` | pause, resume, stop, retry |
//! | `tasks` | questions to people, and their answers |
//! | `timeline` | a run's events as a picture of its steps |
//! | `invitation` | inviting somebody to a workspace |
//! | `follow` | the events of a run as they become durable, and what it waits for |
//! | `feed` | the events of a run for those who only read them |
//! | `workflow_feed` | the events of all runs of a workflow, for the same |
//! | `workflow_feeds` | one such feed for all who follow a workflow |

pub(crate) mod approvals;
mod checks;
mod control;
pub(crate) mod drafts;
mod dry_run;
mod error;
mod feed;
mod follow;
pub(crate) mod invitation;
mod publish;
mod runs;
mod snapshot;
mod source;
mod start;
mod tasks;
pub(crate) mod timeline;
mod workflow_feed;
mod workflow_feeds;

pub(crate) use checks::Checks;
pub(crate) use control::Command;
pub(crate) use dry_run::{DryRunQuestion, dry_run};
pub(crate) use error::{Instead, OperationError};
pub(crate) use feed::{RunFeed, RunNews};
pub(crate) use follow::{Feed, Follower, News, Pace, Waiting};
pub(crate) use publish::{Checking, Publication};
pub(crate) use runs::runs_of_tenant;
pub(crate) use snapshot::RunSnapshot;
pub(crate) use source::{RunSource, fits, named};
pub(crate) use start::{StartCall, StartParams, misspelt};
pub(crate) use tasks::Answer;
pub(crate) use timeline::Timeline;
use workflow_feed::{WorkflowFeed, WorkflowNews};
pub(crate) use workflow_feeds::{SharedNews, WorkflowFeeds};

use agentruntime_engine::store::{Scope, Store};
use agentruntime_host_api::{ProjectId, TenantId};

/// The workflows and runs of one project.
#[derive(Clone)]
pub(crate) struct Project {
    /// Where they are kept.
    pub(crate) store: Store,
    /// Which of all that is kept there.
    pub(crate) scope: Scope,
}

/// The tenant of whoever runs graphs of their own. Those of a service have ids.
const LOCAL: &str = "local";

impl Project {
    /// The one project of a store that has no users.
    pub(crate) fn local(store: Store) -> Self {
        Self::of(store, TenantId::new(LOCAL), ProjectId::new("default"))
    }

    /// Whether it is a service's, whose node alone has what its runs need.
    pub(crate) fn is_of_a_service(&self) -> bool {
        self.scope.tenant.as_str() != LOCAL
    }

    /// A project of a tenant. Whoever calls this knows that the caller may enter it.
    pub(crate) fn of(store: Store, tenant: TenantId, project: ProjectId) -> Self {
        Self { store, scope: Scope { tenant, project } }
    }
}
