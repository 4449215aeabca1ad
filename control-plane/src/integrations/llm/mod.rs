//! Language models: whose they are, with which key they are asked, and asking them.
//!
//! Owns the providers of a project and those that the operator gives to all. Never acts by what a model says: that is for
//! the program of the step, in the sandbox. Answers that stream are put together, and shown to those who watch.
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
//! | `streamed` | an answer that comes piece by piece |
//! | `fault` | why there is no answer |
//! | `catalog` | which models there are |

mod ask;
pub(crate) mod catalog;
mod endpoint;
mod fault;
pub(crate) mod given;
mod outside;
pub(crate) mod providers;
pub(crate) mod resolve;
mod streamed;
mod vendor;

pub(crate) use endpoint::{Endpoint, Tier};
pub(crate) use outside::NoProvider;
pub(crate) use vendor::Vendor;
