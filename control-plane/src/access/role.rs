//! Roles and scopes: words with an order.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A word that is none of those known.
#[derive(Debug, thiserror::Error)]
#[error("`{word}` is none of: {known}")]
pub(crate) struct UnknownWord {
    word: String,
    known: String,
}

impl UnknownWord {
    /// For the enums that [`words`] defines.
    pub(crate) fn new<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Self {
        Self { word: word.to_owned(), known: known.collect::<Vec<_>>().join(", ") }
    }
}

/// Defines an enum whose values are words, in the API as in the database, from the least to the most.
macro_rules! words {
    ($(#[doc = $doc_text:literal])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[doc = $doc_text])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub(crate) enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All of them, from the least to the most.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word.
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        // Not derived: the derivation does not see the words through this macro.
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                let words = Self::ALL.iter().map(|it| it.as_str());
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .enum_values(Some(words))
                    .description(Some(concat!($($doc_text, "\n"),*).trim()))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                let known = || Self::ALL.iter().map(|it| it.as_str());
                Self::ALL.iter().copied().find(|it| it.as_str() == text).ok_or_else(|| UnknownWord::new(text, known()))
            }
        }
    };
}
pub(crate) use words;

words! {
    /// A role in a workspace.
    TenantRole {
        /// Enters public projects, and private ones by invitation.
        Member = "member",
        /// Runs the workspace: members, invitations, domains, projects, audit.
        Admin = "tenant_admin",
        /// An admin who cannot be removed by admins.
        Owner = "owner",
    }
}

words! {
    /// A role in a project.
    ProjectRole {
        /// Reads.
        Viewer = "project_viewer",
        /// Writes, publishes, runs.
        Contributor = "project_contributor",
        /// Runs the project: its name, visibility and members.
        Admin = "project_admin",
    }
}

words! {
    /// Who may enter a project without being invited to it.
    Visibility {
        /// Its members only, and the workspace's admins.
        Private = "private",
        /// Every member of the workspace, as a contributor.
        Public = "public",
    }
}

words! {
    /// What a token may be used for, beside the role of its owner.
    TokenScope {
        /// Read workflows, versions, runs, events and tasks.
        WorkflowRead = "workflow:read",
        /// Write workflows, publish, manage triggers.
        WorkflowWrite = "workflow:write",
        /// Start, control and answer runs.
        WorkflowRun = "workflow:run",
        /// Call tools outside of a run.
        McpExecute = "mcp:execute",
        /// Everything that its owner may.
        Admin = "admin",
    }
}

/// The scopes of one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenScopes(Vec<TokenScope>);

impl TokenScopes {
    /// Each scope once, in order.
    pub(crate) fn new(scopes: impl IntoIterator<Item = TokenScope>) -> Self {
        let mut scopes: Vec<TokenScope> = scopes.into_iter().collect();
        scopes.sort();
        scopes.dedup();
        Self(scopes)
    }

    /// Each scope.
    pub(crate) fn iter(&self) -> impl Iterator<Item = TokenScope> {
        self.0.iter().copied()
    }

    /// Whether a token with these may be used for that: `admin` includes everything.
    pub(crate) fn allow(&self, scope: TokenScope) -> bool {
        self.0.contains(&scope) || self.0.contains(&TokenScope::Admin)
    }

    /// Whether everything that `other` allows is allowed by these.
    pub(crate) fn include(&self, other: &Self) -> bool {
        other.iter().all(|scope| self.allow(scope))
    }
}

impl fmt::Display for TokenScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.iter().map(TokenScope::as_str).collect();
        f.write_str(&words.join(" "))
    }
}

impl FromStr for TokenScopes {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let scopes = text.split_whitespace().map(TokenScope::from_str).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(scopes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_back_as_they_are_written() {
        let scopes = TokenScopes::new([TokenScope::WorkflowRun, TokenScope::WorkflowRead, TokenScope::WorkflowRun]);
        assert_eq!(scopes.to_string(), "workflow:read workflow:run");
        assert_eq!(scopes.to_string().parse::<TokenScopes>().unwrap(), scopes);
        assert!("workflow:fly".parse::<TokenScopes>().is_err());
    }

    #[test]
    fn a_token_has_what_it_names_and_admin_has_all() {
        let reader = TokenScopes::new([TokenScope::WorkflowRead]);
        let admin = TokenScopes::new([TokenScope::Admin]);
        assert!(reader.allow(TokenScope::WorkflowRead) && !reader.allow(TokenScope::WorkflowWrite));
        assert!(TokenScope::ALL.iter().all(|scope| admin.allow(*scope)));
        assert!(admin.include(&reader) && !reader.include(&admin));
    }
}
