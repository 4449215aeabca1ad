//! Graphs: what an author writes, read into what a run can follow.
//!
//! Owns the document's form ([`Graph::parse`]), templates, conditions and schemas, and the dry-run. A [`Graph`] that exists is
//! valid: every reference leads somewhere, every limit is kept, so that whoever follows it cannot fail on it.
//! Never runs a step, reads a clock or stores anything.

mod condition;
mod input_schema;
mod issue;
mod json_path;
mod lua_reads;
mod model;
mod nearest;
mod references;
mod template;

pub use condition::{Condition, is_truthy};
pub use input_schema::InputSchema;
pub use issue::{Check, Issue, IssueCode, Severity};
pub use lua_reads::LuaReads;
pub use model::*;
pub use template::{Key, Lookup, Path, PathUse, RESOLVED_BYTES_MAX, Template, TemplateSyntaxError, nearest_path, walk};
