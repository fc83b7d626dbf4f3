//! A headless Chromium of our own, spoken to through two pipes: file descriptors 3 and 4 of its process, a zero byte
//! after each message (`--remote-debugging-pipe`).

use std::{
    io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _, pipe},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{harness::Skip, picture::Picture};

/// What Chromium's programs are called; Debian's packages have the names of the first two.
const NAMES: [&str; 6] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
];
/// It starts at its ease, does nothing of its own accord, and runs as root too.
const OPTIONS: [&str; 13] = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
];
/// Where screenshots are kept, if anywhere.
const PICTURES: &str = "KVM_UTILS_PICTURES";
/// Whoever does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The browser, with one page.
pub struct Chromium {
    child: Child,
    to: PipeWriter,
    from: Receiver<Value>,
    session: String,
    number: u64,
    /// What it told without being asked, of the page.
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

/// What has gone wrong on a page, and what it has asked the network for.
#[derive(Debug, Default)]
pub struct Heard {
    /// Exceptions, messages on the console, what the policy refused.
    pub complaints: Vec<String>,
    /// Addresses.
    pub requests: Vec<String>,
}

/// Whether somebody wants to look at them.
pub fn pictures_are_kept() -> bool {
    std::env::var_os(PICTURES).is_some()
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    NAMES.iter().find_map(|name| {
        std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
    })
}

impl Chromium {
    /// Starts it.
    pub fn start() -> Result<Self, Skip> {
        let program = program().ok_or_else(|| {
            Skip("needs Chromium: apt-get install --no-install-recommends chromium-headless-shell".to_owned())
        })?;
        let profile = tempfile::tempdir().expect("a directory");
        let (its_in, to) = pipe().expect("a pipe");
        let (from, its_out) = pipe().expect("a pipe");
        let mut command = Command::new(program);
        command.args(OPTIONS).arg(format!("--user-data-dir={}", profile.path().display()));
        command.env("HOME", profile.path()).env_remove("DBUS_SESSION_BUS_ADDRESS").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Copies with higher numbers, so that neither is overwritten by the other's place.
        let its_in = rustix::io::fcntl_dupfd_cloexec(its_in, 10).expect("a descriptor");
        let its_out = rustix::io::fcntl_dupfd_cloexec(its_out, 10).expect("a descriptor");
        let (read, write) = (its_in.as_raw_fd(), its_out.as_raw_fd());
        // SAFETY: between fork and exec it makes system calls only, on descriptors that are open.
        unsafe {
            command.pre_exec(move || {
                if libc::dup2(read, 3) < 0 || libc::dup2(write, 4) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            })
        };
        let child = command.spawn().expect("Chromium starts");
        drop((its_in, its_out));
        let mut browser = Self {
            child,
            to,
            from: listen(from),
            session: String::new(),
            number: 0,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.ask("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.ask("Target.attachToTarget", &attach);
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), &json!({}));
        }
        browser.size(1400, 1000);
        Ok(browser)
    }

    /// Asks for something and waits for the answer.
    pub fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = Value::from(self.session.as_str());
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("Chromium listens");
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.hear(until, method);
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn hear(&mut self, until: Instant, what: &str) -> Value {
        match self.from.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => panic!("Chromium did not answer {what} within {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("Chromium ended at {what}: {:?}", self.child.try_wait())
            }
        }
    }

    /// Opens a file and waits until it has loaded.
    pub fn open(&mut self, file: &Path) {
        self.events.clear();
        self.ask("Page.navigate", &json!({"url": format!("file://{}", file.display())}));
        let until = Instant::now() + PATIENCE;
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.hear(until, "a page");
            self.events.push(event);
        }
    }

    /// What it has told since the page was opened.
    pub fn heard(&mut self) -> Heard {
        // What comes before the answer has been told by then.
        self.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))");
        let mut heard = Heard::default();
        for event in &self.events {
            let told = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Runtime.exceptionThrown" => heard.complaints.push(told["exceptionDetails"].to_string()),
                "Runtime.consoleAPICalled" => heard.complaints.push(told["args"].to_string()),
                "Log.entryAdded" => heard.complaints.push(told["entry"]["text"].to_string()),
                "Network.requestWillBeSent" => {
                    heard.requests.push(told["request"]["url"].as_str().unwrap_or_default().to_owned());
                }
                "Page.javascriptDialogOpening" => heard.complaints.push(format!("a dialog: {told}")),
                _ => {}
            }
        }
        heard
    }

    /// The value of an expression of the page's language.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.ask("Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// An expression that is a text.
    pub fn text(&mut self, expression: &str) -> String {
        match self.evaluate(expression) {
            Value::String(text) => text,
            other => panic!("{expression} is {other}"),
        }
    }

    /// An expression that is a number.
    pub fn number(&mut self, expression: &str) -> f64 {
        self.evaluate(expression).as_f64().unwrap_or_else(|| panic!("{expression} is no number"))
    }

    /// The size of the window, CSS pixels.
    pub fn size(&mut self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// `light` or `dark`.
    pub fn scheme(&mut self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.ask("Emulation.setEmulatedMedia", &features);
    }

    /// The whole page as a picture.
    pub fn picture(&mut self, name: &str) -> Picture {
        let height = self.number("document.documentElement.scrollHeight").min(6000.0);
        let width = self.number("innerWidth");
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let parameters = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let answer = self.ask("Page.captureScreenshot", &parameters);
        let data = answer["data"].as_str().expect("a picture");
        let png = BASE64_STANDARD.decode(data).expect("base64");
        if let Some(directory) = std::env::var_os(PICTURES) {
            std::fs::write(Path::new(&directory).join(format!("{name}.png")), &png).expect("a file");
        }
        Picture::decode(&png)
    }

    /// Presses and releases a key.
    pub fn key(&mut self, key: &str) {
        let code = match key {
            "ArrowLeft" => 37,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            "Home" => 36,
            "Enter" => 13,
            "Tab" => 9,
            _ => 0,
        };
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.ask("Input.dispatchKeyEvent", &event);
        }
    }

    /// Moves the pointer to a place of the page, CSS pixels from the window's corner.
    pub fn point(&mut self, x: f64, y: f64) {
        self.ask("Input.dispatchMouseEvent", &json!({"type": "mouseMoved", "x": x, "y": y}));
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // All its processes: it leads a group of its own.
        // SAFETY: takes no pointers.
        unsafe { libc::kill(-self.child.id().cast_signed(), libc::SIGKILL) };
        let _ = self.child.wait();
    }
}

/// Messages as they come, until the pipe closes.
fn listen(from: PipeReader) -> Receiver<Value> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut bytes = Vec::new();
        while from.read_until(0, &mut bytes).is_ok_and(|n| n > 0) {
            bytes.pop();
            let message = serde_json::from_slice(&bytes).expect("JSON");
            bytes.clear();
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}
