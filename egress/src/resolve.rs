//! Names to addresses. What is checked here is what is connected to: nobody looks the name up a second time.

use crate::address::Reach;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

/// Asks some name service.
pub trait Lookup: Send + Sync + fmt::Debug {
    /// The addresses of a host.
    fn lookup(&self, host: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
}

/// Asks the name service of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|found| found.ip()).collect()) })
    }
}

/// A host whose addresses may not be reached.
#[derive(Debug, thiserror::Error)]
#[error("`{host}` leads to {address}, which is no address of the public internet")]
pub(crate) struct OutOfReach {
    pub(crate) host: String,
    pub(crate) address: IpAddr,
}

/// Gives the addresses that may be reached, and fails where there is none.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) reach: Arc<Reach>,
    pub(crate) lookup: Arc<dyn Lookup>,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { reach, lookup } = self.clone();
        let host = name.as_str().to_owned();
        Box::pin(async move {
            let found = lookup.lookup(host.clone()).await?;
            let refused = found.iter().copied().find(|address| !reach.covers(*address));
            let within: Vec<SocketAddr> =
                found.into_iter().filter(|address| reach.covers(*address)).map(|address| (address, 0).into()).collect();
            match (within.is_empty(), refused) {
                (true, Some(address)) => Err(OutOfReach { host, address }.into()),
                (true, None) => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into()),
                (false, _) => Ok(Box::new(within.into_iter()) as Addrs),
            }
        })
    }
}
