//! The loop: intervals, keys and signals change the state, and the screen shows it.

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval_at},
};

use super::{
    input::{Event, Input},
    source::Source,
    terminal::Screen,
};
use crate::{
    cmd::{
        printer::abilities,
        trace::{HOUSEKEEPING, at},
    },
    error,
    view::tui::{Action, Look, State},
};

/// The first numbers come after this, however long intervals are.
const FIRST: Duration = Duration::from_secs(1);

/// How often and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Time between updates.
    pub interval: Duration,
    /// Until the end, if it ends by itself.
    pub duration: Option<Duration>,
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Somebody or something wanted it to.
    Done,
    /// The terminal is gone.
    Lost,
}

/// Shows a source on the terminal until it is told to end; the terminal is as before then.
///
/// # Errors
///
/// Those of the source; when there is no terminal.
pub fn show(source: &mut dyn Source, pace: &Pace) -> anyhow::Result<End> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(source, pace))
}

async fn run(source: &mut dyn Source, pace: &Pace) -> anyhow::Result<End> {
    // Signals first: one that comes while the terminal is ours must find it given back.
    let mut signals = Signals::new()?;
    let (color, unicode) = abilities();
    let mut screen = Screen::take(Look { color, unicode }).context("cannot take the terminal")?;
    error::hold();
    let end = watch(source, pace, &mut signals, &mut screen).await;
    let given_back = screen.leave();
    if given_back {
        error::release();
    }
    match end? {
        End::Done if given_back => Ok(End::Done),
        _ => Ok(End::Lost),
    }
}

async fn watch(
    source: &mut dyn Source,
    pace: &Pace,
    signals: &mut Signals,
    screen: &mut Screen,
) -> anyhow::Result<End> {
    let mut input = Input::start(screen.input())?;
    let mut state = State::new(source.offers());
    let began = Instant::now();
    let first = began + pace.interval.min(FIRST);
    let mut ticks = interval_at(first.into(), pace.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut housekeeping = interval_at((began + HOUSEKEEPING).into(), HOUSEKEEPING);
    housekeeping.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = pace.duration.map(|duration| began + duration);
    let progress = screen.progress();
    loop {
        // A terminal that is gone is no error: there is nobody to tell.
        let Ok(drawn) = screen.draw(&mut state) else { return Ok(End::Lost) };
        let mut acted = None;
        // What needs no new picture is done here.
        loop {
            tokio::select! {
                biased;
                told = signals.received() => match told {
                    Told::End => return Ok(End::Done),
                    Told::HangUp => return Ok(End::Lost),
                    Told::Stop => acted = Some(Does::Stop { group: false }),
                    Told::GoOn => acted = Some(Does::DrawAnew),
                    Told::Resize => {}
                },
                event = input.next() => {
                    acted = typed(&mut state, event);
                    // Of several keys in the line only what comes out of all is drawn.
                    while acted.is_none() && let Some(event) = input.ready() {
                        acted = typed(&mut state, event);
                    }
                }
                _ = ticks.tick() => state.update(source.poll()?),
                () = at(end) => return Ok(End::Done),
                () = progress.free(), if !drawn => {}
                _ = housekeeping.tick() => {
                    if source.housekeep()? {
                        return Ok(End::Done);
                    }
                    continue;
                }
            }
            break;
        }
        let screen_is_ours = match acted {
            None => Ok(()),
            Some(Does::End(end)) => return Ok(end),
            Some(Does::Stop { group }) => screen.suspend(group),
            Some(Does::DrawAnew) => screen.enter(),
            Some(Does::Start(noun)) => start(source, noun, &mut state, screen),
        };
        if screen_is_ours.is_err() {
            return Ok(End::Lost);
        }
    }
}

/// What is to be done beyond drawing.
enum Does {
    End(End),
    Stop { group: bool },
    DrawAnew,
    Start(&'static str),
}

fn typed(state: &mut State, event: Event) -> Option<Does> {
    match event {
        Event::Lost => Some(Does::End(End::Lost)),
        Event::Key(key) => state.key(key).map(|action| match action {
            Action::Quit => Does::End(End::Done),
            Action::Suspend => Does::Stop { group: true },
            Action::Redraw => Does::DrawAnew,
            Action::Start(noun) => Does::Start(noun),
        }),
    }
}

/// Attaching takes a moment, in which the screen tells what it waits for.
fn start(
    source: &mut dyn Source,
    noun: &'static str,
    state: &mut State,
    screen: &mut Screen,
) -> io::Result<()> {
    state.say(format!("starting {noun} ..."));
    screen.draw(state)?;
    let before = error::held().len();
    source.start(noun);
    state.offer(source.offers());
    let failed = state.offers().iter().any(|offer| offer.noun == noun && offer.failure.is_some());
    let heard = error::held().split_off(before).pop();
    state.say(match heard {
        _ if failed => format!("{noun} could not be started"),
        Some(message) => message,
        None => format!("{noun} is attached"),
    });
    Ok(())
}

/// What a signal asks for.
enum Told {
    End,
    HangUp,
    Stop,
    GoOn,
    Resize,
}

struct Signals {
    end: [Signal; 3],
    hang_up: Signal,
    stop: Signal,
    go_on: Signal,
    resize: Signal,
}

impl Signals {
    /// From now on.
    fn new() -> io::Result<Self> {
        let of = |number| signal(SignalKind::from_raw(number));
        Ok(Self {
            end: [of(libc::SIGINT)?, of(libc::SIGTERM)?, of(libc::SIGQUIT)?],
            hang_up: of(libc::SIGHUP)?,
            stop: of(libc::SIGTSTP)?,
            go_on: of(libc::SIGCONT)?,
            resize: of(libc::SIGWINCH)?,
        })
    }

    async fn received(&mut self) -> Told {
        let [interrupt, terminate, quit] = &mut self.end;
        tokio::select! {
            _ = interrupt.recv() => Told::End,
            _ = terminate.recv() => Told::End,
            _ = quit.recv() => Told::End,
            _ = self.hang_up.recv() => Told::HangUp,
            _ = self.stop.recv() => Told::Stop,
            _ = self.go_on.recv() => Told::GoOn,
            _ = self.resize.recv() => Told::Resize,
        }
    }
}
