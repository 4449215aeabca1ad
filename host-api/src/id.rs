//! Identifiers. Each is a type of its own, so that a run's id cannot stand where a tenant's is wanted.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// Defines an id that this system gives out: a UUID, version 7 where it is new.
///
/// The crate that uses it depends on `serde` and `uuid`.
#[macro_export]
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(::uuid::Uuid);

        impl $name {
            /// A new id that sorts after all that were made before it.
            pub fn new_v7() -> Self {
                Self(::uuid::Uuid::now_v7())
            }

            /// The id that follows from a parent id and a name: the same inputs give the same id, on every node, after every crash.
            pub fn derived(parent: ::uuid::Uuid, name: &str) -> Self {
                Self(::uuid::Uuid::new_v5(&parent, name.as_bytes()))
            }

            /// The id as a bare UUID.
            pub fn as_uuid(&self) -> ::uuid::Uuid {
                self.0
            }
        }

        impl From<::uuid::Uuid> for $name {
            fn from(uuid: ::uuid::Uuid) -> Self {
                Self(uuid)
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = ::uuid::Error;
            fn from_str(text: &str) -> Result<Self, ::uuid::Error> {
                <::uuid::Uuid as ::std::str::FromStr>::from_str(text).map(Self)
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

/// An id that people choose: a short name.
macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is; where text comes from outside, its form is checked before.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

uuid_id! {
    /// One run of a published workflow version.
    RunId
}
uuid_id! {
    /// One question to a person, opened by a `human_task` step.
    TaskId
}
name_id! {
    /// A workspace: the wall between customers.
    TenantId
}
name_id! {
    /// A project inside a tenant.
    ProjectId
}
name_id! {
    /// A workflow inside a project; its versions are numbered from 1.
    WorkflowId
}
