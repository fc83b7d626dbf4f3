//! Writes to the terminal in a thread of its own: a terminal that takes nothing, as one behind a network that stands still,
//! must keep nobody from counting, nor from ending.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use tokio::sync::Notify;

/// What is written is handed over with each flush.
#[derive(Debug)]
pub struct Outlet {
    bytes: Vec<u8>,
    hand_over: Sender<Vec<u8>>,
    progress: Arc<Progress>,
}

/// How far the thread is.
#[derive(Debug, Default)]
pub struct Progress {
    state: Mutex<State>,
    /// For those who wait for a time.
    changed: Condvar,
    /// For the loop.
    free: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Pictures that are not written yet.
    waiting: usize,
    /// The terminal is gone.
    lost: bool,
}

impl Outlet {
    /// Writes to standard output.
    ///
    /// # Errors
    ///
    /// When there is no file descriptor or thread to be had.
    pub fn start() -> io::Result<(Self, Arc<Progress>)> {
        let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let (hand_over, pictures) = channel::<Vec<u8>>();
        let progress = Arc::new(Progress::default());
        let of_thread = Arc::clone(&progress);
        thread::Builder::new().name("screen".to_owned()).spawn(move || {
            for bytes in pictures {
                let lost = out.write_all(&bytes).is_err();
                of_thread.written(lost);
            }
        })?;
        Ok((Self { bytes: Vec::new(), hand_over, progress: Arc::clone(&progress) }, progress))
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        self.progress.lock().waiting += 1;
        let bytes = std::mem::take(&mut self.bytes);
        self.hand_over.send(bytes).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Progress {
    /// Whether all is written.
    pub fn is_free(&self) -> bool {
        self.lock().waiting == 0
    }

    /// Whether the terminal is gone.
    pub fn is_lost(&self) -> bool {
        self.lock().lost
    }

    /// Waits until all is written.
    pub async fn free(&self) {
        while !self.is_free() {
            self.free.notified().await;
        }
    }

    /// The same for no longer than `patience`; whether it is.
    pub fn wait(&self, patience: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), patience, |state| state.waiting > 0);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting == 0 && !state.lost
    }

    fn written(&self, lost: bool) {
        let mut state = self.lock();
        state.waiting -= 1;
        state.lost |= lost;
        drop(state);
        self.changed.notify_all();
        // One permit is kept for who comes to wait just now.
        self.free.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
