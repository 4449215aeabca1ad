//! The certificate, and reading it again.

use super::signals::Reload;
use crate::settings::TlsFiles;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use std::io;
use tokio::task::AbortHandle;

/// A certificate in use. A new one is read from the same files on SIGHUP; connections that are open keep the old one.
pub(super) struct Certificate {
    config: RustlsConfig,
    renewal: AbortHandle,
}

impl Certificate {
    /// Reads it.
    pub(super) async fn load(files: &TlsFiles) -> io::Result<Self> {
        let config = RustlsConfig::from_pem_file(&files.certificate, &files.key).await?;
        let renewal = tokio::spawn(renew(config.clone(), files.clone())).abort_handle();
        Ok(Self { config, renewal })
    }

    /// Speaks TLS over what another acceptor gives.
    pub(super) fn acceptor<A>(&self, inner: A) -> RustlsAcceptor<A> {
        RustlsAcceptor::new(self.config.clone()).acceptor(inner)
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn renew(config: RustlsConfig, files: TlsFiles) {
    let mut reload = Reload::listen();
    loop {
        reload.asked().await;
        match config.reload_from_pem_file(&files.certificate, &files.key).await {
            Ok(()) => tracing::info!("the certificate was read again"),
            Err(error) => tracing::error!(%error, "the certificate cannot be read again; the one in use stays"),
        }
    }
}
