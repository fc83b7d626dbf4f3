//! Where the server listens, and its thread.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{page::Pages, server};

/// What no client may exceed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; one more closes the oldest that waits.
    pub connections: usize,
    /// Time for the request to arrive.
    pub request: Duration,
    /// Time for a connection as a whole: after it the client has the answer or never will.
    pub connection: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, request: Duration::from_secs(5), connection: Duration::from_secs(30) }
    }
}

/// Takes the address; nobody is answered yet.
///
/// # Errors
///
/// Those of bind(2).
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers on a thread of its own from now on.
    ///
    /// # Errors
    ///
    /// If there can be no thread, or no event loop.
    pub fn start(listener: TcpListener, pages: Arc<Pages>, limits: Limits) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            // The caller has an event loop of its own, which is not to have it.
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("http".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = server::run(&listener, &pages, limits) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    /// Closes all connections.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // That it panicked has been said.
            let _ = thread.join();
        }
    }
}
