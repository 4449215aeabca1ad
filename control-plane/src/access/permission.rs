//! What each operation needs, as types. A handler that changes workflows takes a `May<WriteWorkflows>`; who forgets it has
//! no project to call an operation on, so that it does not compile.

use super::{AccessError, Caller, Credential, ProjectRole, TenantRole, TokenScope, UserId};
use agentruntime_engine::store::Scope;
use agentruntime_host_api::{ProjectId, TenantId};
use std::marker::PhantomData;

/// The proof that a caller may do `P` at its place. Only the entry makes it.
#[derive(Clone, Debug)]
pub(crate) struct May<P: Permission> {
    /// Who.
    pub(crate) caller: Caller,
    /// Where.
    pub(crate) place: P::Place,
    what: PhantomData<P>,
}

impl<P: Permission> May<P> {
    /// For the entry, which has checked it.
    pub(super) fn new(caller: Caller, place: P::Place) -> Self {
        Self { caller, place, what: PhantomData }
    }
}

/// Something that can be allowed.
pub(crate) trait Permission: Send + Sync + 'static {
    /// Where it is allowed.
    type Place: Place<Role = Self::Role>;
    /// The kind of role it asks for.
    type Role;
    /// The scopes that a token needs, all of them.
    const SCOPES: &'static [TokenScope];
    /// The least role that the caller needs.
    const ROLE: Self::Role;
}

/// A kind of place: a project, or a workspace.
pub(crate) trait Place: Sized + Send + Sync + 'static {
    /// The roles at such a place.
    type Role;
    /// The workspace that it is, or is in.
    fn tenant(&self) -> &TenantId;
}

/// A workspace that the caller is in.
#[derive(Clone, Debug)]
pub(crate) struct InTenant {
    /// The workspace.
    pub(crate) tenant: TenantId,
    /// Its name in URLs and headers.
    pub(crate) slug: String,
    /// What the caller is there.
    pub(crate) role: TenantRole,
}

/// A project that the caller may enter.
#[derive(Clone, Debug)]
pub(crate) struct InProject {
    /// Its workspace.
    pub(crate) tenant: InTenant,
    /// The project.
    pub(crate) project: ProjectId,
    /// Its name in URLs and headers.
    pub(crate) slug: String,
    /// What the caller is there.
    pub(crate) role: ProjectRole,
}

impl InProject {
    /// Where its rows lie.
    pub(crate) fn scope(&self) -> Scope {
        Scope { tenant: self.tenant.tenant.clone(), project: self.project.clone() }
    }
}

impl Place for InTenant {
    type Role = TenantRole;

    fn tenant(&self) -> &TenantId {
        &self.tenant
    }
}

impl Place for InProject {
    type Role = ProjectRole;

    fn tenant(&self) -> &TenantId {
        &self.tenant.tenant
    }
}

/// Anybody who proved who they are; what they may do is their own affairs.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    /// Who.
    pub(crate) caller: Caller,
}

impl SignedIn {
    /// Whose affairs these are.
    pub(crate) fn user(&self) -> UserId {
        self.caller.user
    }
}

/// Somebody who is signed in with a browser: what a token cannot do, so that a stolen one cannot either.
#[derive(Clone, Debug)]
pub(crate) struct InSession {
    /// Who.
    pub(crate) caller: Caller,
}

impl InSession {
    /// Whoever it is, unless it is a token.
    pub(crate) fn of(caller: Caller) -> Result<Self, AccessError> {
        match caller.credential {
            Credential::Session(_) => Ok(Self { caller }),
            Credential::Token { .. } => Err(AccessError::SessionNeeded),
        }
    }
}

macro_rules! permissions {
    ($place:ident, $role:ident: $($(#[$doc:meta])* $name:ident = $($scope:ident)&+, $least:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub(crate) enum $name {}
            impl Permission for $name {
                type Place = $place;
                type Role = $role;
                const SCOPES: &'static [TokenScope] = &[$(TokenScope::$scope),+];
                const ROLE: $role = $role::$least;
            }
        )*
    };
}

permissions! { InProject, ProjectRole:
    /// See workflows, versions, runs, events, tasks and triggers.
    ReadWorkflows = WorkflowRead, Viewer;
    /// Write drafts, publish, archive.
    WriteWorkflows = WorkflowWrite, Contributor;
    /// Check a graph without running it.
    ValidateWorkflows = WorkflowRead, Contributor;
    /// Start and control runs, answer tasks.
    RunWorkflows = WorkflowRun, Contributor;
    /// Make and change webhooks and schedules: they are written, and then they start runs.
    WriteTriggers = WorkflowWrite & WorkflowRun, Contributor;
    /// See which credentials there are; never what they hold.
    ReadConnections = WorkflowRead, Contributor;
    /// Write credentials for workflows to use.
    WriteConnections = WorkflowWrite, Contributor;
    /// Rename a project, open or close it, change its members.
    ManageProject = Admin, Admin;
    /// Approve versions that ask for more than the one in use, or reject them.
    ApproveVersions = Admin, Admin;
}

permissions! { InTenant, TenantRole:
    /// See the workspace, and which of its projects one may enter.
    EnterTenant = WorkflowRead, Member;
    /// See runs of all projects that one may enter.
    ReadTenantRuns = WorkflowRead, Member;
    /// Manage one's own tokens.
    OwnTokens = Admin, Member;
    /// Change the workspace, its members, invitations, domains and projects.
    ManageTenant = Admin, Admin;
    /// Write secrets into the workspace's vault.
    ManageVault = Admin, Admin;
    /// Read the audit log.
    ReadAudit = Admin, Admin;
}
