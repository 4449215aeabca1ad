//! Graphs: what an author writes, read into what a run can follow.
//!
//! Owns the document's form ([`Graph::parse`]), templates, conditions and schemas, and the dry-run. A [`Graph`] that exists is
//! valid: every reference leads somewhere, every limit is kept, so that whoever follows it cannot fail on it.
//! Never runs a step, reads a clock or stores anything.

mod build;
mod canonical;
mod condition;
mod diff;
mod grants;
mod input_schema;
mod issue;
mod json_path;
pub mod limits;
mod lua_reads;
mod model;
mod nearest;
mod order;
mod overrides;
mod parse;
mod publish;
mod references;
mod report;
mod schema;
mod template;
mod validate;

pub use canonical::{canonical_text, sha256_hex};
pub use condition::{Condition, is_truthy};
pub use diff::{Edge, GrantRef, GraphDiff, KeyChange, LimitChange, StepChange, StepRef, diff, grants_added};
pub use input_schema::InputSchema;
pub use issue::{Check, Issue, IssueCode, Severity};
pub use lua_reads::LuaReads;
pub use model::*;
pub use nearest::nearest;
pub use publish::{NoVersion, called, pin_children};
pub use schema::schema;
pub use template::{Key, Lookup, Path, PathUse, RESOLVED_BYTES_MAX, Template, TemplateSyntaxError, nearest_path, walk};
pub use validate::{DryRun, DryRunOptions, DryRunParams, Readiness, validate};

#[cfg(test)]
mod wrong_graphs;
