//! Being told to end, by SIGTERM or Ctrl-C.

/// Listens for being told to end.
pub(crate) struct Ending {
    #[cfg(unix)]
    terminated: Option<tokio::signal::unix::Signal>,
}

impl Ending {
    /// Listens from now on; before, the word ends the process at once.
    pub(crate) fn listen() -> Self {
        Self {
            #[cfg(unix)]
            terminated: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .inspect_err(|error| tracing::warn!(%error, "SIGTERM cannot be heard; it ends the process at once"))
                .ok(),
        }
    }

    /// Waits for the next word.
    pub(super) async fn told(&mut self) {
        let interrupted = async {
            if let Err(error) = tokio::signal::ctrl_c().await {
                tracing::warn!(%error, "Ctrl-C cannot be heard; it ends the process at once");
                std::future::pending::<()>().await;
            }
        };
        #[cfg(unix)]
        let terminated = async {
            match &mut self.terminated {
                Some(signal) => _ = signal.recv().await,
                None => std::future::pending().await,
            }
        };
        #[cfg(not(unix))]
        let terminated = std::future::pending::<()>();
        tokio::select! {
            () = interrupted => {}
            () = terminated => {}
        }
    }
}

/// Listens for being asked to read files again, by SIGHUP.
pub(super) struct Reload {
    #[cfg(unix)]
    hangup: Option<tokio::signal::unix::Signal>,
}

impl Reload {
    /// Listens from now on.
    pub(super) fn listen() -> Self {
        Self {
            #[cfg(unix)]
            hangup: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
        }
    }

    /// Waits for the next time. Where nobody can ask, nobody does.
    pub(super) async fn asked(&mut self) {
        #[cfg(unix)]
        if let Some(hangup) = &mut self.hangup
            && hangup.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
