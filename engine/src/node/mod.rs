//! A node: claims runs, executes their steps, commits what happened.
