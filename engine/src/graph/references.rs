//! Which paths may stand where.

/// What a path can start with.
pub(crate) const ROOTS: [&str; 9] =
    ["input", "steps", "run", "connection", "item", "index", "foreach", "body", "while"];
