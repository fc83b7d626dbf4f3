//! Takes the terminal and gives it back, whatever happens in between.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, Once, PoisonError},
    time::Duration,
};

use ratatui_core::{layout::Size, terminal::Terminal};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::{
    outlet::{Outlet, Progress},
    suspend,
};
use crate::view::tui::{Ansi, Look, State, draw};

/// A terminal that takes nothing for so long is as good as gone when it is to be given back.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a panic needs to give the terminal back.
static TAKEN: Mutex<Option<(Arc<OwnedFd>, Termios)>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// The terminal while it is ours.
pub struct Screen {
    terminal: Terminal<Ansi<Outlet>>,
    progress: Arc<Progress>,
    /// Where keys come from.
    input: Arc<OwnedFd>,
    /// As it was.
    before: Termios,
    look: Look,
}

impl Screen {
    /// Takes it: another screen, no cursor, keys one by one and without their meaning for the line discipline.
    ///
    /// # Errors
    ///
    /// When there is no terminal.
    pub fn take(look: Look) -> io::Result<Self> {
        let input = Arc::new(input()?);
        let before = tcgetattr(&*input)?;
        let (outlet, progress) = Outlet::start()?;
        let terminal = Terminal::new(Ansi::new(outlet, size))?;
        let mut screen = Self { terminal, progress, input, before, look };
        HOOK.call_once(give_back_on_panic);
        screen.enter()?;
        Ok(screen)
    }

    /// Where keys come from.
    pub fn input(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.input)
    }

    /// How far the terminal is with what was drawn.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Draws a state, as far as it has changed, unless the terminal has not taken the picture before. Whether it was drawn.
    ///
    /// # Errors
    ///
    /// When the terminal is gone.
    pub fn draw(&mut self, state: &mut State) -> io::Result<bool> {
        if self.progress.is_lost() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !self.progress.is_free() {
            return Ok(false);
        }
        let look = self.look;
        let mut drawn = None;
        self.terminal.draw(|frame| drawn = Some(draw(state, look, frame.buffer_mut())))?;
        if let Some(drawn) = drawn {
            state.drawn(drawn);
        }
        Ok(true)
    }

    /// Takes the terminal anew: something else may have used it, or set it otherwise.
    ///
    /// # Errors
    ///
    /// When the terminal is gone.
    pub fn enter(&mut self) -> io::Result<()> {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Arc::clone(&self.input), self.before.clone()));
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(&*self.input, OptionalActions::Now, &raw)?;
        self.terminal.backend_mut().enter()?;
        self.terminal.clear()
    }

    /// Gives it back. Whether it took that; nothing is left to be done if not.
    pub fn leave(&mut self) -> bool {
        let written = self.terminal.backend_mut().leave().is_ok() && self.progress.wait(PATIENCE);
        let set = tcsetattr(&*self.input, OptionalActions::Now, &self.before).is_ok();
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        written && set
    }

    /// Gives it back until somebody continues the process; `group` stops all processes of the job, as the terminal would.
    ///
    /// # Errors
    ///
    /// When the terminal is gone afterwards.
    pub fn suspend(&mut self, group: bool) -> io::Result<()> {
        self.leave();
        suspend::stop(group)?;
        self.enter()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if TAKEN.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            self.leave();
        }
    }
}

/// Standard input if it is a terminal, else the terminal of the session.
fn input() -> io::Result<OwnedFd> {
    if io::stdin().is_terminal() {
        return io::stdin().as_fd().try_clone_to_owned();
    }
    Ok(File::options().read(true).write(true).open("/dev/tty")?.into())
}

fn size() -> Size {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Size { width: size.ws_col, height: size.ws_row },
        // A serial console does not know its size.
        _ => Size { width: 80, height: 24 },
    }
}

/// A message about a panic is to be read on the screen that was there before.
fn give_back_on_panic() {
    let next = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((input, before)) = taken {
            let mut out = io::stdout();
            let _ = out.write_all(Ansi::<Outlet>::leaving()).and_then(|()| out.flush());
            let _ = tcsetattr(&*input, OptionalActions::Now, &before);
        }
        next(info);
    }));
}
