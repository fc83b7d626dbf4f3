//! The page asks nobody for anything, complains of nothing, and runs nothing but its own script.

use kvm_utils::model::History;

use super::{
    chromium::{self, Chromium},
    fixture,
    harness::{Outcome, Test},
    pages::{self, HOSTILE, Pages},
};

pub const TESTS: &[Test] = &[
    ("safety::every_page_loads_without_a_complaint_or_a_request", loads),
    ("safety::nothing_in_a_name_is_run", names),
    ("safety::the_policy_refuses_what_is_not_the_pages_own", policy),
];

fn loads() -> Outcome {
    let mut browser = Chromium::start()?;
    let pages = Pages::new();
    let bare = |mut histories: Vec<History>| {
        histories.iter_mut().for_each(|history| history.intervals.clear());
        histories
    };
    let all: [(&str, Vec<History>); 9] = [
        ("one", pages::one().to_vec()),
        ("several", pages::several().to_vec()),
        ("many", pages::many().to_vec()),
        ("doubtful", pages::doubtful()),
        ("hostile", pages::hostile()),
        ("strange", pages::alone(fixture::hostile())),
        ("empty", pages::alone(fixture::empty())),
        ("bare", bare(pages::several().to_vec())),
        ("nothing", Vec::new()),
    ];
    for (name, histories) in all {
        let file = pages.write(name, &histories);
        browser.open(&file);
        for (width, scheme) in [(1400, "light"), (375, "dark")] {
            browser.size(width, 1000);
            browser.scheme(scheme);
            if chromium::pictures_are_kept() {
                browser.picture(&format!("{name}-{width}-{scheme}"));
            }
        }
        // Whatever can be chosen.
        browser.evaluate("kvmUtilsReport.data.scopes.forEach((_, scope) => kvmUtilsReport.choose(scope))");
        let heard = browser.heard();
        assert!(heard.complaints.is_empty(), "{name}: {:?}", heard.complaints);
        assert_eq!(heard.requests, [format!("file://{}", file.display())], "{name}");
    }
    Ok(())
}

fn names() -> Outcome {
    let mut browser = Chromium::start()?;
    let pages = Pages::new();
    let count = "document.querySelectorAll('script, style, img, title').length";
    browser.open(&pages.write("tame", pages::several()));
    let elements = browser.number(count);
    browser.open(&pages.write("hostile", &pages::hostile()));
    // The page's script redraws and moves texts about: that, too, must not make markup of them.
    browser.evaluate("kvmUtilsReport.data.scopes.forEach((_, scope) => kvmUtilsReport.choose(scope))");
    browser.evaluate("document.querySelectorAll('th button').forEach((button) => button.click())");
    assert_eq!(browser.evaluate("window.owned === undefined"), true);
    assert_eq!(browser.number(count), elements);
    // It is there to be read, as it is.
    let text = browser.text("document.querySelector('#vms tbody th').textContent");
    assert!(text.ends_with(HOSTILE), "{text}");
    let fact = browser.text("document.querySelector('#facts dd').textContent");
    assert_eq!(fact, format!("value {HOSTILE}"));
    let scope = browser.text("kvmUtilsReport.data.scopes[1]");
    assert!(scope.contains(HOSTILE), "{scope}");
    assert!(browser.heard().complaints.is_empty());
    Ok(())
}

fn policy() -> Outcome {
    let mut browser = Chromium::start()?;
    let file = Pages::new();
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    server.set_nonblocking(true).expect("not blocking");
    let address = server.local_addr().expect("an address");
    browser.open(&file.write("one", pages::one()));
    // Should something get into the page all the same, it is not run and loads nothing.
    browser.evaluate(&format!(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"http://{address}/x\" onerror=\"owned=1\">');
         document.body.append(Object.assign(document.createElement('script'), {{ textContent: 'owned=2' }}));
         fetch('http://{address}/').catch(() => {{}});
         new Image().src = 'http://{address}/y';
         0"
    ));
    let heard = browser.heard();
    assert_eq!(browser.evaluate("window.owned === undefined"), true);
    assert!(heard.complaints.iter().any(|c| c.contains("Content Security Policy")), "{heard:?}");
    assert!(heard.complaints.iter().any(|c| c.contains("script-src")), "{heard:?}");
    assert!(
        heard.complaints.iter().any(|c| c.contains("connect-src") || c.contains("default-src")),
        "{heard:?}"
    );
    assert!(server.accept().is_err(), "it was asked for something");
    Ok(())
}
