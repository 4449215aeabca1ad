//! Language models: whose they are, with which key they are asked, and asking them.
//!
//! Owns the providers of a project and those that the operator gives to all. Never reads what a model says: that is for the
//! program of the step, in the sandbox.
//!
//! | file | owns |
//! |---|---|
//! | `vendor` | how each vendor is asked: addresses, headers, forms |
//! | `endpoint` | a provider as it is asked, wherever it is kept |
//! | `providers` | the providers of a project |
//! | `given` | providers that come from a file: the operator's, or those of `agentruntime run` |
//! | `resolve` | which provider a model is asked at |
//! | `outside` | what the host does for a step |
//! | `ask` | one request, with its repetitions |
//! | `catalog` | which models there are |

mod ask;
pub(crate) mod catalog;
mod endpoint;
pub(crate) mod given;
mod outside;
pub(crate) mod providers;
pub(crate) mod resolve;
mod vendor;

pub(crate) use endpoint::{Endpoint, Tier};
pub(crate) use outside::NoProvider;
pub(crate) use vendor::Vendor;
